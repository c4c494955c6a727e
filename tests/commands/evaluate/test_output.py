"""Where evaluate's results go: over no other evaluation's, and over no file of a user's."""

import json
from pathlib import Path

import pytest

from slowfast_dist.commands.evaluate.output import make_output
from slowfast_dist.config.errors import UserError


def test_an_evaluation_replaces_its_own_alone(tmp_path: Path) -> None:
    models, views = tmp_path / "models", {"temporal_views": 1, "spatial_crops": 1}

    def place(data: str, **other: int) -> str:
        """Where the results go; they are written there."""
        asked = views | other
        output = make_output(models, tmp_path / data, "val-1", None, asked)
        content = {"data": str(tmp_path / data), "accuracy": 1.0, **asked}
        (output / "metrics.json").write_text(json.dumps(content))
        return output.name

    assert place("a/val-1") == "evaluation-val-1"
    assert place("b/val-1") == "evaluation-val-1-2"
    assert place("a/val-1", spatial_crops=3) == "evaluation-val-1-3"
    assert place("a/val-1") == "evaluation-val-1"  # what is asked again is written anew
    assert place("b/val-1") == "evaluation-val-1-2"


@pytest.mark.parametrize("name", ["metrics.json", "predictions.csv", "unreadable_videos.csv"])
def test_what_no_evaluation_wrote_is_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"accuracy": "mine"}')
    with pytest.raises(UserError, match=f"--output .*: holds a {name} that no evaluation wrote"):
        make_output(tmp_path / "models", tmp_path / "val", "val", tmp_path, {})
