"""Events found in time, as detections: average precision at a temporal IoU, and how far their ends
are off.

As ActivityNet's own evaluation computes it (Caba Heilbron et al., ActivityNet, CVPR 2015;
Evaluation/eval_detection.py of the challenge's toolkit). Pure functions of arrays in seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.segmentation import macro_of
from slowfast_dist.metrics.uncertainty import NUMBERS_AT_ONCE

AVERAGED_IOUS = np.linspace(0.5, 0.95, 10)
"""Temporal IoUs whose mean average precisions ActivityNet averages, as it computes them."""

IOUS = np.array([0.3, *AVERAGED_IOUS])
"""All temporal IoUs (T,) at which events are matched; .3 is THUMOS's least that papers compare."""

EVENT_IOU = 0.3
"""Temporal IoU from which a found event is taken for the true one when errors of onset and offset
are measured: a stricter one would leave out those that are far off."""


@dataclass(frozen=True)
class Events:
    """N stretches of time with a class: ``files`` and ``labels`` int (N,), ``bounds`` float64
    (N, 2), seconds of start and end; ``scores`` (N,), which rank those that a model found."""

    files: NDArray[np.int64]
    labels: NDArray[np.int64]
    bounds: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.files)

    def select(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Events":
        return Events(self.files[rows], self.labels[rows], self.bounds[rows], self.scores[rows])


def temporal_iou(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N, M) of stretches (N, 2) and (M, 2): the time that both cover over the time of either."""
    starts = np.maximum(first[:, None, 0], second[None, :, 0])
    ends = np.minimum(first[:, None, 1], second[None, :, 1])
    shared = np.clip(ends - starts, 0, None)
    lengths = np.diff(first)[:, 0][:, None] + np.diff(second)[:, 0][None]
    return shared / np.maximum(lengths - shared, np.finfo(np.float64).tiny)


def by_score(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """(N,) the highest first; of equal ones the last, as a sorted list turned round has it."""
    return np.argsort(scores, kind="stable")[::-1]


def match(truth: Events, found: Events, ious: NDArray[np.float64] = IOUS) -> NDArray[np.int64]:
    """(T, N): which event of the truth each of the N found ones is taken for at each of T temporal
    IoUs, -1 for none.

    File by file and class by class, the highest score first, each takes the true event with which
    it shares the most among those that no one took yet, if that is at least the temporal IoU.
    """
    taken_for = np.full((len(ious), len(found)), -1, np.int64)
    true_rows = dict(_rows_by_file_and_class(truth))
    for key, rows in _rows_by_file_and_class(found):
        if key not in true_rows:
            continue
        rows, others = rows[by_score(found.scores[rows])], true_rows[key]
        shares = temporal_iou(found.bounds[rows], truth.bounds[others])
        free = np.ones((len(ious), len(others)), np.bool_)
        each = np.arange(len(ious))
        for row, share in zip(rows.tolist(), shares, strict=True):
            left = np.where(free, share, -1.0)
            best = len(others) - 1 - left[:, ::-1].argmax(axis=1)  # of equal ones the last
            good = left[each, best] >= ious
            free[each[good], best[good]] = False
            taken_for[good, row] = others[best[good]]
    return taken_for


def _rows_by_file_and_class(events: Events) -> Iterator[tuple[tuple[int, int], NDArray[np.int64]]]:
    order = np.lexsort((events.labels, events.files))
    keys = np.stack([events.files[order], events.labels[order]], axis=1)
    cuts = np.flatnonzero((np.diff(keys, axis=0) != 0).any(axis=1)) + 1
    for rows in np.split(order, cuts):
        if len(rows):
            yield (int(events.files[rows[0]]), int(events.labels[rows[0]])), rows


def average_precisions(
    hits: NDArray[np.bool_], weights: NDArray[np.float64], positives: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(D, T) of one class: of N found events, the highest score first, which are right at T
    temporal IoUs, ``hits`` (T, N); in each of D draws the found events count ``weights`` (D, N)
    times and there are ``positives`` (D,) true ones. NaN in a draw without a true one.

    Interpolated as in Pascal VOC 2011: at each recall the highest precision from there on.
    """
    total = np.cumsum(weights, axis=1)[:, None]
    right = np.cumsum(hits[None] * weights[:, None], axis=2)
    precision = right / np.maximum(total, 1)  # all 0 before the first that counts
    highest = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]
    gained = (hits[None] * weights[:, None] * highest).sum(axis=2)
    with np.errstate(invalid="ignore"):
        return np.where(
            positives[:, None] > 0, gained / np.maximum(positives[:, None], 1), np.nan
        )


@dataclass(frozen=True)
class DetectionScores:
    """``by_class`` float64 (K, T): the average precision of each class at each of IOUS, NaN where
    the truth has none of it; ``draws`` (D, T): mean average precisions of the bootstrap's draws,
    NaN where one has no true event."""

    by_class: NDArray[np.float64]
    draws: NDArray[np.float64]

    @property
    def means(self) -> NDArray[np.float64]:
        """(T,): over the classes that the truth has, at each of IOUS; 0 where it has none."""
        return macro_of(self.by_class.T)


def score_detections(
    truth: Events, found: Events, matches: NDArray[np.int64], classes: int,
    draws: NDArray[np.float64],
) -> DetectionScores:  # fmt: skip
    """``matches`` as `match` gives them; ``draws`` (D, F): how often each file counts in each draw
    of a bootstrap over recordings."""
    all_once = np.ones((1, draws.shape[1]))
    by_class = np.full((classes, len(IOUS)), np.nan)
    sums = np.zeros((len(draws), len(IOUS)))
    counts = np.zeros((len(draws), 1))
    for label in range(classes):
        rows = np.flatnonzero(found.labels == label)
        rows = rows[by_score(found.scores[rows])]
        hits, files = matches[:, rows] >= 0, found.files[rows]
        true_files = truth.files[truth.labels == label]
        if not len(true_files):
            continue
        by_class[label] = average_precisions(
            hits, all_once[:, files], all_once[:, true_files].sum(axis=1)
        )[0]
        at_once = max(1, NUMBERS_AT_ONCE // max(1, hits.size, len(true_files)))
        for first in range(0, len(draws), at_once):
            part = slice(first, first + at_once)
            precisions = average_precisions(
                hits, draws[part][:, files], draws[part][:, true_files].sum(axis=1)
            )
            there = ~np.isnan(precisions)
            sums[part] += np.where(there, precisions, 0.0)
            counts[part] += there[:, :1]
    with np.errstate(invalid="ignore"):
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return DetectionScores(by_class, means)


def boundary_errors(
    truth: Events, found: Events, taken_for: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(M, 2): seconds by which onset and offset of the M found events that were taken for one of
    the truth, ``taken_for`` (N,), are late; early ones are below 0."""
    rows = np.flatnonzero(taken_for >= 0)
    return found.bounds[rows] - truth.bounds[taken_for[rows]]
