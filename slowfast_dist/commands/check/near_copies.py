"""Which videos look alike: their looks compared, without reading them again.

What changes from frame to frame tells a copy from another clip before the same background.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.commands.check.fingerprint import BINS, CHANGE_CELLS, PLACE_CELLS, PLACES

COPY_BITS, COPY_CHANGES = 10.0, 0.95
"""Of a copy: mean distance of the frames at most, of 64 bits, and correlation of the changes at
least. Real clips encoded anew (down to .35 of the size at CRF 38, brightness from .6 to 1.3) had
medians of 1 to 6 bits and of .97 to 1.00; different ones of a recording 18 bits and more."""

CELL_CONTRAST, CELL_LEVELS, PLACE_SHARE = 12, 8, 0.6
"""Of the same place at least this share of the cells is within so many grey levels; only cells that
differ from the picture's median by the contrast count, as black margins agree in all videos."""

COMMON = 3
"""Frames that both must show something in, to be compared."""

BANDS = 4
"""Parts of 16 bits of a hash: only videos that agree in one of them are compared."""

REACH = 32
"""Of more than this many videos with the same part, each is compared with that many next ones."""


@dataclass(frozen=True)
class Looks:
    """What N videos look like, one row each: about 1.1 kB a video."""

    frames: NDArray[np.uint64]
    """(N, 5) hashes."""
    textured: NDArray[np.bool_]
    """(N, 5): whether the frame has a hash."""
    background: NDArray[np.uint64]
    """(N,) hash of the median frame."""
    has_background: NDArray[np.bool_]
    """(N,)"""
    changes: NDArray[np.int8]
    """(N, 256): what changed from frame to frame, in 8 x 8 cells; 0 in a still picture."""
    colours: NDArray[np.uint8]
    """(N, 512) histograms."""
    place: NDArray[np.uint8]
    """(N, 256): the median frame's brightness, in 16 x 16 cells."""

    @classmethod
    def of(cls, answers: Sequence[dict[str, Any] | None]) -> "Looks":
        """From what `look_at` gave; None for a file that could not be read, which is like none."""
        blank = [None] * len(PLACES)
        empty: dict[str, Any] = {
            "frames": blank,
            "changes": bytes((len(PLACES) - 1) * CHANGE_CELLS**2).hex(),
            "background": None,
            "colours": bytes(BINS**3).hex(),
            "place": bytes(PLACE_CELLS**2).hex(),
        }
        given = [answer or empty for answer in answers]

        def column(name: str, width: int) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
            rows = [np.atleast_1d(np.array(answer[name], object)) for answer in given]
            values = np.stack(rows) if rows else np.empty((0, width), object)
            known = np.array([[value is not None for value in row] for row in values], bool)
            known = known.reshape(values.shape)
            return np.where(known, values, 0).astype(np.uint64), known

        frames, textured = column("frames", len(PLACES))
        background, has_background = column("background", 1)

        def pixels(name: str, width: int) -> NDArray[np.uint8]:
            joined = b"".join(bytes.fromhex(answer[name]) for answer in given)
            return np.frombuffer(joined, np.uint8).reshape(-1, width)

        return cls(
            frames, textured, background[:, 0], has_background[:, 0],
            pixels("changes", (len(PLACES) - 1) * CHANGE_CELLS**2).view(np.int8),
            pixels("colours", BINS**3), pixels("place", PLACE_CELLS**2),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.frames)


Pairs = NDArray[np.int64]
"""(P, 2): row numbers of two videos, the smaller first."""


def near_copies(looks: Looks) -> Pairs:
    """Pairs that show the same at the same fractions of their length.

    Found are those that agree in 16 bits in a row of one frame's hash: for 5 frames of 64 bits with
    6 of them wrong 99 in 100. A copy that is cut shorter, mirrored or framed anew is not found.
    """
    found = []
    for place in range(looks.frames.shape[1]):
        for pairs in _candidates(looks.frames[:, place], looks.textured[:, place]):
            first, second = pairs.T
            alike, common = _distance(looks.frames, looks.textured, first, second)
            pairs = pairs[(common >= COMMON) & (alike <= COPY_BITS)]
            found.append(pairs[_same_changes(looks.changes, *pairs.T)])
    return _distinct(found, len(looks))


def same_place(
    looks: Looks, first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(P,): whether the videos of each pair have the same background behind what moves before it.

    So it is where most of the picture that shows something, of either, is of the same brightness.
    """
    one, other = (looks.place[rows].astype(np.int16) for rows in (first, second))
    shows = np.zeros(one.shape, bool)
    for place in (one, other):
        shows |= np.abs(place - np.median(place, axis=1, keepdims=True)) > CELL_CONTRAST
    agree = (np.abs(one - other) <= CELL_LEVELS) & shows
    enough = shows.sum(1) >= PLACE_CELLS * PLACE_CELLS / 4
    return enough & (agree.sum(1) >= PLACE_SHARE * np.maximum(shows.sum(1), 1))


def _candidates(hashes: NDArray[np.uint64], known: NDArray[np.bool_]) -> Iterator[Pairs]:
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


def _distance(
    hashes: NDArray[np.uint64],
    known: NDArray[np.bool_],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean bits in which the rows differ, over what both have, and how much that is."""
    both = known[first] & known[second]
    bits = np.where(both, np.bitwise_count(hashes[first] ^ hashes[second]), 0).sum(1)
    return bits / np.maximum(both.sum(1), 1), both.sum(1)


def _same_changes(
    changes: NDArray[np.int8], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.bool_]:
    one, other = (changes[rows].astype(np.float32) for rows in (first, second))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    # Of two in which nothing happens, equal pictures say nothing: a camera on a stand gives those.
    return np.asarray((one * other).sum(1) > COPY_CHANGES * norms)


def _distinct(found: Sequence[Pairs], total: int) -> Pairs:
    if not found:
        return np.empty((0, 2), np.int64)
    pairs = np.concatenate(found)
    keys = np.unique(pairs[:, 0] * total + pairs[:, 1])
    return np.stack((keys // total, keys % total), axis=1)


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
