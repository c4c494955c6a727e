"""What the scores of labelled videos say of a model, beyond a row of metrics.jsonl.

Pure functions of arrays that were gathered from all processes before.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.scores import (
    TOP_K,
    classification_metrics,
    confusion,
    losses,
    per_class,
    predicted,
    softmax,
    top_k_accuracies,
    top_k_hits,
)
from slowfast_dist.metrics.uncertainty import (
    Bin,
    bootstrap_intervals,
    expected_calibration_error,
    reliability,
)


def judge(
    labels: NDArray[Any],
    logits: NDArray[Any],
    names: Sequence[str],
    classes: Sequence[str],
    ks: Iterable[int],
    hardest: int,
    resamples: int,
) -> dict[str, Any]:
    """Top-k, calibration, intervals, per class, hardest mistakes, by their names in metrics.json.

    ``labels`` int (N,), ``logits`` (N, K), ``names`` of the N videos, ``classes`` the K names.
    ``ks``: see `metrics.top_k_accuracies`; ``hardest``: mistakes listed at most; ``resamples``: see
    `uncertainty.bootstrap_intervals`.
    """
    predictions = predicted(logits)
    bins = reliability(labels, softmax(logits))
    return {
        **top_k_accuracies(labels, logits, ks),
        "ece": expected_calibration_error(bins),
        "intervals": bootstrap_intervals(labels, predictions, len(classes), resamples),
        "per_class": per_class(labels, predictions, classes),
        "confusion": confusion(labels, predictions, len(classes)).tolist(),
        "calibration": [asdict(one) for one in bins],
        "hardest": hardest_mistakes(labels, logits, names, classes, hardest),
    }


def hardest_mistakes(
    labels: NDArray[Any],
    logits: NDArray[Any],
    names: Sequence[str],
    classes: Sequence[str],
    most: int,
) -> list[dict[str, Any]]:
    """The wrong predictions of the highest loss, worst first, ``most`` at most.

    Each with path, label and prediction (names), the prediction's probability ("confidence"), the
    label's ("probability") and the loss, which is -log of the label's. Arguments as of `judge`.
    """
    predictions, probabilities, loss = predicted(logits), softmax(logits), losses(logits, labels)
    worst = np.argsort(-loss, kind="stable")
    return [
        {
            "path": names[video],
            "label": classes[labels[video]],
            "prediction": classes[predictions[video]],
            "confidence": float(probabilities[video, predictions[video]]),
            "probability": float(probabilities[video, labels[video]]),
            "loss": float(loss[video]),
        }
        for video in worst[predictions[worst] != labels[worst]][:most]
    ]


@dataclass(frozen=True)
class Predictions:
    """What `write_predictions` wrote: N videos, K classes.

    ``names``: paths below the data's root; ``labels`` int64 (N,); ``probabilities`` float64 (N, K);
    ``classes``: the K names.
    """

    names: list[str]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    classes: list[str]


# What the best model says of the validation videos: scores a class, mix-ups, calibration,
# intervals and the videos it got most wrong; from predictions/val_best.csv.
#
# Reading that file takes a second at 4,000 videos of 400 classes, so what was found is kept in the
# page itself (as JSON: `as_json`, `from_json`) for as long as the file stays the same.


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
