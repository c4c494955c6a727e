"""Which videos look alike: their fingerprints compared, without reading them again.

What changes from frame to frame tells a copy from another clip before the same background.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.commands.check.fingerprint import BACKGROUND_CELLS, Fingerprints

COPY_BITS = 10.0
"""Bits of 64 in which the hashes of two copies' frames differ at most, on average. Real clips
encoded anew (down to .35 of the size at CRF 38, brightness from .6 to 1.3) had medians of 1 to 6
bits, different clips of one recording 18 and more."""

COPY_CORRELATION = 0.95
"""Correlation that the changes from frame to frame of two copies have at least. The clips encoded
anew that are named above had medians of .97 to 1.00."""

CELL_CONTRAST = 12
"""Grey levels by which a cell must differ from its picture's median to count where backgrounds are
compared: the black margins that many videos have would agree in all of them."""

CELL_TOLERANCE = 8
"""Grey levels by which a cell of the same background may differ: as much as compression changes."""

SAME_BACKGROUND_SHARE = 0.6
"""Share of the counted cells that must agree for two backgrounds to be the same: what moves before
them may cover the rest."""

LEAST_COMMON_FRAMES = 3
"""Frames, of the five of a video, that must show something in both of two videos to compare them:
fewer agree by chance."""

BANDS = 4
"""Parts of 16 bits into which a hash of 64 is divided: only videos that agree in one of the parts
are compared, which sorting finds without trying all pairs."""

REACH = 32
"""Videos with the same part of a hash with which each is compared at most: without a limit a
thousand black frames would make a million pairs."""


Hashes = NDArray[np.uint64]
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

Pairs = NDArray[np.int64]
"""(P, 2): row numbers of two videos, the smaller first."""


def find_near_copies(videos: Fingerprints) -> Pairs:
    """Pairs that show the same at the same fractions of their length.

    Found are those that agree in 16 bits in a row of one frame's hash: for 5 frames of 64 bits with
    6 of them wrong 99 in 100. A copy that is cut shorter, mirrored or framed anew is not found.
    """
    found = [np.empty((0, 2), np.int64)]
    hashes, known = (np.ascontiguousarray(videos[name]) for name in ("frames", "textured"))
    for place in range(hashes.shape[1]):
        for pairs in _candidates(hashes[:, place], known[:, place]):
            first, second = pairs.T
            both = known[first] & known[second]
            common = both.sum(1)
            bits = np.where(both, np.bitwise_count(hashes[first] ^ hashes[second]), 0).sum(1)
            alike = bits / np.maximum(common, 1) <= COPY_BITS
            pairs = pairs[(common >= LEAST_COMMON_FRAMES) & alike]
            one, other = (videos["changes"][rows].astype(np.float32) for rows in pairs.T)
            norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            # Of two in which nothing happens, as before a camera on a stand, equal pictures say
            # nothing: their norms are 0.
            found.append(pairs[(one * other).sum(1) > COPY_CORRELATION * norms])
    return np.unique(np.concatenate(found), axis=0)


def same_background(videos: Fingerprints, first: Rows, second: Rows) -> Mask:
    """(P,): whether the videos of each pair have the same background behind what moves before it.

    So it is where most of the picture that shows something, of either, is of the same brightness.
    """
    one, other = (videos["place"][rows].astype(np.int16) for rows in (first, second))
    shows = np.zeros(one.shape, bool)
    for place in (one, other):
        shows |= np.abs(place - np.median(place, axis=1, keepdims=True)) > CELL_CONTRAST
    agree = (np.abs(one - other) <= CELL_TOLERANCE) & shows
    enough = shows.sum(1) >= BACKGROUND_CELLS * BACKGROUND_CELLS / 4
    return enough & (agree.sum(1) >= SAME_BACKGROUND_SHARE * np.maximum(shows.sum(1), 1))


def _candidates(hashes: Hashes, known: Mask) -> Iterator[Pairs]:
    """Pairs whose hashes agree in one of BANDS parts: sorting in place of all pairs."""
    rows = np.flatnonzero(known)
    for band in range(BANDS):
        parts = (hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = rows[np.lexsort((hashes[rows], parts[rows]))]
        for reach in range(1, min(REACH, len(order) - 1) + 1):
            pairs = np.stack((order[:-reach], order[reach:]), axis=1)
            pairs = pairs[parts[pairs[:, 0]] == parts[pairs[:, 1]]]
            if not len(pairs):
                break  # in sorted order a longer reach finds no more
            yield np.sort(pairs, axis=1)


def clusters(pairs: Pairs, total: int) -> list[list[int]]:
    """The videos that pairs connect, directly or not: sorted, with at least two each."""
    parent = list(range(total))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for first, second in pairs.tolist():
        parent[root(second)] = root(first)
    members: dict[int, list[int]] = {}
    for row in np.unique(pairs).tolist():
        members.setdefault(root(row), []).append(row)
    return sorted(members.values())
