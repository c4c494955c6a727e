"""What probes found, remembered by each file's name, size and time, in a folder for each root.

The folder holds segments. A probe that finds something adds one, under a name that no other
process takes, and when there are many it writes one in place of all that it has read. So nothing
is ever written over: two runs at once, or one that is killed, cost at most a second probe.
"""

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.data.listing.columns import FIELDS, OWN_TEXTS, InfoColumns, Rows, Texts
from slowfast_dist.system.files import atomic_write, reason_of
from slowfast_dist.system.log import logger
from slowfast_dist.system.parsing import parse_json
from slowfast_dist.video.probe import VERSION

SAVE_SECONDS = 60.0
"""Seconds from one save of the cache to the next while the probe runs: what a kill may cost."""

MOST_SEGMENTS = 8
"""Segments of a folder from which on they are made one, as each start reads them all."""

READS = 3
"""Times that a folder is read in which another run is just making many segments one."""

SUFFIX = ".probe"


def default_cache() -> Path | None:
    """``slowfast_dist/probe`` in $SLOWFAST_DIST_CACHE, $XDG_CACHE_HOME or ~/.cache.

    None for a user without a home.
    """
    for name in ("SLOWFAST_DIST_CACHE", "XDG_CACHE_HOME"):
        if os.environ.get(name):
            return Path(os.environ[name], "slowfast_dist", "probe")
    try:
        return Path.home() / ".cache" / "slowfast_dist" / "probe"
    except RuntimeError:
        return None


# --- segments ------------------------------------------------------------------------------------
#
# A file holds a magic line, a digest of all that follows, a JSON header, the columns as they lie in
# memory. It is read only where the digest is right, and never unpickled.


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


class ProbeCache:
    """What is known of the files below ``root``, in a folder of its own below ``cache``.

    Rejections are not kept: a missing codec may come, a network drive recover.
    """

    def __init__(self, cache: Path | None, root: Path, files: Segment) -> None:
        """Fill in the infos of ``files`` (N,), by name and stamp, where they are known."""
        self._root = os.path.abspath(root)
        self._files = files
        # For people, and what tells roots of one name apart.
        name = re.sub(r"[^\w.-]", "_", os.path.basename(self._root), flags=re.ASCII)[:40]
        key = hashlib.blake2b(os.fsencode(self._root), digest_size=8).hexdigest()
        self._folder = cache and cache / f"{name}-{key}"
        segments = _segments(self._folder)
        self._paths = list(segments)
        self._damaged = None in segments.values()
        found = [segment for segment in segments.values() if segment is not None]
        self._found = found[0] if len(found) == 1 else Segment.concatenated(found)
        self.known = np.zeros(len(files), np.bool_)
        """(N,): whether ``infos`` has what the file holds."""
        places = self._found.names.places(files.names)
        rows = np.flatnonzero(places >= 0)
        rows = rows[(self._found.stamps[places[rows]] == files.stamps[rows]).all(axis=1)]
        files.infos.put(rows, self._found.infos, places[rows])
        self.known[rows] = True
        self._new: list[int] = []
        self._saved = time.monotonic()

    def add(self, row: int) -> None:
        """``infos`` now has what was found of this one."""
        self.known[row] = True
        self._new.append(row)
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write what was added since the last time; what cannot be written costs one warning."""
        self._saved = time.monotonic()
        if self._new:
            self._write(self._files.take(np.array(self._new, np.int64)))
        self._new = []

    def merge(self) -> None:
        """Make many segments one; damaged ones, and those of another version, go."""
        if not self._damaged and len(self._paths) <= MOST_SEGMENTS:
            return
        replaced = list(self._paths)
        listed = self._files.take(np.flatnonzero(self.known))
        self._write(Segment.concatenated([listed, self._unlisted()]))
        if self._folder is not None:
            for path in replaced:
                with contextlib.suppress(OSError):  # as where another run was faster
                    path.unlink()

    def _unlisted(self) -> Segment:
        """What was known of files that exist but were not asked for, as of another CSV's."""
        rows = {name: row for row, name in enumerate(self._found.names.parts())}
        for name in self._files.names.parts():
            rows.pop(name, None)
        root = os.fsencode(self._root)
        kept = [row for name, row in rows.items() if os.path.exists(os.path.join(root, name))]
        return self._found.take(np.array(kept, np.int64))

    def _write(self, segment: Segment) -> None:
        if self._folder is None:
            return
        path = self._folder / f"{time.time_ns():020d}-{os.getpid()}{SUFFIX}"
        try:
            write_segment(path, segment)
            self._paths.append(path)
        except OSError as error:
            logger.warning(
                f"{self._folder}: {reason_of(error)}; the videos will be checked "
                "again next time",
                extra={"stderr": True},
            )
            self._folder = None


