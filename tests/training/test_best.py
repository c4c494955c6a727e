"""Which epoch is the best: better by the monitored metric, and with outputs that are numbers."""

from pathlib import Path
from typing import Any

import pytest

from slowfast_dist.config.training import CheckpointConfig, Config
from slowfast_dist.data.loaders import VideoSet
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.training.best import BestModelTracker, Run, macro_value_now
from tests.helpers.model_folders import save_models, small_config


def best_so_far(tmp_path: Path, monitor: str, mode: Any, value: float) -> BestModelTracker:
    """That of a run whose models/ holds an epoch with that value."""
    save_models(tmp_path / "models", ("a", "b"), small_config(tmp_path))
    config = Config(checkpoint=CheckpointConfig(monitor=monitor, mode=mode))
    state = {"monitor": monitor, "mode": mode, "value": value}
    none: Any = None
    videos: VideoSet = none
    return BestModelTracker(Run(config, RunFolder(tmp_path), videos, {}), state)


def test_only_a_better_value_beats_the_best(tmp_path: Path) -> None:
    least = best_so_far(tmp_path, "val/loss", "min", 1.0)
    found = [least.is_worse_than({"val/loss": value}) for value in (0.9, 1.0, 1.1, float("nan"))]
    assert found == [True, False, False, False]
    most = best_so_far(tmp_path, "train/accuracy", "max", 0.5)
    assert most.is_worse_than({"train/accuracy": 0.6})  # an epoch without a validation
    assert not most.is_worse_than({"val/accuracy": 0.9})


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_model_whose_outputs_are_no_numbers_is_never_the_best(
    tmp_path: Path, loss: float
) -> None:
    best = best_so_far(tmp_path, "val/top5_accuracy", "max", 0.5)
    assert best.is_worse_than({"val/top5_accuracy": 1.0, "val/loss": 2.0})
    assert not best.is_worse_than({"val/top5_accuracy": 1.0, "val/loss": loss})


def test_the_best_of_an_older_version_is_compared_by_the_new_meaning_of_macro() -> None:
    """2 of 6 classes in validation, all right: 1/3 there, 1.0 here, which no worse epoch beats."""
    state = {"monitor": "val/f1_macro", "mode": "max", "value": 1 / 3, "epoch": 2}
    matrix = [[0] * 6 for _ in range(6)]
    matrix[1][1], matrix[4][4] = 3, 2
    epoch = {"kind": "epoch", "epoch": 2, "val/f1_macro": 1 / 3}
    classes = {"kind": "classes", "epoch": 2, "confusion": matrix}
    other = {"kind": "classes", "epoch": 1, "confusion": [[0] * 6] * 6}
    assert macro_value_now(state, [other, epoch, classes]) == state | {"value": 1.0}
    new = epoch | {"val/macro_classes": 2, "val/f1_macro": 0.9}
    assert macro_value_now(state, [new, classes]) == state
    assert macro_value_now(state, [epoch]) == state  # nothing tells
    loss = state | {"monitor": "val/loss"}
    assert macro_value_now(loss, [epoch, classes]) == loss
    assert macro_value_now(None, [epoch, classes]) is None
