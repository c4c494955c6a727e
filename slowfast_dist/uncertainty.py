"""How far a model's numbers can be trusted: calibration, and bootstrap confidence intervals.

Pure functions of arrays that were gathered from all processes before.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Bins of confidence, as in Guo et al., On Calibration of Modern Neural Networks (ICML 2017)."""
RESAMPLES = 1000


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


def reliability(
    labels: NDArray[Any], probabilities: NDArray[Any], bins: int = BINS
) -> list[Bin]:
    """Bins of equal width of the confidence, which is the highest probability of a sample.

    ``labels`` int (N,), ``probabilities`` (N, K).
    """
    confidence = probabilities.max(axis=1, initial=0.0)
    right = probabilities.argmax(axis=1) == labels if len(labels) else np.empty(0, bool)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    found = []
    for index in range(bins):
        inside = place == index
        count = int(inside.sum())
        mean_confidence = float(confidence[inside].mean()) if count else 0.0
        accuracy = float(right[inside].mean()) if count else 0.0
        found.append(Bin(index / bins, (index + 1) / bins, count, mean_confidence, accuracy))
    return found


def expected_calibration_error(bins: list[Bin]) -> float:
    """ECE: the mean distance of confidence and accuracy over the samples; 0 without any."""
    total = sum(one.count for one in bins)
    apart = sum(one.count * abs(one.confidence - one.accuracy) for one in bins)
    return apart / max(total, 1)


def bootstrap_intervals(
    labels: NDArray[Any],
    predictions: NDArray[Any],
    num_classes: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of "accuracy" and "f1_macro" (as metrics.classification_metrics).

    Videos are drawn with replacement ``resamples`` times (Efron and Tibshirani, 1993). ``labels``
    and ``predictions`` are class indices (N,). Empty where N or ``resamples`` is 0.
    """
    if not len(labels) or not resamples:
        return {}
    rng = np.random.default_rng(seed)
    cells = labels.astype(np.int64) * num_classes + predictions
    used, counts = np.unique(cells, return_counts=True)
    truth, guess = used // num_classes, used % num_classes
    accuracy, f1 = np.empty(resamples), np.empty(resamples)
    for draw in range(resamples):
        # How often each cell of the confusion matrix comes up among N draws.
        times = rng.multinomial(len(labels), counts / len(labels))
        support = np.bincount(truth, times, num_classes)
        predicted = np.bincount(guess, times, num_classes)
        right = np.bincount(truth[truth == guess], times[truth == guess], num_classes)
        accuracy[draw] = right.sum() / len(labels)
        f1[draw] = np.mean(2 * right / np.maximum(support + predicted, 1))
    tails = [(1 - level) / 2, (1 + level) / 2]
    found = {"accuracy": accuracy, "f1_macro": f1}
    return {
        name: (float(low), float(high))
        for name, (low, high) in ((name, np.quantile(v, tails)) for name, v in found.items())
    }
