"""What the scores of labelled videos say of a model, beyond a row of metrics.jsonl.

`summarise` makes all of it; the report, best_model.json, ``evaluate`` and wandb show parts of it.
Pure functions of arrays that were gathered from all processes before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics import several
from slowfast_dist.metrics.cells import joined
from slowfast_dist.metrics.scores import (
    TOP_K,
    classification_metrics,
    per_class,
    predicted,
    top_k_hits,
)
from slowfast_dist.metrics.task import ONE_LABEL, Task
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

    Of several labels a video ``labels`` is bool (N, K), as is ``decided``: which classes the model
    says are there; ``losses``: the binary cross-entropy. Of one ``decided`` is None.

    ``nearest`` int64 (N, n): the videos, by their rows, that are nearest to each in the model's
    features, -1 where there are no more; None where that is not known.
    """

    names: Sequence[str]
    labels: NDArray[Any]
    classes: Sequence[str]
    scores: NDArray[Any]
    probabilities: NDArray[np.float64]
    losses: NDArray[np.float64]
    decided: NDArray[np.bool_] | None = None
    nearest: NDArray[np.int64] | None = None

    @classmethod
    def from_logits(
        cls,
        names: Sequence[str],
        labels: NDArray[Any],
        logits: NDArray[Any],
        classes: Sequence[str],
        task: Task = ONE_LABEL,
    ) -> Self:
        return cls(
            names, labels, classes, logits, task.probabilities(logits),
            task.losses(logits, labels), task.decisions(logits) if task.several else None,
        )  # fmt: skip

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

    @classmethod
    def of_several(
        cls,
        names: Sequence[str],
        labels: NDArray[np.bool_],
        probabilities: NDArray[np.float64],
        decided: NDArray[np.bool_],
        classes: Sequence[str],
    ) -> Self:
        own = np.maximum(np.where(labels, probabilities, 1 - probabilities), LEAST_PROBABILITY)
        loss = -np.log(own).mean(axis=1)
        return cls(names, labels, classes, probabilities, probabilities, loss, decided)

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> Self:
        """One below the other, of one label a video and the same classes. No video of one part is
        near one of another: features of different models are not comparable."""
        whole = cls.from_probabilities(
            [name for part in parts for name in part.names],
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.probabilities for part in parts]), parts[0].classes,
        )  # fmt: skip
        known = [part.nearest for part in parts if part.nearest is not None]
        if not known:
            return whole
        nearest = np.full((len(whole.labels), max(one.shape[1] for one in known)), -1, np.int64)
        first = 0
        for part in parts:
            if (own := part.nearest) is not None:
                place = slice(first, first + len(own)), slice(own.shape[1])
                nearest[place] = np.where(own < 0, own, own + first)
            first += len(part.labels)
        return replace(whole, nearest=nearest)

    @property
    def predicted(self) -> NDArray[Any]:
        """The most probable class of each video, (N,); of several labels ``decided``."""
        return predicted(self.scores) if self.decided is None else self.decided

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether all that is said of a video is right, (N,)."""
        same = self.predicted == self.labels
        return same if self.decided is None else same.all(axis=1)

    def cell(self, labels: NDArray[Any]) -> str:
        """The label or prediction of one video in words, as waving|walking."""
        if self.decided is None:
            return self.classes[int(labels)]
        return joined(labels.tolist(), self.classes)


@dataclass(frozen=True)
class HardVideo:
    """A video of high loss: its path below the data's root, names of classes, the probabilities of
    the prediction (``confidence``) and of the label, and the loss. Of several labels they are the
    highest probability of a class that is not there (0: all are), and the least of one that is (1:
    none is)."""

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
    loss, worst first, of ``mistakes`` in all.

    Of several labels a video there are no ``cells``, as none stands for another, no ``bins`` and no
    ``ece``; instead ``total`` videos, and ``scored``: the scores of each class.
    """

    classes: list[str]
    cells: list[tuple[int, int, int]]
    metrics: dict[str, float]
    bins: list[Bin]
    ece: float | None
    intervals: dict[str, tuple[float, float]]
    mistakes: int
    hardest: list[HardVideo]
    total: int | None = None
    scored: list[dict[str, Any]] | None = None

    @property
    def videos(self) -> int:
        return sum(count for _, _, count in self.cells) if self.total is None else self.total

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
        if self.scored is not None:
            return self.scored
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
    if predictions.decided is not None:
        return _summarise_several(predictions, predictions.decided, hardest, resamples)
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


def _summarise_several(
    predictions: Predictions, decided: NDArray[np.bool_], hardest: int, resamples: int
) -> Summary:
    labels, classes = predictions.labels, predictions.classes
    probabilities = predictions.probabilities
    return Summary(
        classes=list(classes),
        cells=[],
        metrics={
            "loss": float(predictions.losses.sum()) / max(len(labels), 1),
            **several.metrics(labels, probabilities, decided),
        },
        bins=[],
        ece=None,
        intervals=several.bootstrap_intervals(labels, decided, resamples),
        mistakes=int((~predictions.right).sum()),
        hardest=hardest_videos(predictions, hardest, mistakes_only=True),
        total=len(labels),
        scored=several.per_class(labels, decided, classes, probabilities),
    )


def hardest_videos(
    predictions: Predictions, most: int, mistakes_only: bool = False
) -> list[HardVideo]:
    """The videos of the highest loss, worst first and of equal ones the first, ``most`` at most."""
    labels, guesses = predictions.labels, predictions.predicted
    worst = np.argsort(-predictions.losses, kind="stable")
    if mistakes_only:
        worst = worst[~predictions.right[worst]]
    found = []
    for video in worst[:most].tolist():
        row = predictions.probabilities[video]
        if predictions.decided is None:
            confidence, probability = row[guesses[video]], row[labels[video]]
        else:
            confidence = row[~labels[video]].max(initial=0.0)
            probability = row[labels[video]].min(initial=1.0)
        found.append(HardVideo(
            path=predictions.names[video],
            label=predictions.cell(labels[video]),
            prediction=predictions.cell(guesses[video]),
            confidence=float(confidence),
            probability=float(probability),
            loss=float(predictions.losses[video]),
        ))  # fmt: skip
    return found


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
