"""How far a model's numbers can be trusted: calibration, and bootstrap confidence intervals.

Pure functions of arrays that were gathered from all processes before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Bins of confidence, as in Guo et al., On Calibration of Modern Neural Networks (ICML 2017)."""
RESAMPLES = 1000
"""Draws of a bootstrap, as Efron and Tibshirani (1993) advise for intervals by percentiles."""
NUMBERS_AT_ONCE = 1_000_000
"""Counts (int64, 8 bytes each) of the resamples that are in memory together: 8 MB, so that 400
classes need no more memory than 4."""


@dataclass(frozen=True)
class Bin:
    """The samples whose confidence is in (low, high]: mean confidence and share that is right.

    Both are 0 where ``count`` is.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(labels: NDArray[Any], probabilities: NDArray[Any], bins: int = BINS) -> list[Bin]:
    """Bins of equal width of the confidence, which is the highest probability of a sample.

    ``labels`` int (N,), ``probabilities`` (N, K).
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    edges = np.arange(bins + 1) / bins
    place = np.searchsorted(edges[1:-1], confidence)  # the same numbers as in the bins themselves
    found = []
    for index, (low, high) in enumerate(pairwise(edges.tolist())):
        inside = place == index
        count = int(inside.sum())
        mean_confidence = float(confidence[inside].mean()) if count else 0.0
        accuracy = float(right[inside].mean()) if count else 0.0
        found.append(Bin(low, high, count, mean_confidence, accuracy))
    return found


def expected_calibration_error(bins: list[Bin]) -> float:
    """ECE (Guo et al.): the mean distance of confidence and accuracy of a sample's bin, over the
    samples; 0 without any."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.confidence - one.accuracy) for one in bins) / max(total, 1)


def bootstrap_intervals(
    labels: NDArray[Any],
    predictions: NDArray[Any],
    num_classes: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of "accuracy" and "f1_macro" (as metrics.classification_metrics: of each
    draw over the classes that occur in it).

    Videos are drawn with replacement ``resamples`` times (Efron and Tibshirani, An Introduction to
    the Bootstrap, 1993). They say how far the numbers may come from the choice of these videos, if
    each was chosen by itself; of another training they say nothing. With few videos they are too
    narrow, and where all are right, or all wrong, they have no width. ``labels`` and
    ``predictions`` are class indices (N,). Empty where N or ``resamples`` is 0.
    """
    if not len(labels) or not resamples:
        return {}
    rng = np.random.default_rng(seed)
    cells = labels.astype(np.int64) * num_classes + predictions
    used, counts = np.unique(cells, return_counts=True)
    truth, guess = used // num_classes, used % num_classes
    diagonal = truth == guess
    accuracy, f1 = np.empty(resamples), np.empty(resamples)
    at_once = max(1, NUMBERS_AT_ONCE // (len(used) + num_classes))
    for first in range(0, resamples, at_once):
        draws = slice(first, min(first + at_once, resamples))
        # How often each cell of the confusion matrix comes up among N draws, (draws, cells).
        times = rng.multinomial(len(labels), counts / len(labels), draws.stop - first)
        in_class = _sums(times, truth, num_classes) + _sums(times, guess, num_classes)
        right = _sums(times[:, diagonal], truth[diagonal], num_classes)
        accuracy[draws] = right.sum(axis=1) / len(labels)
        # Over the classes that the draw has: what it leaves out is in no average of it.
        present = (in_class > 0).sum(axis=1)
        f1[draws] = (2 * right / np.maximum(in_class, 1)).sum(axis=1) / present
    low, high = np.quantile([accuracy, f1], [(1 - level) / 2, (1 + level) / 2], axis=1).tolist()
    return {"accuracy": (low[0], high[0]), "f1_macro": (low[1], high[1])}


def group_intervals(
    labels: NDArray[Any],
    predictions: NDArray[Any],
    groups: NDArray[Any],
    num_classes: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """As `bootstrap_intervals`, but whole groups are drawn: videos of one recording resemble each
    other, and intervals that take them as independent are too narrow.

    ``groups`` (N,): any numbers that tell them apart. Empty where there are fewer than two groups.
    """
    _, codes = np.unique(groups, return_inverse=True)
    count = int(codes.max()) + 1 if len(codes) else 0
    if count < 2 or not resamples:
        return {}
    of_groups = np.zeros((3, count, num_classes), np.int64)  # labels, predictions, right ones
    np.add.at(of_groups[0], (codes, labels), 1)
    np.add.at(of_groups[1], (codes, predictions), 1)
    hits = labels == predictions
    np.add.at(of_groups[2], (codes[hits], labels[hits]), 1)
    rng = np.random.default_rng(seed)
    accuracy, f1 = np.empty(resamples), np.empty(resamples)
    at_once = max(1, NUMBERS_AT_ONCE // (count + 3 * num_classes))
    for first in range(0, resamples, at_once):
        draws = slice(first, min(first + at_once, resamples))
        times = rng.multinomial(count, np.full(count, 1 / count), draws.stop - first)
        truth, guess, right = (times @ part for part in of_groups)
        accuracy[draws] = right.sum(axis=1) / truth.sum(axis=1)
        present = (truth + guess > 0).sum(axis=1)
        f1[draws] = (2 * right / np.maximum(truth + guess, 1)).sum(axis=1) / present
    low, high = np.quantile([accuracy, f1], [(1 - level) / 2, (1 + level) / 2], axis=1).tolist()
    return {"accuracy": (low[0], high[0]), "f1_macro": (low[1], high[1])}


def with_interval(value: float, interval: Sequence[float] | None, over: str) -> str:
    """A score with its 95 % interval, if any, for people; ``over``: "videos" or "groups"."""
    if interval is None:
        return f"{value:.4f}"
    low, high = interval
    return f"{value:.4f} (95 %, over {over}: {low:.4f} to {high:.4f})"


def scores_line(
    scores: Mapping[str, float], intervals: Mapping[str, Sequence[float]], over: str
) -> str:
    """Accuracy and macro-F1 with their intervals, as `with_interval`."""
    shown = (
        f"{words} {with_interval(scores[name], intervals.get(name), over)}"
        for name, words in (("accuracy", "accuracy"), ("f1_macro", "macro-F1"))
    )
    return ", ".join(shown)


def _sums(
    times: NDArray[np.int64], classes: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """The columns of ``times`` (R, C) added up by their class (C,): (R, num_classes)."""
    sums = np.zeros((len(times), num_classes), np.int64)
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    if len(present):
        sums[:, present] = np.add.reduceat(times[:, order], starts, axis=1)
    return sums
