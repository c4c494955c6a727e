"""What one video looks like: perceptual hashes and colours of a few frames.

A frame is hashed as in pHash (Zauner, Implementation and benchmarking of perceptual image hash
functions, 2010): the signs of 64 low frequencies of its DCT against their median, which scaling,
compression and brightness hardly change.
"""

from collections.abc import Sequence
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


def fingerprint_or_reason(path: Path, full: bool) -> dict[str, str] | str:
    """`fingerprint` of a file's thumbnails, or why it cannot be read: what a process answers.

    ``full``: decode every frame.
    """
    try:
        return {"fingerprint": fingerprint(read_thumbnails(path, full)).tobytes().hex()}
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
