"""What is beside predictions of their neighbours: only what is of the same predictions counts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.metrics.summary import Predictions
from slowfast_dist.metrics.task import ONE_LABEL
from slowfast_dist.runs.predictions import (
    find_predictions,
    neighbours_of,
    write_neighbours,
    write_predictions,
)

NAMES = [f"{number}.mp4" for number in range(4)]
NEAREST = np.array([[1, 2], [0, -1], [-1, -1], [0, 1]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Predictions of four videos and who is near to each."""
    rng = np.random.default_rng(0)
    labels, logits = np.array([0, 1, 2, 0]), rng.normal(size=(4, 3))
    path = tmp_path / "val_best.csv"
    write_neighbours(path, ONE_LABEL.probabilities(logits), NEAREST)
    write_predictions(path, NAMES, labels, logits, "abc")
    return path


def nearest(path: Path) -> np.ndarray | None:
    found = find_predictions(path)
    assert found is not None
    return found.nearest


def test_they_are_read_as_they_were_written(path: Path) -> None:
    found = nearest(path)
    assert found is not None
    assert found[:, :2].tolist() == NEAREST.tolist() and (found[:, 2:] == -1).all()


def test_those_of_other_predictions_do_not_count(path: Path) -> None:
    text = path.read_text()
    write_predictions(path, NAMES, np.array([0, 1, 2, 0]), np.eye(4, 3), "abc")
    assert nearest(path) is None
    path.write_text(text)
    assert nearest(path) is not None
    neighbours_of(path).unlink()
    assert nearest(path) is None


@pytest.mark.parametrize(
    "rows", [None, 1, {}, [[1], [0]], [[4], [], [], []], [[-1], [], [], []], [["1"], [], [], []],
             [[True], [], [], []], [1, [], [], []], [[1] * 11, [], [], []]], ids=str,
)  # fmt: skip
def test_damage_counts_for_nothing(path: Path, rows: Any) -> None:
    beside = neighbours_of(path)
    content = json.loads(beside.read_text())
    beside.write_text(json.dumps(content | {"nearest": rows}))
    assert nearest(path) is None
    beside.write_bytes(b"\0" * 100)
    assert nearest(path) is None


def test_parts_are_joined_each_with_neighbours_of_its_own(path: Path) -> None:
    part = find_predictions(path)
    assert part is not None
    bare = Predictions.from_probabilities(NAMES, part.labels, part.probabilities, part.classes)
    assert Predictions.joined([bare, bare]).nearest is None
    whole = Predictions.joined([part, bare, part])
    assert whole.nearest is not None
    expected = np.where(NEAREST < 0, -1, NEAREST + 8)
    assert whole.nearest[:4, :2].tolist() == NEAREST.tolist()
    assert (whole.nearest[4:8] == -1).all()
    assert whole.nearest[8:, :2].tolist() == expected.tolist()
    assert whole.names == NAMES * 3 and whole.labels.tolist() == [0, 1, 2, 0] * 3
