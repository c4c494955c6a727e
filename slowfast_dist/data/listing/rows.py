"""The videos, and parts of videos, that an annotation file names: a class at a time, in columns."""

import errno
import os
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from slowfast_dist.annotations.segments import NO_BOX, sample_name
from slowfast_dist.annotations.table import SIDES, Row
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.columns import Texts
from slowfast_dist.data.listing.scan import FileRows, Files
from slowfast_dist.system.text import few
from slowfast_dist.video.images.listing import Stamp, stamp_of

_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}

WHOLE = float("nan")
"""Start and end of a whole video."""


class RowSource(Protocol):
    """An annotation file that --``flag`` names, or what was imported of one: see
    `annotations.table.Table`."""

    path: Path
    flag: str
    several: bool | None
    has_several: bool
    names_all: bool

    @property
    def follows_links(self) -> bool:
        """Whether relative paths may leave the root by a link; known with the first row."""

    def __iter__(self) -> Iterator[Row]: ...

    def wrong(self, what: str, line: int | None = None) -> UserError: ...


class _File(NamedTuple):
    """A file that a row names: its number, its name below the root, its size and time (-1 where
    there is none)."""

    number: int
    name: bytes
    size: int
    mtime_ns: int


@dataclass
class _Rows:
    """The rows of one class while they are read; rows of one file share its name."""

    files: list[_File] = field(default_factory=list)
    sides: "array[int]" = field(default_factory=lambda: array("b"))
    groups: list[str] = field(default_factory=list)
    starts: "array[float]" = field(default_factory=lambda: array("d"))
    ends: "array[float]" = field(default_factory=lambda: array("d"))
    lines: "array[int]" = field(default_factory=lambda: array("q"))
    subjects: list[str] = field(default_factory=list)
    boxes: "array[float]" = field(default_factory=lambda: array("d"))
    weights: "array[float]" = field(default_factory=lambda: array("f"))
    folds: list[str | None] = field(default_factory=list)

    def add(self, row: Row, file: _File) -> None:
        self.files.append(file)
        self.sides.append(-1 if row.side is None else SIDES.index(row.side))
        self.groups.append(row.group)
        self.starts.append(WHOLE if row.start is None else row.start)
        self.ends.append(WHOLE if row.end is None else row.end)
        self.lines.append(row.line)
        self.subjects.append(row.subject)
        self.boxes.extend(row.box)
        self.weights.append(row.weight)
        self.folds.append(row.fold)

    def columns(self) -> Files:
        """By name, start, end and region of interest."""
        bounds = np.stack([np.array(self.starts), np.array(self.ends)], axis=1)
        boxes = np.array(self.boxes).reshape(-1, 4)
        names = [file.name for file in self.files]
        by_time = np.lexsort((*boxes.T[::-1], bounds[:, 1], bounds[:, 0])).tolist()
        order = sorted(by_time, key=names.__getitem__)
        stamps = np.array([(file.size, file.mtime_ns) for file in self.files], np.int64)
        numbers = np.array([file.number for file in self.files], np.int32)
        return Files(
            Texts.of_parts([names[place] for place in order]),
            stamps.reshape(-1, 2)[order],
            np.array(self.sides, np.int8)[order],
            [self.groups[place] for place in order],
            FileRows(
                numbers[order], bounds[order], np.array(self.lines, np.int32)[order],
                [self.subjects[place] for place in order], boxes[order],
                np.array(self.weights, np.float32)[order], [self.folds[place] for place in order],
            ),
        )  # fmt: skip


