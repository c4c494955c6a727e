"""What the scores of labelled videos say of a model, beyond a row of metrics.jsonl.

`summarise` makes all of it; the report, best_model.json, ``evaluate`` and wandb show parts of it.
Pure functions of arrays that were gathered from all processes before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.scores import (
    TOP_K,
    classification_metrics,
    losses,
    per_class,
    predicted,
    softmax,
    top_k_hits,
)
from slowfast_dist.metrics.uncertainty import (
    RESAMPLES,
    Bin,
    bootstrap_intervals,
    expected_calibration_error,
    reliability,
)

LEAST_PROBABILITY = np.finfo(np.float64).tiny
"""In place of a smaller probability of which the logarithm is taken: the least normal number."""

Cells = Sequence[tuple[int, int, int]]
"""(true class, predicted class, videos) of the cells of a confusion matrix that are not 0, row by
row: 400 classes have 160,000 cells, of which a validation fills some thousand."""


@dataclass(frozen=True)
class Predictions:
    """What a model says of N videos and K classes.

    ``names``: paths below the data's root; ``labels`` int64 (N,); ``classes``: the K names;
    ``scores`` (N, K): logits or probabilities, which rank the classes; ``probabilities`` float64
    (N, K); ``losses`` float64 (N,): -log of the label's probability.
    """

    names: Sequence[str]
    labels: NDArray[np.int64]
    classes: Sequence[str]
    scores: NDArray[Any]
    probabilities: NDArray[np.float64]
    losses: NDArray[np.float64]

    @classmethod
    def from_logits(
        cls,
        names: Sequence[str],
        labels: NDArray[np.int64],
        logits: NDArray[Any],
        classes: Sequence[str],
    ) -> Self:
        return cls(names, labels, classes, logits, softmax(logits), losses(logits, labels))

    @classmethod
    def from_probabilities(
        cls,
        names: Sequence[str],
        labels: NDArray[np.int64],
        probabilities: NDArray[np.float64],
        classes: Sequence[str],
    ) -> Self:
        own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
        loss = -np.log(np.maximum(own, LEAST_PROBABILITY))
        return cls(names, labels, classes, probabilities, probabilities, loss)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each video, (N,)."""
        return predicted(self.scores)


@dataclass(frozen=True)
class HardVideo:
    """A video of high loss: its path below the data's root, names of classes, the probabilities of
    the prediction (``confidence``) and of the label, and the loss."""

    path: str
    label: str
    prediction: str
    confidence: float
    probability: float
    loss: float


@dataclass(frozen=True)
class ConfusedPair:
    """``count`` videos of class ``label`` were called ``prediction``, ``share`` of its videos."""

    label: str
    prediction: str
    count: int
    share: float


@dataclass(frozen=True)
class Summary:
    """``metrics`` as in metrics.jsonl, without val/; ``bins`` and ``ece``: calibration;
    ``intervals``: 95 %, of "accuracy" and "f1_macro"; ``hardest``: the mistakes of the highest
    loss, worst first, of ``mistakes`` in all."""

    classes: list[str]
    cells: list[tuple[int, int, int]]
    metrics: dict[str, float]
    bins: list[Bin]
    ece: float
    intervals: dict[str, tuple[float, float]]
    mistakes: int
    hardest: list[HardVideo]

    @property
    def videos(self) -> int:
        return sum(count for _, _, count in self.cells)

    @property
    def accuracy(self) -> float:
        """The share of the videos that is right; 1 without any."""
        return 1 - self.mistakes / max(self.videos, 1)

    @property
    def confidence(self) -> float:
        """The mean confidence of all videos; 0 without any."""
        return sum(one.count * one.confidence for one in self.bins) / max(self.videos, 1)

    @property
    def per_class(self) -> list[dict[str, Any]]:
        """As `scores.per_class`."""
        return class_scores(self.cells, self.classes)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts (K, K): row = true class, column = predicted class."""
        matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        for label, prediction, count in self.cells:
            matrix[label, prediction] = count
        return matrix


def summarise(predictions: Predictions, hardest: int = 0, resamples: int = RESAMPLES) -> Summary:
    """All that is said of a model's predictions. ``hardest``: mistakes listed at most;
    ``resamples``: see `uncertainty.bootstrap_intervals`."""
    labels, guesses, classes = predictions.labels, predictions.predicted, predictions.classes
    places, counts = np.unique(labels * len(classes) + guesses, return_counts=True)
    bins = reliability(labels, predictions.probabilities)
    hits = top_k_hits(labels, predictions.scores, TOP_K)
    loss = float(predictions.losses.sum()) / max(len(labels), 1)
    return Summary(
        classes=list(classes),
        cells=[
            (*divmod(place, len(classes)), count)
            for place, count in zip(places.tolist(), counts.tolist(), strict=True)
        ],
        metrics={
            "loss": loss,
            **classification_metrics(labels, guesses, len(classes), hits),
        },
        bins=bins,
        ece=expected_calibration_error(bins),
        intervals=bootstrap_intervals(labels, guesses, len(classes), resamples),
        mistakes=int((guesses != labels).sum()),
        hardest=hardest_videos(predictions, hardest, mistakes_only=True),
    )


def hardest_videos(
    predictions: Predictions, most: int, mistakes_only: bool = False
) -> list[HardVideo]:
    """The videos of the highest loss, worst first and of equal ones the first, ``most`` at most."""
    labels, guesses, classes = predictions.labels, predictions.predicted, predictions.classes
    worst = np.argsort(-predictions.losses, kind="stable")
    if mistakes_only:
        worst = worst[guesses[worst] != labels[worst]]
    return [
        HardVideo(
            path=predictions.names[video],
            label=classes[labels[video]],
            prediction=classes[guesses[video]],
            confidence=float(predictions.probabilities[video, guesses[video]]),
            probability=float(predictions.probabilities[video, labels[video]]),
            loss=float(predictions.losses[video]),
        )
        for video in worst[:most].tolist()
    ]


def class_scores(cells: Cells, classes: Sequence[str]) -> list[dict[str, Any]]:
    """`scores.per_class` of a confusion matrix given by its cells."""
    table = np.array(cells, np.int64).reshape(-1, 3)
    times = table[:, 2]
    return per_class(np.repeat(table[:, 0], times), np.repeat(table[:, 1], times), classes)


def class_support(cells: Cells, classes: int) -> list[int]:
    """The number of videos of each true class, (K,)."""
    sums = [0] * classes
    for label, _, count in cells:
        sums[label] += count
    return sums


def confused_pairs(cells: Cells, classes: Sequence[str]) -> list[ConfusedPair]:
    """The classes that are taken for others, the most videos first, then by class."""
    support = class_support(cells, len(classes))
    pairs = [
        ConfusedPair(classes[label], classes[prediction], count, count / support[label])
        for label, prediction, count in cells
        if label != prediction
    ]
    return sorted(pairs, key=lambda pair: -pair.count)


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
