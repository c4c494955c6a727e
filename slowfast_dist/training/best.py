"""The best epoch so far: whether a new one is better, and what models/ then holds."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path
from shutil import copyfileobj
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import DivergedError, RunError, UserError
from slowfast_dist.config.fields import FINAL
from slowfast_dist.config.training import Config
from slowfast_dist.data.frame_rates import group_rates
from slowfast_dist.data.listing.split import group_codes
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.metrics.calibration import calibrate, parts_of
from slowfast_dist.metrics.features.neighbours import nearest_rows, neighbour_count
from slowfast_dist.metrics.scores import MACRO_CLASSES, classification_metrics, is_sound_loss
from slowfast_dist.metrics.summary import Predictions, confused_pairs, summarise
from slowfast_dist.metrics.task import ONE_LABEL, Task, task_of
from slowfast_dist.metrics.unknown import (
    UNKNOWN,
    choose_min_confidence,
    unknown_facts,
    unknown_line,
)
from slowfast_dist.model.hub import PUBLISHED, TITLES, is_published
from slowfast_dist.model.slowfast import SlowFast, rebuild
from slowfast_dist.report.card import CARD, write_card
from slowfast_dist.runs.best_model import (
    ARCHITECTURE,
    DESCRIPTION,
    WEIGHTS,
    change_description,
    describe_best,
    find_best_weights,
    save_best,
    settle_best,
)
from slowfast_dist.runs.checkpoint import portable
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.history import Row
from slowfast_dist.runs.metrics_file import read_metrics
from slowfast_dist.runs.predictions import write_neighbours, write_predictions
from slowfast_dist.runs.reading import mapping, read_json
from slowfast_dist.runs.videos import is_list
from slowfast_dist.system.described_file import ReplacedMeanwhile
from slowfast_dist.system.files import atomic_write, reason_of
from slowfast_dist.system.log import logger
from slowfast_dist.system.text import operand
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


class Divergence:
    """Whether the validation's loss is that of no model; ``state``, JSON for checkpoints: epoch and
    loss (text) of the last validation where it was, else None."""

    def __init__(self, run: Run, state: dict[str, Any] | None) -> None:
        self.run, self.state = run, state

    def judge(self, epoch: int, loss: float) -> None:
        """Note a validation's loss; what is absurd or no number is said once in a row."""
        before, self.state = self.state, None
        if is_sound_loss(loss):
            return
        self.state = {"epoch": epoch, "loss": f"{loss:.4g}"}
        if before is None:
            logger.warning(
                f"epoch {epoch}: val/loss is {loss:.4g}, that of a training that diverged: while "
                f"it is so no epoch is the best. {self._remedy}"
            )

    def raise_if_diverged(self, best: Mapping[str, Any] | None) -> None:
        """At the end: raise DivergedError where the last validation was so; ``best`` as the
        tracker's state."""
        if self.state is None:
            return
        kept = "no best model was written, as no epoch had a sound val/loss"
        if best is not None:
            kept = f"models/ holds the model of epoch {best['epoch']}, from before"
        guess = task_of(self.run.config.loss.name).guess(len(self.run.videos.classes))
        raise DivergedError(
            f"{self.run.folder.shown}: the training diverged: val/loss of epoch "
            f"{self.state['epoch']}, the last, is {self.state['loss']}, where guessing gives "
            f"{guess:.2f}; {kept}. {self._remedy}, in a new --output-dir"
        )

    @property
    def _remedy(self) -> str:
        rate = self.run.config.optimizer.lr
        return f"Train with a smaller --optimizer.lr than {rate:g}, or with --optimizer.clip-norm"


# What best_model.json tells beside what rebuilds the model: its data, its training, its scores.
# With these facts models/ alone makes the model card. They name no folder of the machine.


def data_facts(data: DataConfig, videos: VideoSet) -> dict[str, Any]:
    """The dataset's name, how many videos of each class, and how they were split."""
    of_val = videos.val.class_counts(len(videos.classes))
    counts = (videos.train_counts().tolist(), of_val.tolist())
    facts: dict[str, Any] = {
        "name": dataset_name(data),
        "train_videos": sum(counts[0]),
        "val_videos": len(videos.val),
        "unreadable": len(videos.rejected),
        "median_seconds": videos.segments().median_seconds(),
        "pictures": videos.train.pictures().as_facts(),
        "frame_rates": [vars(group) for group in group_rates(videos.train.per_file().rates())],
        "per_class": [
            {"class": name, "train": train, "val": val}
            for name, train, val in zip(videos.classes, *counts, strict=True)
        ],
        "split": "random" if videos.drawn else "given",
    }
    if (parts := videos.train.segments) is not None and parts.boxes is not None:
        facts["regions"] = int(np.isfinite(parts.boxes[:, 0]).sum())
    if (weights := videos.train.weights) is not None:
        facts["weighted"] = int(np.count_nonzero(weights != 1))
    if (background := videos.background) is not None:
        gaps = len(videos.train) - background.first
        facts["background"] = {
            "gaps": gaps, "clips_per_epoch": background.clips, "margin": data.margin,
            "share": data.background_share, "seconds": background.seconds,
        }  # fmt: skip
    if videos.drawn:
        grouped = videos.train.groups is not None
        facts |= {"val_fraction": data.val_fraction, "group_pattern": data.group_pattern}
        facts |= {"grouped": grouped}
    return facts


