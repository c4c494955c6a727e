"""Scores of a model that gives several labels a clip: N samples, K classes, a sigmoid for each.

Labels and decisions are bool (N, K), probabilities float64 (N, K). Pure functions of arrays that
were gathered from all processes before.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.scores import MACRO_CLASSES, METRICS, PER_CLASS, ClassScores
from slowfast_dist.metrics.uncertainty import NUMBERS_AT_ONCE, RESAMPLES

UNCHOSEN = 0.5
"""Threshold of a class that has no sample in the validation: nothing tells a better one, and at one
half a probability says that the class is there."""

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


def log_sigmoid(logits: NDArray[Any]) -> Floats:
    """Logarithms of the probabilities, of any shape; exact where a sigmoid rounds to 0 or 1."""
    return -np.logaddexp(0.0, -logits.astype(np.float64))


def sigmoid(logits: NDArray[Any]) -> Floats:
    return np.exp(log_sigmoid(logits))


def average_views(logits: NDArray[Any]) -> Floats:
    """The views of N samples, logits (N, V, K), as one: logits (N, K) of which the sigmoid is the
    mean of the views' sigmoids. With one view they are that view's logits themselves."""
    if logits.shape[1] == 1:
        return logits[:, 0].astype(np.float64)
    yes, no = log_sigmoid(logits), log_sigmoid(-logits)
    return np.logaddexp.reduce(yes, axis=1) - np.logaddexp.reduce(no, axis=1)


def losses(logits: NDArray[Any], labels: Flags) -> Floats:
    """Binary cross-entropy of each sample, the mean over its classes, (N,): no smoothing."""
    return -log_sigmoid(np.where(labels, logits, -logits)).mean(axis=1)


def choose_thresholds(labels: Flags, probabilities: Floats) -> tuple[float, ...]:
    """For each class the probability from which on it is said to be there: where its F1 is highest.

    A threshold lies in the middle between two neighbouring probabilities of the samples, or between
    the lowest one and 0. Of several that are as good it is the highest, the one that says a class
    least often. UNCHOSEN for a class of which there is no sample, and where probabilities are no
    numbers.
    """
    if not len(labels) or not np.isfinite(probabilities).all():
        return (UNCHOSEN,) * labels.shape[1]
    return tuple(_threshold(*column) for column in zip(labels.T, probabilities.T, strict=True))


def _threshold(labels: Flags, probabilities: Floats) -> float:
    positives = int(labels.sum())
    if not positives:
        return UNCHOSEN
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of each probability
    right, said = np.cumsum(labels[order])[last], last + 1
    best = int(np.argmax(2 * right / (said + positives)))  # of equal ones the first: the highest
    here = float(ranked[last[best]])
    below = float(ranked[last[best] + 1]) if best + 1 < len(last) else 0.0
    middle = (here + below) / 2
    return middle if below < middle else here  # of two floats that are neighbours


def decide(probabilities: Floats, thresholds: Sequence[float]) -> Flags:
    """Which classes are said to be there (N, K): those at their threshold or above it."""
    return probabilities >= np.asarray(thresholds)


def metrics(
    labels: Flags, probabilities: Floats, decisions: Flags | None
) -> dict[str, float]:
    """By their names below train/ and val/: map_macro and map_micro (mean average precision), and
    with ``decisions``, which classes are said to be there, those of METRICS and f1_micro.

    accuracy is the share of the samples of which every class is right. map_macro is the mean over
    the classes that have a sample, of the others there is no precision; f1_macro and its like as in
    `scores.classification_metrics`. All are 0 where N is 0, NaN where probabilities are no numbers.
    """
    known = _average_precisions(labels, probabilities)
    found = {
        "map_macro": float(known[1].mean()) if len(known[0]) else 0.0,
        "map_micro": _average_precision(labels.ravel(), probabilities.ravel()),
    }
    if decisions is None:
        return found
    scores = _class_scores(labels, decisions)
    values = {name: metric(scores) for name, metric in METRICS.items()}
    named = {name: value for name, value in values.items() if value is not None}
    right, both = int((labels & decisions).sum()), int(labels.sum()) + int(decisions.sum())
    found |= named | {"f1_micro": 2 * right / max(both, 1)}
    return found | {MACRO_CLASSES: int(scores.occurs.sum())}


def _average_precisions(labels: Flags, probabilities: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The classes that have a sample, (C,), and the average precision of each."""
    classes = np.flatnonzero(labels.any(axis=0))
    columns = zip(labels.T[classes], probabilities.T[classes], strict=True)
    return classes, np.array([_average_precision(*column) for column in columns], np.float64)


