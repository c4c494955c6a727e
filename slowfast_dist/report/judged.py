"""What the best model says of the validation videos: scores a class, mix-ups, calibration,
intervals and the videos it got most wrong; from predictions/val_best.csv.

Reading that file takes a second at 4,000 videos of 400 classes, so what was found is kept in the
page itself (as JSON: `as_json`, `from_json`) for as long as the file stays the same.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics import TOP_K, classification_metrics, per_class, top_k_hits
from slowfast_dist.report.reading import number, pair, sequence, whole
from slowfast_dist.tracking import Predictions, read_predictions
from slowfast_dist.uncertainty import (
    Bin,
    bootstrap_intervals,
    expected_calibration_error,
    reliability,
)

LEAST_PROBABILITY = 1e-12
"""Of which the logarithm is taken."""


@dataclass(frozen=True)
class Mistake:
    """A video whose prediction is wrong; names of classes, and path below the data's root."""

    path: str
    label: str
    prediction: str
    confidence: float
    """Probability of ``prediction``."""
    probability: float
    """Probability of ``label``."""


@dataclass(frozen=True)
class Judged:
    """``cells``: (true class, predicted class, videos) of the cells of the confusion matrix that
    are not 0; ``hardest``: the mistakes with the highest loss first; ``metrics`` as in
    metrics.jsonl, without val/."""

    classes: list[str]
    cells: list[tuple[int, int, int]]
    metrics: dict[str, float]
    bins: list[Bin]
    ece: float
    intervals: dict[str, tuple[float, float]]
    mistakes: int
    hardest: list[Mistake]

    @property
    def videos(self) -> int:
        return sum(count for _, _, count in self.cells)


def judge(path: Path, hardest: int) -> Judged | None:
    """Read a CSV of predictions; None where there is none, or it is damaged."""
    try:
        return judge_predictions(read_predictions(path), hardest) if path.is_file() else None
    except (OSError, ValueError):
        return None


def judge_predictions(found: Predictions, hardest: int) -> Judged | None:
    """As `judge`, of what was read; None without a video, or with probabilities that are none."""
    labels, probabilities, classes = found.labels, found.probabilities, found.classes
    if not len(labels) or not np.isfinite(probabilities).all():
        return None
    predictions = probabilities.argmax(axis=1)
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    wrong = np.flatnonzero(predictions != labels)
    order = wrong[np.argsort(own[wrong], kind="stable")][:hardest]
    cells, counts = np.unique(labels * len(classes) + predictions, return_counts=True)
    bins = reliability(labels, probabilities)
    loss = -np.log(np.maximum(own, LEAST_PROBABILITY)).mean()
    hits = top_k_hits(labels, probabilities, TOP_K)
    return Judged(
        classes,
        [
            (cell // len(classes), cell % len(classes), count)
            for cell, count in zip(cells.tolist(), counts.tolist(), strict=True)
        ],
        {"loss": float(loss), **classification_metrics(labels, predictions, len(classes), hits)},
        bins,
        expected_calibration_error(bins),
        bootstrap_intervals(labels, predictions, len(classes)),
        len(wrong),
        [
            Mistake(
                found.names[row],
                classes[labels[row]],
                classes[predictions[row]],
                float(probabilities[row, predictions[row]]),
                float(own[row]),
            )
            for row in order.tolist()
        ],
    )


def class_scores(
    cells: Sequence[tuple[int, int, int]], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """`metrics.per_class` of a confusion matrix given by its cells, as in `Judged`."""
    table = np.array(cells, np.int64).reshape(-1, 3)
    times = table[:, 2]
    return per_class(np.repeat(table[:, 0], times), np.repeat(table[:, 1], times), classes)


def matrix_cells(matrix: Any, classes: int) -> list[tuple[int, int, int]] | None:
    """The cells of a (K, K) list of lists that are not 0; None where it is no such thing."""
    try:
        counts: NDArray[np.int64] = np.array(matrix, np.int64)
    except (TypeError, ValueError, OverflowError):
        return None
    if counts.shape != (classes, classes) or not classes or counts.min() < 0:
        return None
    if counts.max() > 1e9:  # which no one has counted
        return None
    found = [(int(i), int(j), int(counts[i, j])) for i, j in np.argwhere(counts)]
    return found or None


def as_json(judged: Judged) -> dict[str, Any]:
    """In JSON's types."""
    return asdict(judged)


def from_json(kept: Any) -> Judged | None:
    """What `as_json` gave; None for anything else, since anyone may have changed the page."""
    try:
        classes = [str(name) for name in kept["classes"]]
        cells = [(int(i), int(j), int(count)) for i, j, count in kept["cells"]]
        if any(not (0 <= i < len(classes) and 0 <= j < len(classes) and 0 < n < 10**9)
               for i, j, n in cells):  # fmt: skip
            return None
        metrics = {str(name): _number(value) for name, value in kept["metrics"].items()}
        bins = [
            Bin(
                low=_number(one["low"]),
                high=_number(one["high"]),
                count=whole(one["count"]) or 0,
                confidence=_number(one["confidence"]),
                accuracy=_number(one["accuracy"]),
            )
            for one in kept["bins"]
        ]
        intervals = {
            str(name): found
            for name, value in kept["intervals"].items()
            if (found := pair(value)) is not None
        }
        hardest = [
            Mistake(
                path=str(one["path"]),
                label=str(one["label"]),
                prediction=str(one["prediction"]),
                confidence=_number(one["confidence"]),
                probability=_number(one["probability"]),
            )
            for one in sequence(kept["hardest"])
        ]
        mistakes = whole(kept["mistakes"]) or 0
        return Judged(
            classes, cells, metrics, bins, _number(kept["ece"]), intervals, mistakes, hardest
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _number(value: Any) -> float:
    found = number(value)
    if found is None:
        raise ValueError(value)
    return found