def list_rows(table: RowSource, root: Path) -> dict[str, Files]:
    """The samples of each label; relative paths start from ``root``. Where the table has several
    labels a row, those of each combination of them, and a sample may be in several rows. Raises
    UserError."""
    find = _Finder(table, root)
    found: dict[str, _Rows] = defaultdict(_Rows)
    whole: dict[tuple[int, tuple[float, ...]], Row] = {}
    missing: dict[int, str] = {}
    for row in table:
        file = find(row)
        key = file.number, () if row.box is NO_BOX else row.box  # NaN is not equal to itself
        if row.start is None and (first := whole.setdefault(key, row)) is not row:
            if table.several is False or (table.several is None and first.label == row.label):
                name = sample_name(os.fsdecode(file.name), WHOLE, WHOLE, row.box)
                what = f"{name} stands in line {first.line} already; delete one"
                if first.label != row.label:
                    what += ", or let it have both labels (--loss.name bce)"
                raise table.wrong(what, row.line)
            table.has_several = True
        if file.size < 0:
            missing.setdefault(file.number, f"line {row.line}: {row.path}")
        found[row.label].add(row, file)
    if missing:
        total = f" ({len(missing)} in all)" if len(missing) > 1 else ""
        raise UserError(
            f"--{table.flag} {table.path}: files that do not exist: {few([*missing.values()])}"
            f"{total}; relative paths start from {root}: correct or delete these lines, or give "
            f"{find.flag}, the folder that they start from"
        )
    columns = {label: rows.columns() for label, rows in found.items()}
    for files in columns.values() if not table.has_several else ():
        _refuse_twice(files, table)
    return columns


class _Finder:
    """The file of each row, looked for once."""

    def __init__(self, table: RowSource, root: Path) -> None:
        self._table, self._root = table, root
        self._start = os.path.abspath(root)
        self._below = os.path.join(self._start, "")
        self._real = os.path.join(os.path.realpath(self._start), "")
        self._real_folder = cache(os.path.realpath)
        self._known: dict[str, _File] = {}
        self.flag = "--data.videos" if table.flag.startswith("data.") else "--videos"

    def __call__(self, row: Row) -> _File:
        """Raises UserError for a path that leaves the root, and a file that cannot be looked at."""
        start, table = self._start, self._table
        path = os.path.normpath(os.path.join(start, row.path))
        is_below = path.startswith(self._below)
        # A path elsewhere stays absolute: joined to the root it is itself.
        name = path[len(self._below) :] if is_below else "." if path == start else path
        name = name.replace(os.sep, "/")
        if (known := self._known.get(name)) is not None:
            return known
        if not os.path.isabs(row.path):
            if path != start and not is_below:
                raise table.wrong(
                    f"{row.path} is not below {self._root}; move it there, write it as an "
                    f"absolute path, or give {self.flag}, the folder that paths start from",
                    row.line,
                )
            link = os.path.realpath(path) if os.path.islink(path) else ""
            target = link or os.path.join(self._real_folder(os.path.dirname(path)), "")
            # What a training listed in its split.csv it may have found behind links.
            if path != start and not target.startswith(self._real) and not table.follows_links:
                raise table.wrong(
                    f"{row.path} leaves {self._root} by a link, to {target}; write it as an "
                    "absolute path",
                    row.line,
                )
        try:
            stamp = _stamp(path)
        except OSError as error:
            raise table.wrong(f"cannot be read ({error.strerror})", row.line) from None
        file = _File(len(self._known), name.encode(), *(stamp or (-1, -1)))
        self._known[name] = file
        return file


def _refuse_twice(files: Files, table: RowSource) -> None:
    """Raise UserError where a class has the same segment of a file twice; in order they are
    neighbours."""
    rows = files.rows
    assert rows is not None
    same = (rows.numbers[1:] == rows.numbers[:-1]) & (rows.bounds[1:] == rows.bounds[:-1]).all(1)
    boxes = np.nan_to_num(rows.boxes, nan=np.inf)
    same &= (boxes[1:] == boxes[:-1]).all(1)
    if same.any():
        place = int(np.flatnonzero(same)[0])
        first, second = sorted(rows.lines[place : place + 2].tolist())
        start, end = rows.bounds[place].tolist()
        name = sample_name(files.names[place], start, end, rows.boxes[place].tolist())
        raise table.wrong(f"{name} stands in line {first} already; delete one", second)


def _stamp(path: str) -> Stamp | None:
    """None where there is neither a file nor a folder of images. Raises OSError where that cannot
    be known."""
    try:
        return stamp_of(path)
    except ValueError:  # a name with a null character
        return None
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        return None
