"""The bytes in which decoded frames lie: a file without a name, in memory or on a disk.

It ends with the last process that has it open, however that ends.
"""

import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.system.workers.shared import new_memory

HEADER = mmap.ALLOCATIONGRANULARITY
"""Bytes in front of the frames, the first 8 of which say how many are taken: a page, on whose
multiples mappings begin."""


class Space:
    """The file as one process sees it: a descriptor, which this closes in no case, of ``budget``
    bytes behind the header. What is taken stays so; nothing is thrown out for something newer, so
    that what does not fit costs no more than without a cache."""

    def __init__(self, fd: int, budget: int) -> None:
        self.fd, self.budget = fd, budget
        self._lock, self._owner = -1, 0

    def free(self) -> int:
        """Bytes that are left."""
        return self.budget - self._taken()

    def take(self, size: int) -> int | None:
        """Where ``size`` free bytes begin, which are the caller's from now on; None: too few."""
        with self.locked():
            taken = self._taken()
            if taken + size > self.budget:
                return None
            self._set_taken(taken + size)
            return HEADER + taken

    def give_back(self, first: int, size: int) -> None:
        """What `take` gave, where nobody took more meanwhile; else it stays unused."""
        with self.locked():
            if HEADER + self._taken() == first + size:
                self._set_taken(first - HEADER)

    def fill_up(self) -> None:
        """Nothing more can be taken."""
        with self.locked():
            self._set_taken(self.budget)

    def write(self, parts: Sequence[NDArray[np.uint8]], place: int) -> None:
        """Contiguous ``parts``, one behind the other. Raises OSError, as of a full disk."""
        size = sum(part.nbytes for part in parts)
        written = os.pwritev(self.fd, [part.reshape(-1).data for part in parts], place)
        if written < size:  # a disk that is just getting full takes a part
            whole = b"".join(part.tobytes() for part in parts)
            while written < size:
                written += os.pwrite(self.fd, whole[written:], place + written)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time; the kernel lets go of it for one that is killed."""
        import fcntl  # of Unix alone

        if self._owner != os.getpid():
            # A lock belongs to an open file, which a fork shares: each process opens its own.
            self._lock = os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC)
            self._owner = os.getpid()
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of what `locked` opened."""
        if self._owner == os.getpid():
            os.close(self._lock)
            self._owner = 0

    def _taken(self) -> int:
        return int.from_bytes(os.pread(self.fd, 8, 0), "little")

    def _set_taken(self, count: int) -> None:
        os.pwrite(self.fd, count.to_bytes(8, "little"), 0)


def new_file(budget: int, folder: Path | None) -> int:
    """A descriptor of a new one: in memory, or on the disk of ``folder``, where it is never seen.
    Raises OSError."""
    if folder is None:
        return new_memory(HEADER + budget)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:  # some file systems, as NFS, have no files without a name
        fd, name = tempfile.mkstemp(prefix=".slowfast_dist-cache-", dir=folder)
        os.unlink(name)
    try:
        os.truncate(fd, HEADER + budget)
    except BaseException:
        os.close(fd)
        raise
    return fd
