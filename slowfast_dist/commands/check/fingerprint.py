"""What one video looks like: perceptual hashes and colours of a few frames, by a process apart.

A frame is hashed as in pHash (Zauner, Implementation and benchmarking of perceptual image hash
functions, 2010): the signs of 64 low frequencies of its DCT against their median, which scaling,
compression and brightness hardly change.
"""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from slowfast_dist.system.workers import serve
from slowfast_dist.video.container import DecodeError, open_video
from slowfast_dist.video.packets import PacketIndex, decode_all, decode_frames, index_packets

cv2.setNumThreads(1)

PLACES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Of the frames that are looked at, as fractions of the video; not its ends, which are often black
or cut elsewhere in a copy."""

THUMB = 32
"""Height and width to which a frame is scaled, as in pHash."""

FLAT, STILL = 3.0, 1.5
"""Standard deviation, in grey levels of 256, below which a picture, or the changes from one to the
next, show nothing to compare."""

CHANGE_CELLS = 8
"""Rows and columns of a change."""

PLACE_CELLS = 16
"""Rows and columns of a background."""

BINS = 8
"""Of each of L, a and b in a colour histogram; of a and b the middle quarter holds nearly all."""


def worker(full: bool) -> tuple[str, ...]:
    """The command of a process for `ask_apart` that looks at files: see `look_at`."""
    code = f"from slowfast_dist.commands.check.fingerprint import serve_looks; serve_looks({full})"
    return sys.executable, "-c", code


def serve_looks(full: bool) -> None:
    """What such a process runs."""

    def answer(path: Path) -> dict[str, Any] | str:
        try:
            return look_at(path, full)
        except DecodeError as error:
            return error.reason

    serve(answer)


def look_at(path: Path, full: bool) -> dict[str, Any]:
    """Hashes of a file's frames, changes and background, and its colours; values for JSON.

    ``full``: decode every frame. Raises DecodeError for damage that is met.
    """
    with open_video(path) as (container, stream):
        index = index_packets(path, container, stream, keep=True)
        formats = container.format.name.split(",")
        plain = "mp4" in formats or "matroska" in formats  # AVI has no times of frames
        thumbs: list[NDArray[np.uint8]] | None = None
        if plain and len(index.order) and not full:
            wanted = _places(len(index.order))
            try:
                frames = decode_frames(path, stream.codec_context, index, sorted(set(wanted)))
                found = {number: _thumbnail(frame) for number, frame in frames}
                thumbs = [found[number] for number in wanted]
            except DecodeError:
                pass  # damaged, or packets that are not frames: decoding everything tells
        return summarise(thumbs or _decode_all(path, index))


def _places(total: int) -> list[int]:
    return [round(place * (total - 1)) for place in PLACES]


def _decode_all(path: Path, index: PacketIndex) -> list[NDArray[np.uint8]]:
    thumbs: list[NDArray[np.uint8]] = []
    expected = set(_places(len(index.order))) if len(index.order) else None
    for number, frame in enumerate(decode_all(path, index)):
        if expected is None or number in expected:
            thumbs.append(_thumbnail(frame))
    if not thumbs:
        raise DecodeError(path, "no frame can be decoded")
    if expected is not None and len(thumbs) == len(expected):
        return [thumbs[sorted(expected).index(place)] for place in _places(len(index.order))]
    return [thumbs[place] for place in _places(len(thumbs))]


def _thumbnail(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """uint8 RGB (THUMB, THUMB, 3), as displayed."""
    small = frame.reformat(THUMB, THUMB, "rgb24", interpolation="AREA", threads=1).to_ndarray()
    turns = round(frame.rotation / 90) % 4 if abs(frame.rotation) <= 360 else 0
    return np.rot90(small, turns)


def summarise(thumbs: Sequence[NDArray[np.uint8]]) -> dict[str, Any]:
    """What `likeness.Looks` holds of one video, of its thumbnails (uint8 RGB); for JSON."""
    pictures = [np.ascontiguousarray(thumb) for thumb in thumbs]
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) for picture in pictures]
    background = np.median(np.stack(grey), axis=0).astype(np.float32)
    return {
        "frames": [_hash(picture, FLAT) for picture in grey],
        "changes": _changes(grey).tobytes().hex(),
        "background": _hash(background, FLAT),
        "place": _place(background).tobytes().hex(),
        "colours": _colours(pictures).tobytes().hex(),
    }


def _hash(picture: NDArray[np.float32], least: float) -> int | None:
    """64 bits; None for a picture without contrast."""
    if picture.std() < least:
        return None
    low = cv2.dct(picture)[1:9, 1:9].ravel()  # without the rows of frequency 0: brightness
    return int(np.packbits(low > np.median(low)).view(">u8")[0])


def _changes(grey: Sequence[NDArray[np.float32]]) -> NDArray[np.int8]:
    """(4, 8, 8), the largest 127; all 0 in a still picture."""
    steps = np.stack([after - before for before, after in pairwise(grey)])
    if steps.std() < STILL:
        return np.zeros((len(steps), CHANGE_CELLS, CHANGE_CELLS), np.int8)
    size = (CHANGE_CELLS, CHANGE_CELLS)
    cells = np.stack([cv2.resize(step, size, interpolation=cv2.INTER_AREA) for step in steps])
    return np.rint(127 * cells / np.abs(cells).max()).astype(np.int8)


def _place(background: NDArray[np.float32]) -> NDArray[np.uint8]:
    cells = cv2.resize(background, (PLACE_CELLS, PLACE_CELLS), interpolation=cv2.INTER_AREA)
    return np.rint(cells).astype(np.uint8)


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
