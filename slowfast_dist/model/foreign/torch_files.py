"""Files that torch or pickle wrote, opened as data: what they hold, and the tensors on request.

torch.save writes a zip of one pickle and a file for each storage; before torch 1.6 it wrote several
pickles and then the storages, one behind the other. Zips are read where they are not compressed, as
torch writes them, so that nothing in them is larger than the file.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import Tensor

from slowfast_dist.model.foreign.names import few
from slowfast_dist.model.foreign.pickles import ANONYMOUS, FileFault, Inert, Name, read_pickle
from slowfast_dist.model.foreign.rebuild import (
    REBUILDERS,
    STORAGES,
    RawArray,
    Storage,
    StoredTensor,
)

OLD_TORCH = 0x1950A86A20F9469CFC6C
"""What the first pickle of a file of torch before 1.6 holds."""

MOST_PICKLE = 256 * 1024**2
"""Bytes of the pickle in a zip, beside which the numbers lie; SlowFast's have less than 1 MB, and
the history of a long training a few."""

MOST_ENTRIES = 100_000
"""Entries of a zip: a storage of a network or of its optimizer each, a few thousand in all."""

PICKLE_STARTS = b"\x80(}]c"
"""First bytes of pickles: of protocol 2 and later, or of a container in protocol 0 or 1."""

Read = Callable[[Storage], Tensor]


@dataclass
class OpenFile:
    """What a file holds, and its tensors.

    ``numbers``: how many may still be read; more than the file has bytes are a bomb, of views of
    the same storage.
    """

    content: Any
    _read: Read
    numbers: int
    _stored: dict[str, tuple[Storage, Tensor]] = field(default_factory=dict)

    def tensor(self, value: StoredTensor | RawArray) -> Tensor:
        """On the CPU. Raises FileFault."""
        if isinstance(value, RawArray):
            self._count(value.numel())
            return value.tensor()
        self._count(max(1, torch.Size(value.shape).numel()))
        storage = value.storage
        if storage.key not in self._stored:
            self._stored[storage.key] = (storage, self._read(storage))
        read, numbers = self._stored[storage.key]
        if read != storage:
            raise FileFault("is damaged: a storage that is two")
        return torch.as_strided(numbers, value.shape, value.stride, value.offset)

    def _count(self, numbers: int) -> None:
        self.numbers -= numbers
        if self.numbers < 0:
            raise FileFault("is damaged: its tensors hold more numbers than it has bytes")


def open_torch(path: Path) -> OpenFile:
    """A file of torch.save or pickle.dump. Raises FileFault, and OSError where the disk does."""
    with open(path, "rb") as file:
        start = file.read(8)
        file.seek(0)
        if start.startswith(b"PK"):
            return _open_zip(path)
        if start[:1] not in PICKLE_STARTS or not start:
            raise FileFault("starts like no known format")
        return _open_pickle(file)


def _open_pickle(file: BufferedReader) -> OpenFile:
    data = file.read()
    first, end = read_pickle(data, 0, REBUILDERS)
    if type(first) is int and first == OLD_TORCH:
        return _open_old(data, end)
    return OpenFile(first, _no_storage, len(data))


def _no_storage(storage: Storage) -> Tensor:
    raise AssertionError(storage)  # without persistent ids a pickle has none


_ZIP_FAULTS = (BadZipFile, EOFError, ValueError, RuntimeError, struct.error)
"""What zipfile raises for a damaged file; RuntimeError also for features that it does not know."""


def _open_zip(path: Path) -> OpenFile:
    try:
        archive = ZipFile(path)
    except _ZIP_FAULTS as error:
        raise FileFault(f"is damaged ({error})") from None
    names = archive.namelist()
    if len(names) > MOST_ENTRIES:
        raise FileFault(f"has {len(names):,} entries, more than any file of weights")
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if not pickles:
        raise FileFault(f"is a zip without torch's data.pkl (it has {few(names)})")
    folder = pickles[0].removesuffix("data.pkl")
    if any(name.startswith(f"{folder}code/") for name in names):
        raise FileFault("is a TorchScript program, which is not run")
    if _entry(archive, f"{folder}byteorder", 16, b"little") != b"little":
        raise FileFault("was written on a machine of another byte order")

    def read(storage: Storage) -> Tensor:
        size = storage.numel * storage.dtype.itemsize
        raw = _entry(archive, f"{folder}data/{storage.key}", size)
        if len(raw) != size:
            raise FileFault(f"is damaged: {len(raw):,} bytes for a storage of {size:,}")
        return _numbers(raw, storage)

    content, _ = read_pickle(_entry(archive, pickles[0], MOST_PICKLE), 0, REBUILDERS, _storage)
    return OpenFile(content, read, path.stat().st_size)


def _entry(archive: ZipFile, name: str, most: int, missing: bytes | None = None) -> bytes:
    """The bytes of an entry, its checksum right. ``missing``: what stands for one that is not."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        if missing is not None:
            return missing
        raise FileFault(f"is damaged: it has no {name}") from None
    if info.compress_type != ZIP_STORED or info.flag_bits & 1:
        raise FileFault("was compressed or encrypted after torch wrote it: save it again")
    if info.file_size > most or info.file_size != info.compress_size:
        raise FileFault(f"is damaged: {name} is said to have {info.file_size:,} bytes")
    try:
        with archive.open(info) as file:
            return file.read(most + 1)
    except _ZIP_FAULTS as error:
        raise FileFault(f"is damaged ({error})") from None


