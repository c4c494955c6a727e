"""Labels of every frame, as in temporal action segmentation: edit score, segmental F1, and the
confusion of frames.

Lea et al., Temporal Convolutional Networks for Action Segmentation and Detection (CVPR 2017), as
MS-TCN's evaluation computes them (Abu Farha and Gall, CVPR 2019). Pure functions of arrays.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

OVERLAPS = (0.10, 0.25, 0.50)
"""Shares of frames in common from which a run of frames is right: F1@10, F1@25 and F1@50."""


def frame_labels(
    frames: int, spans: NDArray[np.int64], labels: NDArray[np.int64], none: int,
    background: int | None = None,
) -> NDArray[np.int64]:  # fmt: skip
    """(frames,): the label of each frame of a file, ``none`` where no segment has it.

    ``spans`` (S, 2): the first frame of each segment and the one behind its last. Where segments
    overlap, the one that begins last has the frame; of several the one that ends first. One of the
    class ``background`` has no frame of another.
    """
    found = np.full(frames, none, np.int64)
    over = labels != (-1 if background is None else background)
    for row in np.lexsort((-spans[:, 1], spans[:, 0], over)).tolist():
        first, end = spans[row].tolist()
        found[first:end] = labels[row]
    return found


def runs_of(labels: NDArray[np.int64], ignored: Sequence[int]) -> NDArray[np.int64]:
    """(R, 3): label, first frame and the frame behind the last of each run of equal ``labels``
    (N,), without those of ``ignored`` labels, as the background is in MS-TCN."""
    if not len(labels):
        return np.empty((0, 3), np.int64)
    firsts = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1])
    ends = np.append(firsts[1:], len(labels))
    runs = np.stack([labels[firsts], firsts, ends], axis=1)
    return runs[~np.isin(runs[:, 0], ignored)]


def edit_score(truth: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """1 less the Levenshtein distance of two orders of labels, (R,) and (S,), over the length of
    the longer one; 1 where both are empty."""
    longer = max(len(truth), len(found))
    if not longer:
        return 1.0
    places = np.arange(len(found) + 1)
    row = places.astype(np.float64)
    for number, label in enumerate(truth.tolist(), 1):
        # Without a label of the truth, or with one in place of another; then those put in between.
        nearest = np.minimum(row[1:] + 1, row[:-1] + (found != label))
        row = np.concatenate([[number], nearest])
        row = np.minimum.accumulate(row - places) + places
    return 1.0 - float(row[-1]) / longer


def overlap_counts(
    truth: NDArray[np.int64], found: NDArray[np.int64], overlaps: Sequence[float] = OVERLAPS
) -> NDArray[np.int64]:
    """(O, 3): right runs, wrong ones and missed ones at each overlap, of runs as `runs_of` has
    them.

    In their order, each found run is held against the run of its class that it shares most with;
    it is right where it shares enough and nothing before it was right there.
    """
    counts = np.zeros((len(overlaps), 3), np.int64)
    counts[:, 2] = len(truth)
    taken = np.zeros((len(overlaps), len(truth)), np.bool_)
    for label, first, end in found.tolist():
        good = np.zeros(len(overlaps), np.bool_)
        if len(truth):
            shared = np.minimum(end, truth[:, 2]) - np.maximum(first, truth[:, 1])
            either = np.maximum(end, truth[:, 2]) - np.minimum(first, truth[:, 1])
            share = shared / either * (truth[:, 0] == label)
            best = int(share.argmax())
            good = (share[best] >= np.array(overlaps)) & ~taken[:, best]
            taken[good, best] = True
        counts[:, 0] += good
        counts[:, 1] += ~good
    counts[:, 2] -= counts[:, 0]
    return counts


def f1_of(counts: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
    """(...,) of right, wrong and missed ones (..., 3): the harmonic mean of precision and recall, 0
    where nothing is right."""
    right, wrong, missed = np.moveaxis(counts, -1, 0)
    return 2 * right / np.maximum(2 * right + wrong + missed, 1)


def confusion_of(
    truth: NDArray[np.int64], found: NDArray[np.int64], size: int,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:  # fmt: skip
    """(size, size): how many frames, or how much of their ``weights`` (N,), have a true label (row)
    and a predicted one (column), each below ``size``."""
    cells = truth * size + found
    return np.bincount(cells, weights, size * size).astype(np.float64).reshape(size, size)


def class_counts(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, K) of a confusion (K, K): what is right of each class, what is truly of it, and what was
    said to be."""
    return np.stack([np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)])


def class_f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., K) of `class_counts` (..., 3, K); NaN for a class that is neither the label nor the
    prediction of anything."""
    right, true, said = np.moveaxis(counts, -2, 0)
    either = true + said
    return np.where(either > 0, 2 * right / np.where(either > 0, either, 1), np.nan)


def macro_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(...,) of (..., K): the mean over the classes that are not NaN; 0 where all are."""
    there = ~np.isnan(values)
    return np.asarray(
        np.where(there, values, 0.0).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)
    )
