"""The videos, and parts of videos, that an annotation file names: a class at a time, in columns."""

import errno
import os
import stat
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slowfast_dist.annotations.segments import sample_name
from slowfast_dist.annotations.table import SIDES, Row, Table
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.columns import Texts
from slowfast_dist.data.listing.scan import FileRows, Files
from slowfast_dist.system.text import few

_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}

WHOLE = float("nan")
"""Start and end of a whole video."""


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
    weights: "array[float]" = field(default_factory=lambda: array("f"))

    def add(self, row: Row, file: _File) -> None:
        self.files.append(file)
        self.sides.append(-1 if row.side is None else SIDES.index(row.side))
        self.groups.append(row.group)
        self.starts.append(WHOLE if row.start is None else row.start)
        self.ends.append(WHOLE if row.end is None else row.end)
        self.lines.append(row.line)
        self.subjects.append(row.subject)
        self.weights.append(row.weight)

    def columns(self) -> Files:
        """By name, start and end."""
        bounds = np.stack([np.array(self.starts), np.array(self.ends)], axis=1)
        names = [file.name for file in self.files]
        by_time = np.lexsort((bounds[:, 1], bounds[:, 0])).tolist()
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
                [self.subjects[place] for place in order],
                np.array(self.weights, np.float32)[order],
            ),
        )  # fmt: skip


def list_rows(table: Table, root: Path) -> dict[str, Files]:
    """The samples of each label; relative paths start from ``root``. Raises UserError."""
    find = _Finder(table, root)
    found: dict[str, _Rows] = defaultdict(_Rows)
    whole: dict[int, int] = {}
    missing: dict[int, str] = {}
    for row in table:
        file = find(row)
        if row.start is None and (first := whole.setdefault(file.number, row.line)) != row.line:
            name = os.fsdecode(file.name)
            raise table.wrong(f"{name} stands in line {first} already; delete one", row.line)
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
    for files in columns.values():
        _refuse_twice(files, table)
    return columns


class _Finder:
    """The file of each row, looked for once."""

    def __init__(self, table: Table, root: Path) -> None:
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
            if path != start and not target.startswith(self._real) and not table.is_of_run:
                raise table.wrong(
                    f"{row.path} leaves {self._root} by a link, to {target}; write it as an "
                    "absolute path",
                    row.line,
                )
        try:
            status = _file_status(path)
        except OSError as error:
            raise table.wrong(f"cannot be read ({error.strerror})", row.line) from None
        stamp = (-1, -1) if status is None else (status.st_size, status.st_mtime_ns)
        file = _File(len(self._known), name.encode(), *stamp)
        self._known[name] = file
        return file


def _refuse_twice(files: Files, table: Table) -> None:
    """Raise UserError where a class has the same segment of a file twice; in order they are
    neighbours."""
    rows = files.rows
    assert rows is not None
    same = (rows.numbers[1:] == rows.numbers[:-1]) & (rows.bounds[1:] == rows.bounds[:-1]).all(1)
    if same.any():
        place = int(np.flatnonzero(same)[0])
        first, second = sorted(rows.lines[place : place + 2].tolist())
        name = sample_name(files.names[place], *rows.bounds[place].tolist())
        raise table.wrong(f"{name} stands in line {first} already; delete one", second)


def _file_status(path: str) -> os.stat_result | None:
    """None where there is no file. Raises OSError where that cannot be known."""
    try:
        status = os.stat(path)
    except ValueError:  # a name with a null character
        return None
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        return None
    return status if stat.S_ISREG(status.st_mode) else None
