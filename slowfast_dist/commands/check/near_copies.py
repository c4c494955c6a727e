"""What one video looks like, perceptual hashes and colours of a few frames, and which look alike.

A frame is hashed as in pHash (Zauner, Implementation and benchmarking of perceptual image hash
functions, 2010): the signs of 64 low frequencies of its DCT against their median, which scaling,
compression and brightness hardly change. What changes from frame to frame tells a copy from another
clip before the same background.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.thumbnails import PLACES, read_thumbnails

cv2.setNumThreads(1)

FLAT_PICTURE = 3.0
"""Standard deviation, in grey levels of 256, below which a picture shows nothing to compare: a
black or faded frame has no more than the noise of its coding."""

STILL_PICTURE = 1.5
"""Standard deviation, in grey levels of 256, below which the changes from one picture to the next
show nothing to compare: in a still picture the noise of its coding changes that much."""

CHANGE_CELLS = 8
"""Rows and columns of cells in which a change is kept."""

BACKGROUND_CELLS = 16
"""Rows and columns of cells in which a background's brightness is kept."""

BINS = 8
"""Bins of each of L, a and b in a colour histogram; of a and b the middle quarter of the range is
divided, which holds nearly all colours of videos."""


FINGERPRINT = np.dtype(
    [
        ("frames", np.uint64, len(PLACES)),  # hashes
        ("background", np.uint64),  # hash of the median frame
        ("textured", np.bool_, len(PLACES)),  # whether the frame has a hash
        ("has_background", np.bool_),
        ("changes", np.int8, (len(PLACES) - 1) * CHANGE_CELLS**2),  # from frame to frame, in cells
        ("colours", np.uint8, BINS**3),  # histogram
        ("place", np.uint8, BACKGROUND_CELLS**2),  # the median frame's brightness, in cells
    ],
    align=True,
)
"""What one video looks like, in about 1.1 kB; zeros for one that was not read, which is like none.
"""

Fingerprints = NDArray[np.void]
"""(N,) FINGERPRINT."""


def fingerprint_or_reason(
    path: Path, full: bool, order: str | None
) -> dict[str, str] | str:
    """`fingerprint` of a file's thumbnails, or why it cannot be read: what a process answers.

    ``full``: decode every frame. ``order``: the file's ``moved_frames``, None where its frames are
    to be counted.
    """
    try:
        thumbnails = read_thumbnails(path, full, order)
        return {"fingerprint": fingerprint(thumbnails).tobytes().hex()}
    except DecodeError as error:
        return error.reason


def fingerprint(thumbs: Sequence[NDArray[np.uint8]]) -> NDArray[np.void]:
    """FINGERPRINT, of shape (), of thumbnails (uint8 RGB)."""
    pictures = [np.ascontiguousarray(thumb) for thumb in thumbs]
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) for picture in pictures]
    background = np.median(np.stack(grey), axis=0).astype(np.float32)
    row = np.zeros((), FINGERPRINT)
    row["frames"], row["textured"] = zip(*map(_hash, grey), strict=True)
    row["background"], row["has_background"] = _hash(background)
    row["changes"] = _changes(grey).ravel()
    row["place"] = np.rint(_cells(background, BACKGROUND_CELLS)).ravel()
    row["colours"] = _colours(pictures)
    return row


def _hash(picture: NDArray[np.float32]) -> tuple[np.uint64, bool]:
    """64 bits, and whether they mean anything: not those of a picture without contrast."""
    if picture.std() < FLAT_PICTURE:
        return np.uint64(0), False
    low = cv2.dct(picture)[1:9, 1:9].ravel()  # without the rows of frequency 0: brightness
    return np.uint64(np.packbits(low > np.median(low)).view(">u8")[0]), True


def _cells(picture: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """(side, side): the mean of each cell."""
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def _changes(grey: Sequence[NDArray[np.float32]]) -> NDArray[np.int8]:
    """(4, 8, 8), the largest 127; all 0 in a still picture."""
    steps = np.stack([after - before for before, after in pairwise(grey)])
    if steps.std() < STILL_PICTURE:
        return np.zeros((len(steps), CHANGE_CELLS, CHANGE_CELLS), np.int8)
    cells = np.stack([_cells(step, CHANGE_CELLS) for step in steps])
    return np.rint(127 * cells / np.abs(cells).max()).astype(np.int8)


def _colours(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """(512,): square roots of the shares of the colours in Lab, times 255."""
    lab = np.concatenate([cv2.cvtColor(picture, cv2.COLOR_RGB2LAB) for picture in pictures])
    lab[..., 1:] = np.clip(lab[..., 1:], 96, 159)
    ranges = [0, 256, 96, 160, 96, 160]
    counts = cv2.calcHist([lab], [0, 1, 2], None, [BINS] * 3, ranges)
    for axis in range(3):  # spread over the bins beside, as a colour may lie at the edge of two
        padded = np.pad(counts, [(int(a == axis),) * 2 for a in range(3)], mode="edge")
        before, here, after = (
            np.take(padded, np.arange(first, first + BINS), axis) for first in range(3)
        )
        counts = before / 4 + here / 2 + after / 4
    counts = counts.ravel()
    return np.rint(255 * np.sqrt(counts / counts.sum())).astype(np.uint8)


# --- which videos look alike: their fingerprints compared, without reading them again -------------

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
