"""A few seconds of a video, small, as an mp4 that browsers play: to look at, not to train on."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from slowfast_dist.data.guard import GuardedReader
from slowfast_dist.data.synthetic import write_video
from slowfast_dist.data.transforms import SpatialView
from slowfast_dist.data.video import VideoInfo

SECONDS = 6.0
"""Longest excerpt."""
RATE = 10
"""Most frames of it a second."""
LONG_SIDE = 256
"""Pixels of its longer side; a smaller video keeps its size."""


def excerpt(
    path: Path,
    info: VideoInfo,
    decoder: Literal["auto", "decord", "pyav"],
    whole: bool,
    reader: GuardedReader,
) -> bytes:
    """An mp4 of H.264 in yuv420p, upright, from the middle of the video.

    ``whole``: frames from all over the video, in fast motion where it is longer than SECONDS.
    Raises DecodeError where the video does not decode, hangs or crashes its decoder.
    """
    indices, rate = excerpt_frames(info.frames, info.fps, whole)
    side = min(LONG_SIDE, max(info.height, info.width))
    # The reader gives squares; from one of the longer side the picture only shrinks.
    square = SpatialView(0, 0, info.height, info.width, side, flip=False)
    frames = reader.read(path, indices, info, decoder, square)
    scale = side / max(info.height, info.width)
    size = (_even(info.width * scale), _even(info.height * scale))
    shown = (cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames)
    with TemporaryDirectory(prefix="slowfast_dist_") as folder:
        target = Path(folder) / "excerpt.mp4"
        write_video(target, (np.asarray(frame, np.uint8) for frame in shown), rate)
        return target.read_bytes()


def excerpt_frames(frames: int, fps: float, whole: bool) -> tuple[NDArray[np.int64], int]:
    """Which of a video's frames are shown, int64 (n,) in order, and how many of them a second."""
    fps = fps if 0 < fps <= 240 else 25.0  # a file may not say, or lie
    span = frames if whole else min(frames, max(1, round(SECONDS * fps)))
    seconds = min(SECONDS, span / fps)
    count = min(span, max(1, round(seconds * RATE)))
    first = (frames - span) // 2
    places = first + (2 * np.arange(count, dtype=np.int64) + 1) * span // (2 * count)
    return places, max(1, round(count / seconds))


def _even(length: float) -> int:
    """4:2:0 has a colour for every 2 x 2 pixels."""
    return max(2, 2 * round(length / 2))
