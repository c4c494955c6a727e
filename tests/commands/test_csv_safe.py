"""--csv-safe: what a spreadsheet would compute comes as text; files that we read ourselves stay."""

import csv
from pathlib import Path

import numpy as np
import pytest

from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.runs.folder import write_unreadable
from slowfast_dist.runs.predictions import read_predictions, write_predictions
from slowfast_dist.system.text import for_spreadsheets
from tests.helpers.model_folders import save_models, small_config
from tests.helpers.training_runs import launch

CLASSES = ("=HYPERLINK(1)", "@x", "plain")
NAMES = ["=a/1.mp4", "+b.mp4", "-c.mp4", "@d.mp4", "\te.mp4", "g=+-@.mp4", "'h.mp4"]


def cells(path: Path) -> list[str]:
    with open(path, encoding="utf-8", newline="") as file:
        return [cell for row in csv.reader(file) for cell in row]


def test_names_that_a_spreadsheet_computes_have_an_apostrophe(tmp_path: Path) -> None:
    path, count = tmp_path / "predictions.csv", len(NAMES)
    labels, logits = np.arange(count) % 3, np.eye(count, 3)
    write_predictions(path, NAMES, labels, logits, CLASSES)
    found = read_predictions(path)  # what a program reads is as it was
    assert list(found.names) == NAMES and list(found.classes) == list(CLASSES)
    assert not all(cell == for_spreadsheets(cell) for cell in cells(path))
    write_predictions(path, NAMES, labels, logits, CLASSES, safe=True)
    shown = cells(path)
    assert all(cell == for_spreadsheets(cell) for cell in shown)
    assert {"'=a/1.mp4", "'\te.mp4", "g=+-@.mp4", "'h.mp4", "'@x", "plain"} <= set(shown)
    assert "prob_=HYPERLINK(1)" in "".join(shown)
    write_unreadable(tmp_path / "unreadable.csv", [("=a", "-why", "probe"), ("=a", "", "")], True)
    assert cells(tmp_path / "unreadable.csv")[3:] == ["'=a", "'-why", "probe"]


@pytest.mark.slow
def test_evaluate_and_predict_write_such_files(tmp_path: Path) -> None:
    models, videos = tmp_path / "models", tmp_path / "videos"
    models.mkdir()
    save_models(models, CLASSES, small_config(tmp_path))
    make_videos(videos, 2, seed=0, size=32, frames=12, classes=("moves left", "moves right"))
    for name, label in zip(("moves left", "moves right"), CLASSES, strict=False):
        (videos / name).rename(videos / label)
    (videos / CLASSES[1] / "broken.mp4").write_bytes(b"no video")
    for number, flag in enumerate([(), ("--csv-safe",)]):
        out = tmp_path / str(number)
        done = launch(
            "-m", "slowfast_dist", "evaluate", models, "--data", videos, "--output", out,
            "--num-workers", "0", *flag,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert ("7 names have an apostrophe" in done.stdout) == bool(flag)  # 5 videos, 2 classes
        video = sorted((videos / CLASSES[0]).iterdir())[0]
        done = launch(
            "-m", "slowfast_dist", "predict", models, video, "--segments", "--output", out, *flag
        )
        assert done.returncode == 0, done.stderr
        for path in (out / "predictions.csv", out / "unreadable_videos.csv"):
            assert all(cell == for_spreadsheets(cell) for cell in cells(path)) == bool(flag), path
        [segments] = out.glob("*.segments.csv")
        assert all(cell == for_spreadsheets(cell) for cell in cells(segments)) or not flag
