"""The comparison of pretrained and not at a small size; a second start trains nothing."""

from pathlib import Path

import pytest

from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.runs.reading import read_json
from tests.campaigns import pretrain, recipes
from tests.helpers.training_runs import TINY

SMALL = (
    *TINY, "--data.sampling", "dense", "--epochs", "1", "--schedule.warmup-epochs", "0",
    "--evaluation.spatial-crops", "1",
)  # fmt: skip


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Of ten recordings, each with both classes."""
    root = tmp_path / "videos"
    make_videos(root, 10, seed=0, size=32, frames=10, classes=("moves left", "moves right"))
    for path in sorted(root.rglob("*.mp4")):
        path.rename(path.with_name(f"seq{int(path.stem[-3:]) % 10:02d}_{path.name}"))
    return root


def test_nothing_that_is_held_out_is_seen(videos: Path) -> None:
    parts = pretrain.dealt(videos, 0)
    names = [{path.partition("/")[2][:5] for path in part} for part in parts]
    assert names == [{f"seq{n:02d}", f"seq{n + 5:02d}"} for n in range(5)]
    assert pretrain.dealt(videos, 1)[1:] == parts[:4]


@pytest.mark.slow
def test_both_are_trained_once_on_each_part(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = " ".join(SMALL)
    words = [str(videos), "--pretrain", flags, "--train", flags, "--output", str(tmp_path / "out")]
    rows = pretrain.main(words)
    assert [(row["part"], row["clips"]) for row in rows] == [(1, 4), (2, 4), (3, 4)]
    unlabelled = sorted((tmp_path / "out" / "unlabelled").iterdir())
    assert len(unlabelled) == 12 and not [p for p in unlabelled if "seq00" in p.name]
    for row in rows:
        for way in pretrain.WAYS:
            run = tmp_path / "out" / f"{way}_{row['part']}"
            best = read_json(run / "models" / "best_model.json")
            assert isinstance(best, dict)
            assert row[way]["f1_macro"] == best["metrics"]["val/f1_macro"]
            assert best["metrics"]["val/videos"] == 8
    text = (tmp_path / "out" / "pretrain.md").read_text()
    assert "| 3 (4 clips) |" in text and "\nf1_macro: " in text
    monkeypatch.setattr(recipes, "start", lambda _: pytest.fail("it was trained again"))
    assert pretrain.main(words) == rows
