"""What the report shows of a run's end, for wandb: calibration, labels in doubt, folds; and what
later commands add: timelines, and what to label next.

Curves are rows over an axis of their own, which wandb draws without asking its server for a chart.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from slowfast_dist.metrics.uncertainty import Bin
from slowfast_dist.metrics.wrong_labels import Doubt
from slowfast_dist.tracking.wandb_media import plain_text

CALIBRATION, LEARNING_CURVE = "calibration", "learning_curve"
"""What the names of the curves begin with where there are none in the run on wandb yet."""

PAIRS = ("label", "rather", "videos")
"""Columns of the table of doubts that names no video."""

FOLDS = ("fold", "videos", "groups", "accuracy", "f1_macro", "loss")
"""Columns of the table of folds; the row of all of them has the fold "all"."""

TIMELINES = ("file", "right", "edit_score", "timeline")
"""Columns of the table of whole files: of each what share of its labelled frames is right."""

SUGGESTED = ("predicted", "videos", "probability")
"""Columns of the table of what to label next that names no video: of each class that is predicted
how many there are, and their mean probability."""

BINS = ("low", "high", "videos", "confidence", "accuracy", "with_temperature")
"""Columns of the table of calibration."""


@dataclass(frozen=True)
class Panels:
    """``curves``: rows by the axis that each has; ``tables``, and numbers, by their names."""

    curves: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    tables: Mapping[str, Any] = field(default_factory=dict)


def calibration_panels(
    before: Sequence[Bin], after: Sequence[Bin], curves: str = CALIBRATION
) -> Panels:
    """Accuracy of the bins with videos over the middle of their confidence, without and with the
    temperature (none where ``after`` is empty). ``curves``: what the names of all begin with."""
    import wandb

    confidence = f"{curves}/confidence"
    rows, table = [], wandb.Table(columns=[*BINS])
    for bins, with_temperature in ((before, False), (after, True)):
        name = f"{curves}/accuracy" + "_with_temperature" * with_temperature
        videos = f"{curves}/videos" + "_with_temperature" * with_temperature
        for one in bins:
            if one.count:
                middle = (one.low + one.high) / 2
                rows.append({confidence: middle, name: one.accuracy, videos: one.count})
                table.add_data(
                    one.low, one.high, one.count, one.confidence, one.accuracy, with_temperature
                )
    return Panels({confidence: rows} if rows else {}, {"best/calibration": table} if rows else {})


def doubted_pairs(doubts: Sequence[Doubt]) -> Any:
    """A wandb.Table of how many videos of which label are probably of which class: no names of
    videos."""
    import wandb

    table = wandb.Table(columns=[*PAIRS])
    counted = Counter((one.label, one.probable) for one in doubts)
    for (label, probable), videos in counted.most_common():
        table.add_data(label, probable, videos)
    return table


def fold_panels(facts: Mapping[str, Any], curves: str = LEARNING_CURVE) -> Panels:
    """Of a cross-validation, ``facts`` as in cross_validation.json: its folds and its learning
    curve over how many groups, or videos, were trained on; ``curves``: what the names of that
    begin with."""
    import wandb

    groups = f"{curves}/groups"
    table = wandb.Table(columns=[*FOLDS])
    whole = {**facts["metrics"], "fold": "all", "videos": facts["videos"]}
    for one in ({**whole, "groups": facts["groups"]}, *facts["per_fold"]):
        table.add_data(*(str(one[name]) if name == "fold" else one[name] for name in FOLDS))
    curve = [
        {groups: one["groups"], f"{curves}/accuracy": one["accuracy"],
         f"{curves}/f1_macro": one["f1_macro"]}
        for one in facts["learning_curve"]
    ]  # fmt: skip
    return Panels({groups: curve} if len(curve) > 1 else {}, {"folds": table})


def timelines_panels(
    name: str, scores: Mapping[str, float], files: Sequence[tuple[str, float | None, float, Any]]
) -> Panels:
    """Of an evaluation of whole files: its ``scores``, and of each file what it is called, its
    accuracy over frames, its edit score, and a PIL image of truth over prediction."""
    import wandb

    table = wandb.Table(columns=[*TIMELINES])
    for file, right, edit, image in files:
        table.add_data(plain_text(file), right, edit, wandb.Image(image))
    start = f"over_time/{plain_text(name)}"
    numbers = {f"{start}/{key}": value for key, value in scores.items() if isfinite(value)}
    return Panels({}, {**numbers, f"{start}/timelines": table})


def suggested_panels(chosen: Sequence[tuple[str, float | None]]) -> Panels:
    """Of each suggestion what is predicted ("": nothing), and how probable that is."""
    import wandb

    table = wandb.Table(columns=[*SUGGESTED])
    counted = Counter(predicted for predicted, _ in chosen)
    for predicted, videos in counted.most_common():
        sure = [one for name, one in chosen if name == predicted and one is not None]
        table.add_data(predicted or "none", videos, sum(sure) / len(sure) if sure else None)
    return Panels({}, {"suggested/classes": table})


def joined_panels(*parts: Panels) -> Panels:
    curves = {axis: rows for one in parts for axis, rows in one.curves.items()}
    return Panels(curves, {name: table for one in parts for name, table in one.tables.items()})
