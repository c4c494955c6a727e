"""Which rows of features are nearest to each, among rows of other groups: those of one recording
resemble each other, whatever they show."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_NEIGHBOURS = 10
"""Nearest clips that are asked of a label at most: a number out of ten is read at a glance."""

LEAST_NEIGHBOURS = 3
"""Nearest clips that are asked at least: of fewer no majority says more than a single clip."""

ROWS_AT_ONCE = 512
"""Rows whose similarities to all others are held at one time: 10 MB at 5,000 rows."""

Numbers = NDArray[np.int64]


def neighbour_count(labels: Numbers) -> int:
    """How many nearest clips to ask: half as many as a class has on average, so that an average
    class could fill them all, from LEAST_NEIGHBOURS to MOST_NEIGHBOURS."""
    half = len(labels) // (2 * max(1, len(np.unique(labels))))
    return min(max(half, LEAST_NEIGHBOURS), MOST_NEIGHBOURS)


def nearest_rows(features: NDArray[Any], groups: Numbers, count: int) -> Numbers:
    """(N, count): the rows nearest to each row of ``features`` (N, F) by the angle, the nearest
    first, among those of other ``groups`` (N,); -1 where there are no more.

    A row that is not finite, or 0 and so without an angle, has none and is none. As scikit-learn's
    NearestNeighbors with metric="cosine", fitted to the rows of the other groups, without a fit for
    each group: there may be as many as rows.
    """
    lengths = np.linalg.norm(features.astype(np.float32), axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        unit = features / np.where(lengths > 0, lengths, np.nan)
    found = np.full((len(unit), count), -1, np.int64)
    most = min(count, len(unit))
    for first in range(0, len(unit), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        with np.errstate(invalid="ignore"):
            likeness = unit[rows] @ unit.T
        likeness[(groups[rows, None] == groups) | ~np.isfinite(likeness)] = -np.inf
        nearest = np.argpartition(-likeness, most - 1, axis=1)[:, :most]
        near = np.take_along_axis(likeness, nearest, axis=1)
        order = np.argsort(-near, axis=1, kind="stable")
        nearest = np.take_along_axis(nearest, order, axis=1)
        near = np.take_along_axis(near, order, axis=1)
        found[rows, :most] = np.where(np.isfinite(near), nearest, -1)
    return found


def count_labels(nearest: Numbers, labels: Numbers, classes: int) -> Numbers:
    """(M, K): how many of the rows ``nearest`` to each of M, (M, count) with -1 for none, have
    which of the ``labels`` (N,) of all."""
    rows, places = np.nonzero(nearest >= 0)
    cells = rows * classes + labels[nearest[rows, places]]
    return np.bincount(cells, minlength=len(nearest) * classes).reshape(len(nearest), classes)