def _segments(folder: Path | None) -> dict[Path, Segment | None]:
    """Those of a folder, the oldest first; None for what is damaged or of another version."""
    for _ in range(READS):
        paths = sorted(folder.glob(f"*{SUFFIX}")) if folder else []
        with contextlib.suppress(FileNotFoundError):
            return {path: read_segment(path) for path in paths}
    return {}


MAGIC = b"slowfast_dist probe cache 3\n"
DIGEST_SIZE = 32
"""Bytes of the digest, as BLAKE2b is usually cut."""

ALIGNMENT = 8
"""Bytes on whose multiples columns begin: the largest of numpy's numbers."""


def write_segment(path: Path, segment: Segment) -> None:
    """Write it atomically. Raises OSError."""
    columns: dict[str, NDArray[Any]] = {
        "names": segment.names.data,
        "offsets": segment.names.offsets,
        "stamps": segment.stamps.ravel(),
        **{f"info.{name}": column for name, column in segment.infos.columns.items()},
    }
    texts = dict(segment.infos.texts)
    for name in OWN_TEXTS:
        own = Texts.of(texts.pop(name))
        columns |= {f"text.{name}": own.data, f"offsets.{name}": own.offsets}
    header = {
        "version": VERSION,
        "columns": [[name, c.dtype.str, len(c)] for name, c in columns.items()],
        "texts": texts,
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
    """None for one of another version, for one that cannot be read, as another user's, and for one
    that is damaged, which is said. Raises FileNotFoundError.
    """
    try:
        content = memoryview(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError:
        return None
    start = len(MAGIC) + DIGEST_SIZE
    body = content[start:]
    digest = hashlib.blake2b(body, digest_size=DIGEST_SIZE).digest()
    magic = bytes(content[: len(MAGIC)])
    if magic != MAGIC and _KIND.fullmatch(magic):
        return None
    try:
        if content[:start] != MAGIC + digest:
            raise ValueError("another checksum")
        return _parsed(body)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        logger.warning(
            f"{path}: is damaged and dropped: its videos are checked again", extra={"stderr": True}
        )
        return None


_KIND = re.compile(MAGIC.replace(b"3", rb"\d"))
"""How a segment of any version begins."""


def _parsed(body: memoryview) -> Segment | None:
    """A segment behind its digest; None for one of another version. Raises ValueError, or another
    of the errors that `read_segment` names, for what no writer wrote."""
    place = ALIGNMENT + int.from_bytes(body[:ALIGNMENT], "little")
    columns = {}
    header = parse_json(bytes(body[ALIGNMENT:place]))
    for name, dtype, count in header["columns"]:
        place += -place % ALIGNMENT
        columns[name] = np.frombuffer(body, np.dtype(dtype), count, place)
        place += columns[name].nbytes
    infos = {name: columns.get(f"info.{name}") for name in FIELDS}
    found = {name: column for name, column in infos.items() if column is not None}
    if header["version"] != VERSION or len(found) < len(FIELDS):
        return None
    names = Texts(columns["names"], columns["offsets"])
    own = {name: Texts(columns[f"text.{name}"], columns[f"offsets.{name}"]) for name in OWN_TEXTS}
    read = InfoColumns(found, header["texts"] | own)
    stamps = columns["stamps"].reshape(-1, 2)
    names.check()
    read.check()
    if not len(names) == len(stamps) == len(read) or stamps.dtype != np.int64:
        raise ValueError("its columns are of several lengths")
    return Segment(names, stamps, read)
