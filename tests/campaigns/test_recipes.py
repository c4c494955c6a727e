"""Recipes side by side at a small size: the table, and a second start that trains nothing."""

from pathlib import Path

import pytest

from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.runs.reading import read_json
from tests.campaigns import recipes
from tests.helpers.training_runs import TINY


@pytest.mark.slow
def test_each_recipe_is_a_row_and_is_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = tmp_path / "videos"
    make_videos(videos, 6, seed=0, size=32, frames=10, classes=("moves left", "moves right"))
    for path in sorted(videos.rglob("*.mp4")):
        path.rename(path.with_name(f"seq{int(path.stem[-3:]) % 3}_{path.name}"))
    words = [
        str(videos), "--only", "today", "no smoothing", "--folds", "2", "--output",
        str(tmp_path / "out"), "--", *TINY, "--data.sampling", "dense", "--epochs", "1",
        "--schedule.warmup-epochs", "0", "--evaluation.spatial-crops", "1",
    ]  # fmt: skip
    rows = recipes.main(words)
    assert [row["recipe"] for row in rows] == ["today", "no smoothing"]
    for row in rows:
        found = read_json(tmp_path / "out" / row["recipe"] / "cross_validation.json")
        assert isinstance(found, dict)
        assert row["f1_macro"] == found["metrics"]["f1_macro"]
        assert row["accuracy_interval"] == found["intervals"]["accuracy"]
        assert row["ece"] == found["ece"] and row["groups"] == 3
        assert 0 < row["cpu_minutes_a_fold"] < 5 and not row["cpu_is_partial"]
    text = (tmp_path / "out" / "recipes.md").read_text()
    assert text.count("\n") == 4 and "| no smoothing |" in text
    monkeypatch.setattr(recipes, "start", lambda _: pytest.fail("it was trained again"))
    assert recipes.main(words) == rows
    with pytest.raises(SystemExit, match="trained with other flags"):
        recipes.main([*words, "--epochs", "2"])


def test_a_recipe_that_is_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        recipes.main(["demo", "--only", "new"])
    assert "there is no recipe new; there are today" in capsys.readouterr().err


def test_shuffled_labels_stay_within_their_recording(tmp_path: Path) -> None:
    paths = [f"{label}/seq{n}_{label}.mp4" for n in range(4) for label in ("a", "b", "c")]
    for path in paths:
        (tmp_path / "videos" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / path).touch()
    lists = [
        recipes.shuffled_list(tmp_path / "videos", tmp_path, draw).read_text().splitlines()
        for draw in (0, 1, 0)
    ]
    assert lists[0] == lists[2] != lists[1]
    rows = [line.split(",") for line in lists[0][1:]]
    assert sorted(path for path, _ in rows) == sorted(paths)
    for n in range(4):
        own = [label for path, label in rows if f"seq{n}_" in path]
        assert sorted(own) == ["a", "b", "c"]
    assert any(path.partition("/")[0] != label for path, label in rows)
