"""Frames of videos as their decoder gave them, which all processes of a run on a host share.

A table says where in the `Space` each frame lies. Its place is written once all its bytes are: a
process that is killed leaves nothing, or bytes to which nothing points. Linux alone.
"""

import mmap
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import reduction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.system.messages import sendable
from slowfast_dist.system.workers.shared import mapped, new_memory
from slowfast_dist.video.cache.space import Space, new_file
from slowfast_dist.video.images.listing import Stamp, stamp_of

Kind = tuple[int, int, int]
"""What the frames of a file are: place in `pixels.FORMATS`, FFmpeg's colour space and range."""


@dataclass(frozen=True)
class Written:
    """Frames of a file that lie one behind the other: number n of them at ``first + n * stride``;
    ``stamp``: of their file, before and after they were decoded."""

    first: int
    stride: int
    kind: Kind
    stamp: Stamp


@sendable
@dataclass(frozen=True)
class StoreAddress:
    """Where another process of this host finds a store: as descriptors of a process that has it."""

    process: int
    space: int
    table: int
    budget: int
    files: int
    frames: int


EMPTY, USED, DROPPED = range(3)
"""States of a file in the table: nothing of it is there; some is; nothing will ever be."""

FACTS = 6
"""Numbers of a file in the table: its state, its stamp (2), by which the probe's cache knows it,
and its kind (3)."""


class FrameStore:
    """Frames of F files, by file and number.

    The workers that this process starts share it, by whatever start method, and so does a process
    that opens its `address`. Numbers of the table are 8 bytes, aligned, so that each is read as it
    was before a write or after it.
    """

    def __init__(self, space: int, table: int, budget: int, files: int, frames: int) -> None:
        """Of two descriptors, which become this store's; ``frames``: of all files together."""
        self._counts = budget, files, frames
        self.space, self._table = Space(space, budget), table
        words = mapped(table, _table_bytes(files, frames)).view(np.int64)
        facts, self._firsts, self._places = np.split(words, [FACTS * files, (FACTS + 1) * files])
        self._facts = facts.reshape(files, FACTS)
        for end in (self.space.close, partial(os.close, space), partial(os.close, table)):
            weakref.finalize(self, end).atexit = False

    @classmethod
    def create(
        cls, frames: NDArray[np.int64], budget: int, folder: Path | None = None
    ) -> "FrameStore":
        """A new one for files of so many ``frames`` (F,), in memory, or on the disk of ``folder``.
        What is not used of ``budget`` bytes takes no room. Raises OSError."""
        files, total = len(frames), int(frames.sum())
        table = new_memory(_table_bytes(files, total))
        try:
            space = new_file(budget, folder)
        except BaseException:
            os.close(table)
            raise
        store = cls(space, table, budget, files, total)
        with store.space.locked():  # where that does not work, it is known from the beginning
            store._firsts[:] = np.cumsum(frames) - frames
        return store

    @classmethod
    def open(cls, address: StoreAddress) -> "FrameStore":
        """That of another process of this host. Raises OSError where it cannot be reached."""
        fds: list[int] = []
        try:
            for fd in (address.space, address.table):
                name = f"/proc/{address.process}/fd/{fd}"
                fds.append(os.open(name, os.O_RDWR | os.O_CLOEXEC))
        except OSError:
            for fd in fds:
                os.close(fd)
            raise
        space, table = fds
        return cls(space, table, address.budget, address.files, address.frames)

    def __reduce__(self) -> tuple[Any, ...]:
        fds = reduction.DupFd(self.space.fd), reduction.DupFd(self._table)
        return _store_of, (*fds, *self._counts)

    @property
    def address(self) -> StoreAddress:
        return StoreAddress(os.getpid(), self.space.fd, self._table, *self._counts)

    def takes(self, file: int) -> bool:
        """Whether frames of the file may be added."""
        return bool(self._facts[file, 0] != DROPPED)

    def drop(self, file: int) -> None:
        """Have nothing of the file, now and later."""
        self._facts[file, 0] = DROPPED

    def missing(self, file: int, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the frames ``numbers`` that are not there, each once, rising."""
        numbers = np.unique(numbers)
        if self._facts[file, 0] != USED:
            return numbers
        return numbers[self._places[self._firsts[file] + numbers] == 0]

    def places(self, file: int, numbers: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Where the frames lie, (T,); None unless all are there."""
        if self._facts[file, 0] != USED:
            return None
        places: NDArray[np.int64] = self._places[self._firsts[file] + numbers]
        return places if places.all() else None

    def kind(self, file: int) -> Kind:
        """Of the frames of a file of which some are there."""
        format, colorspace, color_range = self._facts[file, 3:].tolist()
        return format, colorspace, color_range

    def stamp(self, file: int) -> Stamp:
        """Of a file of which frames are there, when they were decoded."""
        size, time = self._facts[file, 1:3].tolist()
        return size, time

    def add(self, file: int, numbers: NDArray[np.int64], written: Written) -> None:
        """The frames ``numbers`` (N,) of the file were written. Where others are there that are of
        another file of that name, all are dropped."""
        facts = np.array([*written.stamp, *written.kind], np.int64)
        with self.space.locked():
            if self._facts[file, 0] == EMPTY:
                self._facts[file, 1:] = facts
                self._facts[file, 0] = USED
            if (self._facts[file, 1:] != facts).any():
                self.drop(file)
            if self._facts[file, 0] == DROPPED:
                return
            places = written.first + written.stride * np.arange(len(numbers))
            self._places[self._firsts[file] + numbers] = places

    def bytes_from(
        self, places: NDArray[np.int64], size: int
    ) -> Iterator[NDArray[np.uint8]]:
        """The ``size`` bytes at each of ``places``, read-only."""
        first = int(places.min()) // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        length = int(places.max()) + size - first
        # Mapped for one clip: what a process has mapped counts as its own memory where programs,
        # and the kernel out of memory, look for the largest.
        memory = mmap.mmap(self.space.fd, length, access=mmap.ACCESS_READ, offset=first)
        for place in places.tolist():
            yield np.frombuffer(memory, np.uint8, size, place - first)


def _table_bytes(files: int, frames: int) -> int:
    return 8 * ((FACTS + 1) * files + frames)


def _store_of(space: Any, table: Any, *counts: int) -> FrameStore:
    return FrameStore(space.detach(), table.detach(), *counts)


def stamp_now(path: Path) -> Stamp | None:
    """Of a file, or of a folder of images; None where there is none."""
    try:
        return stamp_of(path)
    except OSError:
        return None
