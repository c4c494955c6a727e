"""What best_model.json tells beside what rebuilds the model: its data, its training, its scores.

With these facts models/ alone makes the model card. They name no folder of the machine.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.training import Config
from slowfast_dist.data.frame_rates import group_rates
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.metrics.summary import Predictions, confused_pairs, summarise
from slowfast_dist.metrics.task import ONE_LABEL, Task
from slowfast_dist.model.hub import PUBLISHED, TITLES, is_published
from slowfast_dist.runs.videos import is_list


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
