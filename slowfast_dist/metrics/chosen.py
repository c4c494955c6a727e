"""How good the best of several models is, whose score is flattered by the choice among them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.uncertainty import RESAMPLES


@dataclass(frozen=True)
class Corrected:
    """A macro-F1 without the flattery of a choice, its 95 % interval, and the number of models that
    were chosen from."""

    f1_macro: float
    interval: tuple[float, float]
    models: int


def corrected_for_choice(
    labels: NDArray[Any], predictions: NDArray[Any], groups: NDArray[Any], num_classes: int,
    resamples: int = RESAMPLES, seed: int = 0,
) -> Corrected | None:  # fmt: skip
    """The macro-F1 to expect of "take the best of these C models by their out-of-fold predictions".

    ``labels`` (N,), ``predictions`` (C, N) class indices, ``groups`` (N,) any numbers. Groups are
    drawn with replacement, the best model by what was drawn is scored on the groups that were not,
    and all draws are averaged: BBC-CV of Tsamardinos, Greasidou and Borboudakis, Bootstrapping the
    out-of-sample predictions for efficient and accurate cross-validation (Machine Learning, 2018).
    None where there are fewer than two models or groups.
    """
    _, codes = np.unique(groups, return_inverse=True)
    count = int(codes.max()) + 1 if len(codes) else 0
    if count < 2 or len(predictions) < 2:
        return None
    parts = [_of_groups(labels, one, codes, count, num_classes) for one in predictions]
    times = _draws(count, resamples, seed)
    times = times[(times == 0).any(axis=1)]
    inside = np.stack([_f1(times, part) for part in parts])  # (C, R)
    outside = np.stack([_f1((times == 0).astype(np.int64), part) for part in parts])
    found = outside[inside.argmax(axis=0), np.arange(len(times))]
    low, high = np.quantile(found, [0.025, 0.975]).tolist()
    return Corrected(float(found.mean()), (low, high), len(predictions))


def paired_interval(
    labels: NDArray[Any], one: NDArray[Any], other: NDArray[Any], groups: NDArray[Any],
    num_classes: int, resamples: int = RESAMPLES, seed: int = 0,
) -> tuple[float, float] | None:  # fmt: skip
    """95 % interval of the macro-F1 of predictions ``one`` (N,) less that of ``other`` (N,), of the
    same videos, by bootstrap over groups; None where there are fewer than two groups."""
    _, codes = np.unique(groups, return_inverse=True)
    count = int(codes.max()) + 1 if len(codes) else 0
    if count < 2:
        return None
    times = _draws(count, resamples, seed)
    first, second = (_f1(times, _of_groups(labels, guess, codes, count, num_classes))
                     for guess in (one, other))  # fmt: skip
    low, high = np.quantile(first - second, [0.025, 0.975]).tolist()
    return low, high


def _draws(count: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """(R, G): how often each group is in each draw."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), resamples)


def _of_groups(
    labels: NDArray[Any], predictions: NDArray[Any], codes: NDArray[Any], count: int,
    num_classes: int,
) -> NDArray[np.int64]:  # fmt: skip
    """(3, G, K): labels, predictions and right ones of each group."""
    found = np.zeros((3, count, num_classes), np.int64)
    np.add.at(found[0], (codes, labels), 1)
    np.add.at(found[1], (codes, predictions), 1)
    hits = labels == predictions
    np.add.at(found[2], (codes[hits], labels[hits]), 1)
    return found


def _f1(times: NDArray[np.int64], parts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(R,): macro-F1 of each draw, over the classes that occur in it."""
    truth, guess, right = (times @ part for part in parts)
    present = np.maximum((truth + guess > 0).sum(axis=1), 1)
    return (2 * right / np.maximum(truth + guess, 1)).sum(axis=1) / present
