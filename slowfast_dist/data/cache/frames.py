"""What a dataset asks of the frames that are kept: those of a clip, if all are there and true.

Whether frames are kept changes what a clip costs, never what it shows.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from slowfast_dist.system.memory import available_memory
from slowfast_dist.video.cache.frames import read_stored
from slowfast_dist.video.cache.store import FrameStore, stamp_of
from slowfast_dist.video.guarded_reader import GuardedReader
from slowfast_dist.video.reader import IMAGES, Frames, Indices, VideoInfo
from slowfast_dist.video.views import SpatialView

USUAL_BYTES = 1.5
"""Bytes of a pixel of nearly all videos (4:2:0 in 8 bits)."""

SAVED_SHARE = 0.5
"""Share of a clip's cost that an epoch with kept frames saves at least, by which it is judged
whether keeping pays: .75 and more were measured, and a training may end early."""

MOST_CLIPS = 16
"""Times a clip's cost that decoding all of a video may take at most, so that it stays far below the
time limit of a read (guarded_reader.DECODE_SECONDS)."""

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

    ``epochs`` of the training; ``memory_left``: bytes that must be free beside what is kept in
    memory, 0 for a store on a disk.
    """

    def __init__(
        self, store: FrameStore, first: int, epochs: int, memory_left: float = 0.0
    ) -> None:
        self.store, self._first = store, first
        self._epochs, self._memory_left = epochs, memory_left
        self._look = 0.0

    def pays(self, info: VideoInfo, frames: int, indices: Indices, epoch: int) -> bool:
        """Whether it costs less to decode so many ``frames`` of a video once, in ``epoch``, than to
        decode a clip such as ``indices`` in each of the epochs that follow."""
        cost = decoding_cost(info, frames, int(indices.max() - indices.min()) + 1)
        return bool(cost <= most_cost(self._epochs - 1 - epoch))

    def read(
        self, source: Source, indices: Indices, views: Sequence[SpatialView],
        others: Callable[[], Indices | None], reader: GuardedReader,
    ) -> Frames | None:  # fmt: skip
        """As `reader.read_views`; None where the frames are not kept and cannot be.

        Where they are not yet, ``reader`` decodes ``others``, or them alone, into the store first.
        """
        file, info = self._first + source.file, source.info
        places = self.store.places(file, indices)
        if places is None:
            pixels = len(views) * views[0].size ** 2
            if self._keep(file, source, indices, pixels, others, reader):
                places = self.store.places(file, indices)
        if places is None:
            return None
        if stamp_of(source.path) != self.store.stamp(file):
            self.store.drop(file)  # another file than the one that was decoded
            return None
        return read_stored(self.store, file, places, info, views)

    def _keep(
        self, file: int, source: Source, indices: Indices, pixels: int,
        others: Callable[[], Indices | None], reader: GuardedReader,
    ) -> bool:  # fmt: skip
        """Whether more frames of the file were added; ``pixels`` of the clip's views."""
        info = source.info
        if info.codec == IMAGES or not self.store.takes(file) or not self._room(info, 1):
            return False
        worth = others()
        numbers = self.store.missing(file, indices if worth is None else worth)
        count = len(numbers)
        if not count or not self._room(info, count) or not self._memory(info, count):
            return False
        reader.space = self.store.space
        size = prod((pixels, len(indices), 3))
        written = reader.write_frames(source.path, numbers, info, size)
        if written is None:
            self.store.drop(file)  # never tried again: that is what costs no more than decoding
            return False
        self.store.add(file, numbers, written)
        return True

    def _room(self, info: VideoInfo, frames: int) -> bool:
        need = frame_bytes(info.width * info.height, frames)
        return bool(need <= self.store.space.free())

    def _memory(self, info: VideoInfo, frames: int) -> bool:
        """Whether there is memory for so many more, as far as that matters."""
        if not self._memory_left:
            return True
        if time.monotonic() < self._look:
            return False
        need = frame_bytes(info.width * info.height, frames)
        if available_memory(1) - need >= self._memory_left:
            return True
        self._look = time.monotonic() + LOOK_SECONDS
        return False


def frame_bytes(pixels: Any, frames: Any) -> Any:
    """Of so many frames of so many pixels, as far as one can know before they are decoded; of
    numbers, or of arrays (N,)."""
    return USUAL_BYTES * pixels * frames


def decoding_cost(info: VideoInfo, frames: int, span: int) -> float:
    """About how many clips' cost it is to decode ``frames`` of a video: a clip decodes its ``span``
    and, in the mean, half of what lies from one keyframe to the next before it."""
    group = min(info.key_interval or info.frames, info.frames)
    return frames / (span + min(group, max(0, info.frames - span)) / 2)


def most_cost(epochs: int) -> float:
    """Clips' costs that keeping a video may take, where so many ``epochs`` follow."""
    return min(MOST_CLIPS, 1 + SAVED_SHARE * epochs) if epochs > 0 else 0.0
