"""The shares of maps on the demo's disc, at a small size."""

import json
from pathlib import Path

import numpy as np
import pytest

from slowfast_dist.data.synthetic import DEMO_SEED, MOTIONS, make_videos
from slowfast_dist.runs.best_model import read_best
from tests.campaigns.explain import main, read_clip, shares
from tests.helpers.small_model import write_model


def test_the_disc_is_where_the_frames_change(tmp_path: Path) -> None:
    models = write_model(tmp_path / "models", tuple(MOTIONS))
    make_videos(tmp_path / "videos", 1, DEMO_SEED, classes=("moves left",))
    path = tmp_path / "videos" / "moves left" / "clip_000.mp4"
    frames, label, cover = read_clip(path, read_best(models))
    assert label == list(MOTIONS).index("moves left")
    change = np.abs(np.diff(frames.astype(float), axis=0)).sum(axis=3)
    either = np.maximum(cover[1:], cover[:-1])
    assert (change * (either > 0)).sum() > 0.9 * change.sum() and either.mean() < 0.6
    on = shares([(frames, label, cover)], lambda *_: cover)
    assert on["mass"] > 0.95 and on["over_half"] == 1 and on["mass"] > on["chance"] > 0.2
    even = shares([(frames, label, cover)], lambda *_: np.ones_like(cover))
    assert even["mass"] == pytest.approx(even["chance"], abs=1e-3)


@pytest.mark.slow
def test_it_is_scored(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_model(tmp_path / "models", tuple(MOTIONS))
    make_videos(tmp_path / "videos", 1, DEMO_SEED, classes=("moves left",))
    (tmp_path / "predictions").mkdir()
    row = "path,label,prediction\nmoves left/clip_000.mp4,moves left,moves left\n"
    (tmp_path / "predictions" / "val_best.csv").write_text(row)
    found = main(["--run", str(tmp_path), "--videos", str(tmp_path / "videos"), "--random", "1"])
    assert json.loads(capfd.readouterr().out.splitlines()[-1]) == found
    assert found["trained"]["told"]["clips"] == found["random_0"]["told"]["clips"] == 1
