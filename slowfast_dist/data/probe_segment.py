"""One file of the probe's cache: what was found of some files, in columns, whole or refused.

A magic line, a digest of all that follows, a JSON header, the columns as they lie in memory. It is
read only where the digest is right, and never unpickled.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.data.columns import FIELDS, InfoColumns, Rows, Texts
from slowfast_dist.data.probe import VERSION
from slowfast_dist.files import atomic_write

MAGIC = b"slowfast_dist probe cache 2\n"
DIGEST_SIZE = 32
ALIGNMENT = 8


@dataclass(frozen=True)
class Segment:
    """(N,) files: names below a root, ``stamps`` (N, 2) of size and mtime_ns, what they hold."""

    names: Texts
    stamps: NDArray[np.int64]
    infos: InfoColumns

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Rows) -> "Segment":
        return Segment(self.names.take(rows), self.stamps[rows], self.infos.take(rows))

    @classmethod
    def concatenated(cls, several: list["Segment"]) -> "Segment":
        infos = InfoColumns.empty(sum(map(len, several)))
        first = 0
        for segment in several:
            rows = np.arange(len(segment))
            infos.put(rows + first, segment.infos, rows)
            first += len(segment)
        stamps = [np.empty((0, 2), np.int64), *(segment.stamps for segment in several)]
        names = Texts.concatenated([segment.names for segment in several])
        return cls(names, np.concatenate(stamps), infos)


def write_segment(path: Path, segment: Segment) -> None:
    """Write it atomically. Raises OSError."""
    columns: dict[str, NDArray[Any]] = {
        "names": segment.names.data,
        "offsets": segment.names.offsets,
        "stamps": segment.stamps.ravel(),
        **{f"info.{name}": column for name, column in segment.infos.columns.items()},
    }
    header = {
        "version": VERSION,
        "columns": [[name, c.dtype.str, len(c)] for name, c in columns.items()],
        "texts": segment.infos.texts,
    }
    parts = list(_laid_out(json.dumps(header).encode(), columns))
    digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
    for part in parts:
        digest.update(part)
    with atomic_write(path) as file:
        file.write(MAGIC + digest.digest())
        file.writelines(parts)


def _laid_out(header: bytes, columns: dict[str, NDArray[Any]]) -> Iterator[Any]:
    yield len(header).to_bytes(ALIGNMENT, "little")
    yield header + bytes(-len(header) % ALIGNMENT)
    for column in columns.values():
        yield np.ascontiguousarray(column).data
        yield bytes(-column.nbytes % ALIGNMENT)


def read_segment(path: Path) -> Segment | None:
    """None for a damaged file, and for one of another version. Raises OSError."""
    content = memoryview(path.read_bytes())
    start = len(MAGIC) + DIGEST_SIZE
    body = content[start:]
    digest = hashlib.blake2b(body, digest_size=DIGEST_SIZE).digest()
    if content[:start] != MAGIC + digest:
        return None
    place = ALIGNMENT + int.from_bytes(body[:ALIGNMENT], "little")
    columns = {}
    header = json.loads(bytes(body[ALIGNMENT:place]))
    for name, dtype, count in header["columns"]:
        place += -place % ALIGNMENT
        columns[name] = np.frombuffer(body, np.dtype(dtype), count, place)
        place += columns[name].nbytes
    infos = {name: columns.get(f"info.{name}") for name in FIELDS}
    found = {name: column for name, column in infos.items() if column is not None}
    if header["version"] != VERSION or len(found) < len(FIELDS):
        return None
    return Segment(
        Texts(columns["names"], columns["offsets"]),
        columns["stamps"].reshape(-1, 2),
        InfoColumns(found, header["texts"]),
    )
