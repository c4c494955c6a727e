"""What a dataset asks of the frames that are kept: those of a clip, if all are there and true.

Whether frames are kept changes what a clip costs, never what it shows.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from slowfast_dist.system.memory import available_memory
from slowfast_dist.video.cache.frames import read_stored
from slowfast_dist.video.cache.store import FrameStore, stamp_now
from slowfast_dist.video.guarded_reader import GuardedReader
from slowfast_dist.video.reader import IMAGES, Frames, Indices, VideoInfo
from slowfast_dist.video.views import SpatialView

USUAL_BYTES = 1.5
"""Bytes of a pixel of nearly all videos (4:2:0 in 8 bits)."""

IMAGE_BYTES = 3.0
"""Bytes of a pixel of an image: RGB."""

SAVED_SHARE = 0.75
"""Share of a clip's cost that an epoch with kept frames saves, by which it is judged whether that
pays: .83 to .92 were measured, and a training may end early."""

KEEPING_COST = 1.3
"""Times the cost of a clip's frames that so many cost which are kept: they are written, and a clip
leaves out frames between its own that no other frame needs. 1.25 to 2 were measured."""

ASKED_EPOCHS = 10
"""Epochs that are taken to follow, where fewer do, if a size was asked for and not `auto`."""

MOST_SECONDS = 5.0
"""CPU seconds in which all that is kept of a video at once must be decoded: a quarter of the time
limit (guarded_reader.DECODE_SECONDS), as a busy machine takes longer."""

SLOW_MS = 5e-6
"""CPU milliseconds that decoding a pixel takes, where the probe did not measure it: HEVC's, the
slowest of what is usual, in 720p."""

LOOK_SECONDS = 10.0
"""Seconds after which it is looked anew whether memory is free, once too little was: to look takes
.1 ms, a hundredth of what the smallest clips take."""


@dataclass(frozen=True)
class Source:
    """A video: the number of its file in the dataset, where it is, and what the probe found."""

    file: int
    path: Path
    info: VideoInfo


class FrameCache:
    """The part of a store that belongs to one dataset: its files from ``first`` on.

    ``epochs`` of the training; ``least``: epochs that are taken to follow an epoch at least;
    ``reserve``: bytes of the store that are left to others; ``memory_left``: bytes that must be
    free beside what is kept in memory, 0 for a store on a disk.
    """

    def __init__(
        self, store: FrameStore, first: int, epochs: int, least: int = 0, reserve: float = 0.0,
        memory_left: float = 0.0,
    ) -> None:  # fmt: skip
        self.store, self._first, self._least = store, first, least
        self._epochs, self._reserve, self._memory_left = epochs, reserve, memory_left
        self._look = 0.0

    def goes_on(self, epoch: int) -> bool:
        """Whether another epoch follows."""
        return epoch + 1 < self._epochs

    def pays(self, info: VideoInfo, frames: int, indices: Indices, epoch: int) -> bool:
        """Whether it costs less to decode so many ``frames`` of a video once, in ``epoch``, than to
        decode a clip such as ``indices`` in each of the epochs that follow."""
        span = int(indices.max() - indices.min()) + 1
        group = info.key_interval or info.frames
        if info.codec == IMAGES:  # between which a clip reads none
            span, group = len(np.unique(indices)), 0
        cost = decoding_cost(frames, info.frames, group, span)
        seconds = decoding_seconds(frames, info.decode_ms, info.width * info.height)
        follow = max(self._epochs - 1 - epoch, self._least)
        return self.goes_on(epoch) and bool(is_paid(cost, seconds, follow))

    def read(
        self, source: Source, indices: Indices, views: Sequence[SpatialView],
        others: Callable[[], Indices | None], reader: GuardedReader,
    ) -> Frames | None:  # fmt: skip
        """As `reader.read_views`; None where the frames are not kept and cannot be.

        Where they are not yet, ``reader`` decodes ``others``, or them alone, into the store first.
        """
        file, info = self._first + source.file, source.info
        reader.space = self.store.space  # before it starts a process, which could not have it later
        places = self.store.places(file, indices)
        if places is None:
            pixels = len(views) * views[0].size ** 2
            if self._keep(file, source, indices, pixels, others, reader):
                places = self.store.places(file, indices)
        if places is None:
            return None
        if stamp_now(source.path) != self.store.stamp(file):
            self.store.drop(file)  # another file than the one that was decoded
            return None
        try:
            return read_stored(self.store, file, places, info, views)
        except OSError:  # no address space left (ulimit -v)
            return None

    def _keep(
        self, file: int, source: Source, indices: Indices, pixels: int,
        others: Callable[[], Indices | None], reader: GuardedReader,
    ) -> bool:  # fmt: skip
        """Whether more frames of the file were added; ``pixels`` of the clip's views."""
        info = source.info
        if not self.store.takes(file) or not self._room(info, 1):
            return False
        worth = others()
        numbers = self.store.missing(file, indices if worth is None else worth)
        count = len(numbers)
        if not count or not self._room(info, count) or not self._memory(info, count):
            return False
        size = prod((pixels, len(indices), 3))
        written = reader.write_frames(source.path, numbers, info, size)
        if written is None:
            self.store.drop(file)  # never tried again: that is what costs no more than decoding
            return False
        self.store.add(file, numbers, written)
        return True

    def _room(self, info: VideoInfo, frames: int) -> bool:
        need = frame_bytes(info, frames)
        return bool(need <= self.store.space.free() - self._reserve)

    def _memory(self, info: VideoInfo, frames: int) -> bool:
        """Whether there is memory for so many more, as far as that matters."""
        if not self._memory_left:
            return True
        if time.monotonic() < self._look:
            return False
        need = frame_bytes(info, frames)
        if available_memory(1) - need >= self._memory_left:
            return True
        self._look = time.monotonic() + LOOK_SECONDS
        return False


def frame_bytes(info: VideoInfo, frames: int) -> float:
    """Of so many frames, as far as one can know before they are decoded."""
    pixel = IMAGE_BYTES if info.codec == IMAGES else USUAL_BYTES
    return pixel * info.width * info.height * frames


def decoding_cost(frames: Any, video_frames: Any, group: Any, span: Any) -> Any:
    """About how many clips' cost it is to decode ``frames`` of a video of ``video_frames``: a clip
    decodes its ``span`` and, in the mean, half of the ``group`` from one keyframe to the next."""
    before = np.minimum(np.minimum(group, video_frames), np.maximum(0, video_frames - span)) / 2
    return frames / (span + before)


def decoding_seconds(frames: Any, decode_ms: Any, pixels: Any) -> Any:
    """CPU seconds; ``decode_ms`` of a frame, 0 where they are not known."""
    return frames * np.where(np.asarray(decode_ms) > 0, decode_ms, SLOW_MS * pixels) / 1e3


def is_paid(cost: Any, seconds: Any, epochs: int) -> Any:
    """Whether to keep a video pays: ``cost`` in clips and ``seconds`` to decode it, where so many
    ``epochs`` follow."""
    return (KEEPING_COST * cost - 1 <= SAVED_SHARE * epochs) & (seconds <= MOST_SECONDS)
