"""The best epoch so far: whether a new one is better, and what models/ then holds."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path
from shutil import copyfileobj
from typing import Any

import numpy as np
from torch import Tensor

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.fields import FINAL
from slowfast_dist.config.training import Config
from slowfast_dist.data.listing.split import group_codes
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.metrics.calibration import calibrate, parts_of
from slowfast_dist.metrics.features.neighbours import nearest_rows, neighbour_count
from slowfast_dist.metrics.scores import MACRO_CLASSES, classification_metrics, is_sound_loss
from slowfast_dist.metrics.task import Task
from slowfast_dist.metrics.unknown import (
    UNKNOWN,
    choose_min_confidence,
    unknown_facts,
    unknown_line,
)
from slowfast_dist.model.slowfast import SlowFast, rebuild
from slowfast_dist.report.card import CARD, write_card
from slowfast_dist.runs.best_model import ARCHITECTURE, DESCRIPTION, WEIGHTS, find_best_weights
from slowfast_dist.runs.checkpoint import portable
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.history import Row
from slowfast_dist.runs.metrics_file import read_metrics
from slowfast_dist.runs.models.saving import (
    change_description,
    describe_best,
    save_best,
    settle_best,
)
from slowfast_dist.runs.predictions import write_neighbours, write_predictions
from slowfast_dist.runs.reading import mapping, read_json
from slowfast_dist.system.described_file import ReplacedMeanwhile
from slowfast_dist.system.files import atomic_write, reason_of
from slowfast_dist.system.log import logger
from slowfast_dist.system.text import operand
from slowfast_dist.training.best.facts import data_facts, result_facts, training_facts
from slowfast_dist.training.evaluation import Scores


@dataclass(frozen=True)
class Run:
    """What the files of a run tell of: its settings, its folder, its videos, what environment.json
    holds, and what became of the classes of the weights that it began with, as `HeadStart.facts`
    (None: unknown, or there were none)."""

    config: Config
    folder: RunFolder
    videos: VideoSet
    environment: dict[str, Any]
    head: dict[str, list[str]] | None = None


class BestModelTracker:
    """The best model of ``run`` so far; ``state``, JSON for checkpoints: metric, mode, value, epoch
    and step, or None before any epoch was the best."""

    def __init__(self, run: Run, state: dict[str, Any] | None) -> None:
        """``state``: a checkpoint's; it counts if its model is still in models/ and the metric and
        the mode are still the same."""
        self.run, self.config, self.folder, self.videos = run, run.config, run.folder, run.videos
        self.monitor, self.mode = run.config.checkpoint.monitor, run.config.checkpoint.mode
        self._card_was_kept = False
        with suppress(OSError):  # of a disk that refuses: then what is saved next says so
            settle_best(self.folder.models)
        here = (self.folder.models / DESCRIPTION).exists()
        same = state and (state["monitor"], state["mode"]) == (self.monitor, self.mode)
        self.state = state if here and same else None

    @cached_property
    def _data_facts(self) -> dict[str, Any]:
        # The other processes wait while a best model is saved, and of a million videos they take
        # a while.
        return data_facts(self.config.data, self.videos)

    def is_worse_than(self, row: Mapping[str, Any]) -> bool:
        """Whether an epoch's row of metrics.jsonl is better; with a loss that is absurd or no
        number never, whatever the monitored metric makes of such outputs.

        In a fold of a cross-validation any later one is: its model of the last epoch is scored,
        also where more epochs were asked for and it was validated before.
        """
        value = row.get(self.monitor)
        if value is None or not isfinite(value) or not is_sound_loss(row.get("val/loss", 0.0)):
            return False
        if self.monitor.endswith("/loss") and not is_sound_loss(value):
            return False
        if self.state is None or self.config.fold is not None:
            return True
        best = self.state["value"]
        return value < best if self.mode == "min" else value > best

    def save(
        self, row: Mapping[str, Any], scores: Scores | None, network: SlowFast, task: Task
    ) -> None:
        """Write the files of models/, and predictions/val_best.csv where there are ``scores``.
        ``row``: an epoch's, or an average's, with "averaged_epochs"."""
        config, classes = self.config, self.videos.classes
        self.state = {
            "monitor": self.monitor, "mode": self.mode, "value": row[self.monitor],
            "epoch": row["epoch"], "global_step": row["global_step"],
        }  # fmt: skip
        averaged = {name: row[name] for name in ("averaged_epochs",) if name in row}
        self.state |= averaged
        description = {
            **describe_best(network, classes, config.data, config.evaluation, task),
            **self.state,
            "metrics": {name: row[name] for name in row if name.startswith(("train/", "val/"))},
            "data": self._data_facts,
            "training": training_facts(config, network.norm, self.run.environment)
            | averaged
            | ({"head": self.run.head} if self.run.head else {}),
        }
        if scores is not None:
            description |= result_facts(scores.labels, scores.logits, classes, task)
            logits = scores.logits
            if not task.several and config.fold != FINAL:  # whose videos choose nothing
                calibration = self._calibration(scores)
                description |= calibration
                logits = logits / calibration["temperature"]
            recall = config.evaluation.unknown_recall
            if recall is not None and config.fold != FINAL:
                least = choose_min_confidence(scores.labels, logits, recall)
                found = unknown_facts(scores.labels, logits, least)
                description |= {"min_confidence": least, "unknown": found}
                logger.info(f"predict will say {UNKNOWN}: {unknown_line(found)}")
        weights: dict[str, Tensor] = portable(network.state_dict())
        full = rebuild(description["model"])
        full.load_state_dict(weights)
        save_best(self.folder.models, weights, full, description)
        self._write_card()
        if scores is not None:
            path, val = self.folder.predictions, self.videos.val
            scored = val.select(scores.videos)
            self._write_neighbours(scores, scored, task)  # first: they say whose they are
            write_predictions(
                path, list(scored.names), scores.labels, scores.logits, classes, scored.extra(),
                task=task,
            )  # fmt: skip

    def _write_neighbours(self, scores: Scores, scored: VideoTable, task: Task) -> None:
        if scores.features is None:
            self.folder.neighbours.unlink(missing_ok=True)
            return
        groups = group_codes(scored)
        if groups is None:  # parts of one file are of one recording
            parts = scored.segments
            groups = np.arange(len(scored)) if parts is None else np.asarray(parts.files, np.int64)
        nearest = nearest_rows(scores.features, groups, neighbour_count(scores.labels))
        write_neighbours(self.folder.predictions, task.probabilities(scores.logits), nearest)

    def _calibration(self, scores: Scores) -> dict[str, Any]:
        """What best_model.json tells of the temperature, for one label a clip."""
        scored = self.videos.val.select(scores.videos)
        groups = group_codes(scored)
        parts = parts_of(np.arange(len(scored)) if groups is None else groups)
        found = calibrate(scores.logits, scores.labels, parts)
        if found is None:
            return {"temperature": 1.0}
        return {"temperature": found.temperature, "calibration": found.facts("validation")}

    def add_test(self, facts: Mapping[str, Any]) -> None:
        """Put the scores of the rows of split test into best_model.json and the card."""
        change_description(self.folder.models, {"test": dict(facts)})
        self._write_card()

    def _write_card(self) -> None:
        if write_card(self.folder.models) or self._card_was_kept:
            return
        self._card_was_kept = True
        logger.info(
            f"{self.folder.shown / 'models' / CARD} was changed by hand and is kept; 'model-card "
            f"{operand(self.folder.shown)} --overwrite' writes a new one"
        )


def bring_best(checkpoint: Path, best: Mapping[str, Any] | None, run: Run) -> str | None:
    """Copy the best model so far from the run of ``checkpoint``, which goes on in another folder.

    ``best``: the state of the tracker at the checkpoint. A worse epoch then never becomes the best
    here. Returns a line for the user where that model is there no more, as the other run went on to
    a better one. Raises RunError when the disk refuses.
    """
    source, monitored = RunFolder(checkpoint.parent.parent), run.config.checkpoint
    mine = run.folder.models / DESCRIPTION
    if not best or source.root.resolve() == run.folder.root.resolve() or mine.exists():
        return None
    if (best["monitor"], best["mode"]) != (monitored.monitor, monitored.mode):
        return None
    theirs = mapping(read_json(source.models / DESCRIPTION))
    # Not the value: an older version's may have been measured otherwise (`best_so_far`).
    which = ("monitor", "mode", "epoch", "global_step")
    try:
        weights = find_best_weights(source.models)
        gone = any(theirs.get(name) != best[name] for name in which)
    except (UserError, ReplacedMeanwhile):  # of another epoch than the description, or damaged
        gone = True
    if gone:
        return (
            f"{source.models} no longer holds the best model up to this checkpoint "
            f"({best['monitor']} {best['value']:.4f} in epoch {best['epoch']}): what is best "
            "counts from here on"
        )
    copies = {
        source.neighbours: run.folder.neighbours,
        source.predictions: run.folder.predictions, weights: run.folder.models / WEIGHTS
    } | {
        source.models / name: run.folder.models / name
        for name in (ARCHITECTURE, CARD, DESCRIPTION)  # that which makes it one, last
    }  # fmt: skip
    try:
        for old, new in copies.items():
            if old.exists():
                with open(old, "rb") as content, atomic_write(new) as file:
                    copyfileobj(content, file)
    except OSError as error:
        reason = reason_of(error, run.folder.models)
        raise RunError(f"cannot copy the best model from {source.models}: {reason}") from error
    return None


def best_so_far(checkpoint: Path, state: dict[str, Any] | None) -> dict[str, Any] | None:
    """``state`` of the tracker at ``checkpoint``, as `macro_value_now` by the metrics.jsonl of the
    run that the checkpoint is of: a run that goes on in another folder has no rows of its own."""
    if not state or "_macro" not in state["monitor"]:
        return state
    metrics = RunFolder(checkpoint.parent.parent).metrics
    return macro_value_now(state, read_metrics(metrics) if metrics.exists() else [])


def macro_value_now(state: dict[str, Any] | None, rows: Sequence[Row]) -> dict[str, Any] | None:
    """``state`` of a `BestModelTracker` with its value as new epochs are measured.

    Older versions' macro averages were over all classes, those that do not occur counted as 0: any
    new epoch could seem better. The confusion matrix in ``rows``, those of metrics.jsonl, tells the
    value over the classes that occur; in training all do.
    """
    if not state or not state["monitor"].startswith("val/") or "_macro" not in state["monitor"]:
        return state
    name, epoch = state["monitor"].removeprefix("val/"), state["epoch"]
    of = {row["kind"]: row for row in rows if row.get("epoch") == epoch}
    if f"val/{MACRO_CLASSES}" in of.get("epoch", {}) or "classes" not in of:
        return state
    matrix = np.array(of["classes"]["confusion"], np.int64)
    places = np.repeat(np.arange(matrix.size), matrix.ravel())
    labels, predictions = np.divmod(places, len(matrix))
    return state | {"value": classification_metrics(labels, predictions, len(matrix))[name]}