def _storage(identity: Any) -> Any:
    """Of torch's persistent id: ("storage", its class, key, device, numbers); old files of whole
    models also have ("module", class, file and text of its source), whose text is left alone."""
    if type(identity) is tuple and len(identity) > 1 and identity[0] == "module":
        return identity[1] if type(identity[1]) is Name else Inert(ANONYMOUS)
    if type(identity) is not tuple or len(identity) < 5 or identity[0] != "storage":
        return Inert(ANONYMOUS)
    _, kind, key, _, numel = identity[:5]
    dtype = STORAGES.get(kind.name) if type(kind) is Name and kind.module == "torch" else None
    if type(key) is not str or type(numel) is not int or numel < 0 or dtype is None:
        return Inert(Name("torch", "Storage"))
    return Storage(key, dtype, numel)


def _numbers(raw: bytes | memoryview, storage: Storage) -> Tensor:
    if not raw:
        return torch.empty(0, dtype=storage.dtype)
    return torch.frombuffer(bytearray(raw), dtype=storage.dtype)


def _open_old(data: bytes, at: int) -> OpenFile:
    """The rest of a file of torch before 1.6: protocol, facts of the machine, content, and the keys
    of the storages, which follow in that order, each after its number of elements."""
    sizes: dict[str, int] = {}

    def look_up(identity: Any) -> Any:
        found = _storage(identity)
        if type(found) is Storage:
            sizes[found.key] = found.dtype.itemsize
        return found

    protocol, at = read_pickle(data, at)
    machine, at = read_pickle(data, at)
    little = isinstance(machine, dict) and machine.get("little_endian") is True
    if protocol != 1001 or not little:
        raise FileFault("was written by a torch, or on a machine, that is not known")
    content, at = read_pickle(data, at, REBUILDERS, look_up)
    keys, at = read_pickle(data, at)
    places: dict[str, tuple[int, int]] = {}
    for key in keys if type(keys) is list else ():
        if type(key) is not str or key not in sizes or len(data) - at < 8:
            raise FileFault("is damaged: its storages are not those of its tensors")
        (numel,) = struct.unpack_from("<q", data, at)
        places[key] = (at + 8, numel)
        at += 8 + numel * sizes[key]
        if numel < 0 or at > len(data):
            raise FileFault("is cut off, or damaged: a storage reaches beyond its end")

    def read(storage: Storage) -> Tensor:
        start, numel = places.get(storage.key, (0, -1))
        if numel < storage.numel or storage.dtype.itemsize != sizes[storage.key]:
            raise FileFault("is damaged: a storage is not as large as its tensors")
        size = storage.numel * storage.dtype.itemsize
        return _numbers(memoryview(data)[start : start + size], storage)

    return OpenFile(content, read, len(data))
