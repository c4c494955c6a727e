"""One trial: its folds one after the other, each an ordinary run, and the score after each."""

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from slowfast_dist.commands.cross_validate.command import config_of
from slowfast_dist.commands.cross_validate.plan import Training, all_trainings
from slowfast_dist.commands.cross_validate.result import write_result
from slowfast_dist.config.errors import RunError
from slowfast_dist.config.training import Config
from slowfast_dist.metrics.summary import Predictions, summarise
from slowfast_dist.runs.best_model import DESCRIPTION
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.predictions import read_predictions
from slowfast_dist.runs.run import read_split_rows
from slowfast_dist.system.files import atomic_write
from slowfast_dist.system.log import logger
from slowfast_dist.training.run import run_training

Ended = Literal["complete", "pruned", "stopped"]

ANSWERS = "answers.npz"
"""Of a complete trial's folder: labels, predictions and groups of all videos as numbers, so that
the page of many trials reads no table of probabilities."""


def train_folds(
    config: Config, folds: int, keep_weights: bool, goes_on: Callable[[float, int], bool]
) -> tuple[Ended, float]:
    """Train ``folds`` folds in the folder of ``config``, where it began before from there on.

    After each, ``goes_on`` is told the macro-F1 of all out-of-fold predictions so far and the
    number of folds, and says whether the next one is worth it. Returns how it ended, and the last
    such score. Raises UserError and RunError as `run_training`.
    """
    trainings = all_trainings(config, folds)
    value = 0.0
    for done, training in enumerate(trainings, 1):
        with _quiet():
            summary = run_training(config_of(training, replace(config, resume="auto")))
        if summary["status"] != "finished":
            return "stopped", value
        value = _score(trainings[:done])
        if not keep_weights:
            _delete_weights(RunFolder(training.folder))
        if not goes_on(value, done) and done < folds:
            return "pruned", value
    with _quiet():
        write_result(config.output_dir, trainings, folds)
    _write_answers(config.output_dir / ANSWERS, trainings)
    return "complete", value


@contextmanager
def _quiet() -> Iterator[None]:
    """Of tens of trainings warnings alone are shown; each keeps its lines in its logs/."""
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)


def _delete_weights(run: RunFolder) -> None:
    """Checkpoints and all of models/ but its description: the pages of the fold that are written
    later show the temperature, and how the model was made."""
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    for path in run.models.glob("*"):
        if path.name != DESCRIPTION:
            with suppress(OSError):
                path.unlink()


def _read(training: Training) -> Predictions:
    path = RunFolder(training.folder).predictions
    try:
        return read_predictions(path)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{training.folder}: its predictions cannot be read ({error}): delete the folder, and "
            "start again, which trains that fold again"
        ) from None


def _score(trainings: Sequence[Training]) -> float:
    parts = [_read(one) for one in trainings]
    whole = Predictions.joined(parts)
    return float(summarise(whole, resamples=0).metrics["f1_macro"])


def _write_answers(path: Path, trainings: Sequence[Training]) -> None:
    names: list[str] = []
    groups: list[str] = []
    labels, predicted = [], []
    classes: Sequence[str] = ()
    for one in trainings:
        part = _read(one)
        rows = read_split_rows(one.folder / "split.csv")
        group = {row.sample: row.group for row in rows if row.side == "val"}
        names += part.names
        groups += [group.get(name) or name for name in part.names]
        labels.append(part.labels)
        predicted.append(part.predicted)
        classes = part.classes
    with atomic_write(path) as file:
        np.savez(
            file, labels=np.concatenate(labels), predicted=np.concatenate(predicted),
            groups=np.unique(groups, return_inverse=True)[1], classes=len(classes),
        )  # fmt: skip
