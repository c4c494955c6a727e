"""Memory that processes share without /dev/shm, of which a container has 64 MB by default.

It is a file without a name (memfd_create): it needs no mount, ends with its last user, and counts
to the memory of the container. Systems other than Linux have an unnamed file in the temporary
folder in its place.
"""

import mmap
import os
import pickle
import tempfile
import weakref
from collections.abc import Sequence
from multiprocessing import reduction
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

MFD_NOEXEC_SEAL = 0x0008
"""<linux/memfd.h>, from Linux 6.3: without it some hardened systems refuse the file."""

ALIGNMENT = 64
"""Bytes to a multiple of which each array of a packed value begins: a cache line."""


def new_memory(size: int) -> int:
    """A new file of ``size`` bytes of zeros, as a descriptor. Raises OSError."""
    if hasattr(os, "memfd_create"):
        try:
            fd = os.memfd_create("slowfast_dist", os.MFD_CLOEXEC | MFD_NOEXEC_SEAL)
        except OSError:  # an older kernel does not know the flag
            fd = os.memfd_create("slowfast_dist")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    try:
        os.truncate(fd, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


def mapped(fd: int, size: int, write: bool = True) -> NDArray[np.uint8]:
    """The first bytes (``size``,) of such a file; they stay as long as anything is made over them,
    also when ``fd`` is closed."""
    access = mmap.ACCESS_DEFAULT if write else mmap.ACCESS_READ
    return np.frombuffer(mmap.mmap(fd, max(1, size), access=access), np.uint8, size)


# --- arrays that are sent as they lie in memory --------------------------------------------------

_allocated: dict[int, tuple[int, int]] = {}
"""Of what `allocate` gave and is still in use: its address in memory -> its size, and the file's
descriptor."""


def allocate(size: int) -> NDArray[np.uint8]:
    """(``size``,) new bytes of zeros. What is made over all of them is sent to another process by
    `queues.Queue` without being copied."""
    fd = new_memory(size)
    try:
        array = mapped(fd, size)
    except OSError:
        os.close(fd)
        raise
    address = array.ctypes.data
    _allocated[address] = size, fd
    # numpy and torch keep the array itself alive for whatever they make over it.
    weakref.finalize(array, _release, address, os.getpid()).atexit = False
    return array


def _release(address: int, owner: int) -> None:
    if owner == os.getpid():
        _, fd = _allocated.pop(address)
        os.close(fd)


if hasattr(os, "register_at_fork"):
    # A copy of this process may have closed these files, and other arrays than these may come to
    # lie at their addresses.
    os.register_at_fork(after_in_child=_allocated.clear)


def file_of(buffer: memoryview) -> int:
    """A descriptor, the caller's to close, of a file that holds these bytes and nothing else."""
    array = np.frombuffer(buffer, np.uint8)
    size, own = _allocated.get(array.ctypes.data, (0, -1))
    if size == array.size:
        return os.dup(own)
    fd = new_memory(array.size)
    mapped(fd, array.size)[:] = array
    return fd


# --- values that several workers look at ---------------------------------------------------------

class SharedFlags:
    """(N,) bytes, zero at first, that this process shares with the workers it starts, by whatever
    start method: what one writes all see."""

    def __init__(self, count: int) -> None:
        self._open(new_memory(count), count)

    def _open(self, fd: int, count: int) -> None:
        self._fd = fd
        self.array = mapped(fd, count)
        weakref.finalize(self, os.close, fd).atexit = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _flags_of, (reduction.DupFd(self._fd), self.array.size)


def _flags_of(fd: Any, count: int) -> SharedFlags:
    flags = SharedFlags.__new__(SharedFlags)
    flags._open(fd.detach(), count)
    return flags


class Shared(Generic[T]):
    """A ``value`` of which the workers that get it share the arrays, read-only.

    Where they are not forked from this process, all its numpy arrays are written once, into one
    file that each of them maps: a dataset of a million videos costs a worker neither time nor
    memory of its own.
    """

    def __init__(self, value: T) -> None:
        self.value = value
        self._packed: tuple[bytes, int, list[tuple[int, int]]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._packed is None:
            self._packed = _pack(self.value)
            weakref.finalize(self, os.close, self._packed[1]).atexit = False
        content, fd, places = self._packed
        return _unpack, (content, reduction.DupFd(fd), places)


def shared_copy(value: T) -> T:
    """The same, all its numpy arrays in one new piece of shared memory: `Shared` then copies none
    of them, nor of what is a part of it."""
    content, buffers = _pickle(value)
    places, end = _places(buffers)
    memory = allocate(end)
    _fill(memory, buffers, places)
    parts = [memory[first : first + size] for first, size in places]
    copy: T = pickle.loads(content, buffers=parts)
    return copy


def _pickle(value: object) -> tuple[bytes, list[memoryview]]:
    """Without its arrays, and those."""
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return content, [buffer.raw() for buffer in buffers]


def _places(buffers: Sequence[memoryview]) -> tuple[list[tuple[int, int]], int]:
    """Where each is to lie in one file, (first byte, size), and the size of that."""
    places, end = [], 0
    for buffer in buffers:
        places.append((end, buffer.nbytes))
        end += buffer.nbytes + -buffer.nbytes % ALIGNMENT
    return places, max(1, end)


def _fill(
    memory: NDArray[np.uint8], buffers: Sequence[memoryview], places: Sequence[tuple[int, int]]
) -> None:
    for buffer, (first, size) in zip(buffers, places, strict=True):
        memory[first : first + size] = np.frombuffer(buffer, np.uint8)


def _pack(value: object) -> tuple[bytes, int, list[tuple[int, int]]]:
    """Its pickle without the arrays, the file in which they lie, and where: (first byte, size)."""
    content, buffers = _pickle(value)
    addresses = [np.frombuffer(buffer, np.uint8).ctypes.data for buffer in buffers]
    # Of a copy: another thread, or a garbage collection in between, may let go of some. Not of
    # those in which a part lies, as ``value`` is held; so there must be one.
    known = _allocated.copy() if any(buffer.nbytes for buffer in buffers) else {}
    for start, (size, fd) in known.items():
        if all(
            not buffer.nbytes or start <= address <= start + size - buffer.nbytes
            for address, buffer in zip(addresses, buffers, strict=True)
        ):
            at = [address - start if buffer.nbytes else 0
                  for address, buffer in zip(addresses, buffers, strict=True)]  # fmt: skip
            sizes = [buffer.nbytes for buffer in buffers]
            return content, os.dup(fd), list(zip(at, sizes, strict=True))
    places, end = _places(buffers)
    fd = new_memory(end)
    _fill(mapped(fd, end), buffers, places)
    return content, fd, places


def _unpack(content: bytes, fd: Any, places: Sequence[tuple[int, int]]) -> Shared[Any]:
    number = fd.detach()
    end = max((first + size for first, size in places), default=0)
    try:
        memory = memoryview(mapped(number, end, write=False))  # type: ignore[arg-type]
    finally:
        os.close(number)
    buffers = [memory[first : first + size] for first, size in places]
    return Shared(pickle.loads(content, buffers=buffers))