def dataset_name(data: DataConfig) -> str:
    """The name of the folder (or CSV) of videos, without the path to it."""
    if data.root is not None:
        return _name(data.root)
    assert data.train_dir is not None and data.val_dir is not None
    train, val = data.train_dir.absolute(), data.val_dir.absolute()
    # Folders named train and val say less than the one that holds both.
    return _name(train.parent if train.parent == val.parent and train.parent.name else train)


def _name(path: Path) -> str:
    path = path.absolute()
    name = path.stem if is_list(path) else path.name
    return name.encode("utf-8", "replace").decode() or "videos"


def training_facts(config: Config, norm: str, environment: dict[str, Any]) -> dict[str, Any]:
    """The settings behind the result, where the weights began, and with what it was made. ``norm``
    is the one that was used; ``environment`` that of environment.json."""
    model, optimizer, precise = config.model, config.optimizer, config.evaluation.precise_norm
    start, source = "scratch", None
    if model.weights is not None:
        models = model.weights.absolute().name == "models"
        start = _name(model.weights.absolute().parent if models else model.weights)
    elif (data := model.published) and is_published(data, model.name):
        start, source = PUBLISHED[data][model.name].rpartition("/")[2], TITLES[data]
    versions = environment.get("versions", {})
    return {
        "started_from": start,
        "started_from_sha256": environment.get("started_from_sha256"),
        "pretrained_on": source,
        "epochs": config.epochs,
        "global_batch_size": config.global_batch_size, "micro_batch_size": config.micro_batch_size,
        "optimizer": optimizer.name, "lr": optimizer.lr,
        "backbone_lr_scale": optimizer.backbone_lr_scale,
        # Those that are off by default are told where they are on.
        "layer_decay": optimizer.layer_decay if optimizer.layer_decay < 1 else None,
        "ema": optimizer.ema or None,
        "precise_norm": None if norm == "frozen" or precise == "auto" else precise or None,
        "weight_decay": optimizer.weight_decay, "clip_norm": optimizer.clip_norm,
        "schedule": config.schedule.name, "warmup_epochs": config.schedule.warmup_epochs,
        "loss": config.loss.name, "label_smoothing": config.loss.label_smoothing,
        "class_weights": config.loss.class_weights,
        "class_sampling": None if (drawn := config.data.class_sampling) == "natural" else drawn,
        "logit_adjustment": config.loss.logit_adjustment or None,
        "probe": "a linear probe" if model.probe else None,
        "freeze": model.freeze, "norm": norm,
        "short_side": list(config.data.short_side), "flip": config.data.flip,
        "flip_pairs": list(config.data.flip_pairs) or None,
        **augmentation_facts(config.augment),
        "seed": config.seed, "fold": config.fold,
        **{name: environment.get(name) for name in ("processes", "device", "mixed_precision")},
        "versions": {name: versions.get(name) for name in ("slowfast_dist", "torch")},
        "git_commit": environment.get("git_commit"),
    }  # fmt: skip


def augmentation_facts(augment: AugmentConfig) -> dict[str, Any]:
    """What of it is on, by the names of its flags; None for what is off."""
    given = asdict(augment) | {"crop_aspect": augment.crop_scale and augment.crop_aspect}
    return {name: list(value) if isinstance(value, tuple) else value or None
            for name, value in given.items()}  # fmt: skip


def result_facts(
    labels: NDArray[Any], logits: NDArray[np.float64], classes: tuple[str, ...],
    task: Task = ONE_LABEL,
) -> dict[str, Any]:
    """How far the validation's numbers can be trusted, and what they are class by class.

    ``labels`` (N,), ``logits`` (N, K). "intervals": 95 %, of "accuracy" and "f1_macro"; "ece": the
    expected calibration error; "per_class": `scores.per_class`; "confusions": true class,
    prediction and how often, most often first. The last and "ece" are not there of several labels.
    """
    unnamed = [""] * len(labels)
    summary = summarise(Predictions.from_logits(unnamed, labels, logits, classes, task))
    if task.several:
        return {
            "intervals": summary.intervals, "per_class": task.per_class(logits, labels, classes),
        }  # fmt: skip
    # The model card shows all that are listed, and ten are read at a glance.
    pairs = confused_pairs(summary.cells, classes)[:10]
    return {
        "intervals": summary.intervals, "ece": summary.ece, "per_class": summary.per_class,
        "confusions": [{"class": pair.label, "prediction": pair.prediction, "count": pair.count}
                       for pair in pairs],
    }  # fmt: skip
