"""The tables that a person reads: an epoch, the scores of an evaluation."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slowfast_dist.metrics.scores import over_classes
from slowfast_dist.system.text import clean, clock

SCORES = (
    "loss", "accuracy", "top5_accuracy", "map_macro", "map_micro", "precision_macro",
    "recall_macro", "f1_macro", "f1_micro",
)  # fmt: skip
"""The metrics that the tables show, where they are there."""
SHOWN_MISTAKES = 5
"""Mistakes shown of an evaluation's list of the hardest; metrics.json has all of it."""
LARGE = 1e5
"""Numbers from here on, as the loss of a model that diverged, are written with an exponent: they
would be wider than their column."""


def epoch_table(
    row: Mapping[str, Any], epochs: int, classes: int, title: str | None = None
) -> str:
    """The lines of an epoch's row of metrics.jsonl, or of one that is called ``title``: train and
    validation, macro averages; of a model of that many ``classes``."""
    shown = [name for name in SCORES if f"train/{name}" in row or f"val/{name}" in row]
    lines = [_head(title or f"epoch {row['epoch']}/{epochs}", shown)]
    for prefix, side in (("train", "train"), ("val", "validation")):
        values = [row.get(f"{prefix}/{name}") for name in shown]
        if any(value is not None for value in values):
            remarks = [over_classes(row, classes, f"{prefix}/")]
            remarks += ["best so far"] * bool(prefix == "val" and row.get("best"))
            lines.append("  ".join([_line(side, values), *filter(None, remarks)]))
    facts = [
        f"{label} {format(row[name], form)}"
        for name, label, form in (
            ("grad_norm", "gradient norm", ".3g"),
            ("lr", "learning rate", ".3g"),
            ("clips_per_second", "clips/s", ".1f"),
            ("data_wait_fraction", "data-wait", ".0%"),
            ("epoch_seconds", "seconds", ".1f"),
        )
        if row.get(name) is not None
    ]
    if row.get("epoch_seconds") is not None and row["epoch"] < epochs:
        left = row["epoch_seconds"] * (epochs - row["epoch"])
        facts.append(f"training left {clock(left, padded=True)}")
    return "\n".join([*lines, *(["  " + " | ".join(facts)] if facts else [])])


def print_scores(title: str, metrics: Mapping[str, Any]) -> None:
    """Print what an evaluation's metrics.json holds: a table (macro averages) with its intervals,
    further top-k accuracies, calibration, and the first of the hardest mistakes."""
    shown = [name for name in SCORES if name in metrics]
    values = _line(title, [metrics[name] for name in shown])
    over = over_classes(metrics, len(metrics.get("per_class", [])))
    lines = [_head("evaluation", shown), f"{values}  {over}".rstrip()]
    if metrics["intervals"]:
        for side, words in enumerate(("  95 % from", "  95 % to")):
            ends = {name: f"{ends[side]:.4f}" for name, ends in metrics["intervals"].items()}
            lines.append(f"  {words:<12}{_cells([ends.get(name, '') for name in shown])}".rstrip())
    facts = [
        f"{_title(name)} {_score(metrics[name])}"
        for name in metrics
        if re.fullmatch(r"top\d+_accuracy", name) and name not in (*shown, "top1_accuracy")
    ]
    if "ece" in metrics:
        facts.append(f"calibration error (ECE) {_score(metrics['ece'])}")
    if facts:
        lines.append("  " + " | ".join(facts))
    print("\n".join(lines + _mistakes(metrics["hardest"][:SHOWN_MISTAKES])), flush=True)


def _mistakes(worst: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["  hardest mistakes: loss, class, what it was taken for (probability), path"]
    label, prediction = (
        max((len(clean(one[key])) for one in worst), default=0) for key in ("label", "prediction")
    )
    for one in worst:
        names = f"{clean(one['label']):<{label}}  {clean(one['prediction']):<{prediction}}"
        confidence = _score(one["confidence"], ".2f")
        lines.append(f"{_score(one['loss']):>10}  {names} ({confidence})  {clean(one['path'])}")
    return lines if worst else []


def _head(title: str, shown: Sequence[str]) -> str:
    return f"{title:<14}{_cells([_title(name) for name in shown])}"


def _title(name: str) -> str:
    """What people call a metric: top-5 for top5_accuracy, f1 for f1_macro."""
    name = re.sub(r"^top(\d+)_accuracy$", r"top-\1", name).removesuffix("_macro")
    return re.sub("^map", "mAP", name).replace("_micro", " micro")


def _line(title: str, values: Sequence[float | None]) -> str:
    return f"  {title:<12}{_cells([_score(value) for value in values])}"


def _score(value: float | None, form: str = ".4f") -> str:
    if value is None:
        return "-"
    return format(value, form if abs(value) < LARGE else ".3e")


def _cells(texts: list[str]) -> str:
    return "".join(f"{text:>11}" for text in texts)