def _average_precision(labels: Flags, probabilities: Floats) -> float:
    if not labels.any():
        return 0.0
    if not np.isfinite(probabilities).all():  # which scikit-learn refuses
        return float("nan")
    from sklearn.metrics import average_precision_score  # a second of imports

    return float(average_precision_score(labels, probabilities))


def _class_scores(labels: Flags, decisions: Flags) -> ClassScores:
    right, support = (labels & decisions).sum(axis=0), labels.sum(axis=0)
    said = decisions.sum(axis=0)
    return ClassScores(
        samples=len(labels), right=int((labels == decisions).all(axis=1).sum()), top5_hits=None,
        precision=right / np.maximum(said, 1), recall=right / np.maximum(support, 1),
        f1=2 * right / np.maximum(said + support, 1), support=support,
        occurs=(said > 0) | (support > 0),
    )  # fmt: skip


def per_class(
    labels: Flags, decisions: Flags, classes: Sequence[str],
    probabilities: Floats | None = None, thresholds: Sequence[float] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """For each class the values of PER_CLASS, and, where they are given, its average precision
    (None without a sample) and its threshold."""
    scores = _class_scores(labels, decisions)
    columns = (scores.precision, scores.recall, scores.f1, scores.support)
    rows = zip(classes, *(column.tolist() for column in columns), strict=True)
    found = [dict[str, Any](zip(PER_CLASS, row, strict=True)) for row in rows]
    if probabilities is not None:
        known = _average_precisions(labels, probabilities)
        values = dict(zip(known[0].tolist(), known[1].tolist(), strict=True))
        for place, row in enumerate(found):
            row["average_precision"] = values.get(place)
    for row, threshold in zip(found, thresholds or (), strict=False):
        row["threshold"] = threshold
    return found


def bootstrap_intervals(
    labels: Flags, decisions: Flags, resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """As `uncertainty.bootstrap_intervals`: of "accuracy", all classes of a sample right, and of
    "f1_macro", over draws of samples with replacement."""
    count = len(labels)
    if not count or not resamples:
        return {}
    rng = np.random.default_rng(seed)
    columns = labels.any(axis=0) | decisions.any(axis=0)  # no draw has a class that none has
    right = (labels & decisions)[:, columns].astype(np.float32)
    either = labels[:, columns].astype(np.float32) + decisions[:, columns]
    whole = (labels == decisions).all(axis=1).astype(np.float32)
    accuracy, f1 = np.empty(resamples), np.empty(resamples)
    at_once = max(1, NUMBERS_AT_ONCE // count)
    for first in range(0, resamples, at_once):
        draws = slice(first, min(first + at_once, resamples))
        size = draws.stop - first
        times = rng.multinomial(count, np.full(count, 1 / count), size).astype(np.float32)
        accuracy[draws] = times @ whole / count
        both = times @ either
        found = 2 * (times @ right) / np.maximum(both, 1)
        f1[draws] = found.sum(axis=1) / np.maximum((both > 0).sum(axis=1), 1)
    low, high = np.quantile([accuracy, f1], [(1 - level) / 2, (1 + level) / 2], axis=1).tolist()
    return {"accuracy": (low[0], high[0]), "f1_macro": (low[1], high[1])}

