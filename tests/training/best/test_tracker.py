"""Which epoch is the best: better by the monitored metric, and with outputs that are numbers."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slowfast_dist.config.errors import RunError
from slowfast_dist.config.training import CheckpointConfig, Config
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.training.best.divergence import Divergence
from slowfast_dist.training.best.tracker import (
    BestModelTracker,
    Run,
    best_so_far,
    bring_best,
    macro_value_now,
)
from tests.helpers.model_folders import save_models, small_config


def tracker_of(
    tmp_path: Path, monitor: str, mode: Any, value: float, **settings: Any
) -> BestModelTracker:
    """That of a run whose models/ holds an epoch with that value."""
    save_models(tmp_path / "models", ("a", "b"), small_config(tmp_path))
    config = Config(checkpoint=CheckpointConfig(monitor=monitor, mode=mode), **settings)
    state = {"monitor": monitor, "mode": mode, "value": value}
    none: Any = None
    videos: VideoSet = none
    return BestModelTracker(Run(config, RunFolder(tmp_path), videos, {}), state)


def test_only_a_better_value_beats_the_best(tmp_path: Path) -> None:
    least = tracker_of(tmp_path, "val/loss", "min", 1.0)
    found = [least.is_worse_than({"val/loss": value}) for value in (0.9, 1.0, 1.1, float("nan"))]
    assert found == [True, False, False, False]
    most = tracker_of(tmp_path, "train/accuracy", "max", 0.5)
    assert most.is_worse_than({"train/accuracy": 0.6})  # an epoch without a validation
    assert not most.is_worse_than({"val/accuracy": 0.9})


def test_in_a_fold_the_last_validated_epoch_is_the_best(tmp_path: Path) -> None:
    """Which of two is better, its videos must not decide: they are what is scored."""
    fold = tracker_of(tmp_path, "val/loss", "min", 1.0, folds=5, fold=2)
    found = [fold.is_worse_than({"val/loss": value}) for value in (0.9, 1.1, float("nan"))]
    assert found == [True, True, False]
    assert not fold.is_worse_than({"train/loss": 0.5})  # an epoch without a validation


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 9.9e11, 104.0])
def test_a_model_whose_outputs_are_no_numbers_is_never_the_best(
    tmp_path: Path, loss: float
) -> None:
    best = tracker_of(tmp_path, "val/top5_accuracy", "max", 0.5)
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


def old_run(root: Path) -> tuple[Path, dict[str, Any]]:
    """Of a run of an older version, whose epoch 2 was the best of 2 of 6 classes, all of them
    right: its checkpoint, and what that tells of the best."""
    state = {"monitor": "val/f1_macro", "mode": "max", "value": 1 / 3, "epoch": 2, "global_step": 6}
    matrix = [[0] * 6 for _ in range(6)]
    matrix[1][1], matrix[4][4] = 3, 2
    save_models(root / "models", ("a", "b"), small_config(root))
    path = root / "models" / "best_model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | state))
    at = {"epoch": 2, "global_step": 6}
    rows = [{"kind": "epoch", **at, "val/f1_macro": 1 / 3},
            {"kind": "classes", **at, "confusion": matrix}]  # fmt: skip
    (root / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return root / "checkpoints" / "step_00000006", state


def goes_on_in(root: Path, state: dict[str, Any]) -> Run:
    checkpoint = CheckpointConfig(monitor=state["monitor"], mode=state["mode"])
    none: Any = None
    return Run(Config(checkpoint=checkpoint), RunFolder(root), none, {})


def test_the_old_best_counts_by_the_new_meaning_in_another_folder_too(tmp_path: Path) -> None:
    checkpoint, state = old_run(tmp_path / "old")
    best = best_so_far(checkpoint, state)
    assert best == state | {"value": 1.0}
    run = goes_on_in(tmp_path / "new", state)
    assert bring_best(checkpoint, best, run) is None  # the converted value is no other model
    tracker = BestModelTracker(run, best)
    assert tracker.state == best
    assert not tracker.is_worse_than({"val/f1_macro": 0.9, "val/loss": 1.0})
    # From the new folder's checkpoint into a third one: no rows of its own tell the value.
    again = tmp_path / "new" / "checkpoints" / "step_00000009"
    assert best_so_far(again, best) == best
    assert bring_best(again, best, goes_on_in(tmp_path / "third", state)) is None
    later = best | {"epoch": 3, "global_step": 9}
    line = bring_best(checkpoint, later, goes_on_in(tmp_path / "fourth", state))
    assert line is not None and "no longer holds the best model" in line


def test_a_loss_that_is_absurd_is_never_the_best(tmp_path: Path) -> None:
    """Also as the first of a run, and as a loss of the training alone."""
    best = tracker_of(tmp_path, "train/loss", "min", 1e9)
    assert not best.is_worse_than({"train/loss": 1e8})
    best.state = None
    assert not best.is_worse_than({"train/loss": 1e8, "val/loss": 1.0})
    assert best.is_worse_than({"train/loss": 100.0, "val/loss": 100.0})


def test_a_run_whose_last_loss_is_absurd_does_not_finish(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tracker_of(tmp_path, "val/loss", "min", 1.0).run
    run = replace(run, videos=SimpleNamespace(classes=("a", "b")))  # type: ignore[arg-type]
    divergence = Divergence(run, None)
    with caplog.at_level("WARNING", "slowfast_dist"):
        for epoch, loss in enumerate((2.0, 1e9, float("nan"), 3.0), 1):
            divergence.judge(epoch, loss)
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "epoch 2: val/loss is 1e+09"
    ]
    divergence.raise_if_diverged({"epoch": 1})
    divergence.judge(5, float("nan"))
    resumed = Divergence(run, json.loads(json.dumps(divergence.state)))
    with pytest.raises(RunError) as error:
        resumed.raise_if_diverged({"epoch": 1})
    line = str(error.value)
    assert "val/loss of epoch 5, the last, is nan, where guessing gives 0.69" in line
    assert "models/ holds the model of epoch 1" in line and "--optimizer.lr" in line
