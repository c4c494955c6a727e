"""A CSV of path,label and perhaps split,group: one row a video."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal, NamedTuple, get_args

from slowfast_dist.annotations.labels import Remark
from slowfast_dist.config.errors import UserError
from slowfast_dist.system.text import clean, few

Side = Literal["train", "val", "test"]
SIDES: tuple[Side, ...] = get_args(Side)
"""What a row's split may be."""

_SPELLINGS: dict[str, Side] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Cells of a column split. "eval" is missing: to some it is val, to others test."""

_COLUMNS = {"path": "path", "label": "label", "class": "label", "split": "split", "group": "group"}
"""Names of columns, with what they hold; split.csv of a run has class in place of label."""

_PART = "only the whole video can be taken, not yet a part of it: cut such parts into files of "
_WEIGHT = "videos cannot be weighted one by one yet: delete the column (--loss.class-weights "
_REFUSED = {
    **dict.fromkeys(
        ("start", "end", "stop", "begin", "onset", "offset", "start_time", "end_time", "stop_time",
         "time_start", "time_end", "start_frame", "end_frame", "start (s)", "stop (s)", "end (s)",
         "start_s", "end_s", "start_sec", "end_sec", "t_start", "t_end"),
        f"{_PART}their own, or delete the column",
    ),
    **dict.fromkeys(
        ("weight", "weights", "sample_weight"), f"{_WEIGHT}balanced weighs classes)"
    ),
}  # fmt: skip
"""Columns that mean something which a training would do wrong without, and why they are refused."""

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}


class Row(NamedTuple):
    """``path`` as it is written, ``label``, the number of the ``line`` that they begin in, its
    ``side`` (None without a column split) and its ``group`` ("" for one of its own)."""

    line: int
    path: str
    label: str
    side: Side | None
    group: str


class Table:
    """The CSV that --``flag`` names: iterating reads its rows; `remarks` tells what is to be said
    once that is done.

    Raises UserError while it is read: for a file that cannot be, a column that is missing, twice
    there or refused, an empty cell, and a row of another length.
    """

    def __init__(self, path: Path, flag: str) -> None:
        self.path, self.flag = path, flag
        self.is_of_run = False
        """Whether its columns are those of a run's split.csv; known with the first row."""
        self._unused: list[str] = []
        self._spelled: dict[str, Side] = {}

    def __iter__(self) -> Iterator[Row]:
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as file:
                yield from self._rows(file)
        except OSError as error:
            raise self._wrong(f"cannot be read ({error.strerror})") from None
        except UnicodeDecodeError as error:
            raise self._wrong(f"not a CSV in UTF-8 ({error}); save it as one") from None

    def remarks(self) -> Iterator[Remark]:
        if self._unused:
            one = len(self._unused) == 1
            named = f"column{'s' * (not one)} {few(self._unused, 6, quoted=True)} of {self.path}"
            yield Remark(
                "warning", "unused-columns", f"{named} {'is' if one else 'are'} not used",
                "only path, label (or class), split and group are",
            )  # fmt: skip
        if self._spelled:
            read = [f"{word!r} is taken as {side}" for word, side in self._spelled.items()]
            yield Remark("info", "split-words", f"{self.path}: split {few(read, 6)}")

    def _wrong(self, what: str, line: int | None = None) -> UserError:
        at = "" if line is None else f", line {line}"
        return UserError(f"--{self.flag} {self.path}{at}: {what}")

    def _rows(self, file: IO[str]) -> Iterator[Row]:
        separator = self._separator(file)
        reader = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
        place: dict[str, int] | None = None
        names: list[str] = []
        line = 1
        while True:
            try:
                row = [cell.strip() for cell in next(reader)]
            except StopIteration:
                return
            except csv.Error as error:
                why = f"not a CSV ({error}); is a quote missing, or one too many?"
                raise self._wrong(why, line) from None
            if any(row):
                if place is None:
                    names, place = row, self._places(row)
                    self.is_of_run = names == ["path", "class", "split", "group"]
                else:
                    yield self._row(row, names, place, line, separator)
            line = reader.line_num + 1

    def _separator(self, file: IO[str]) -> str:
        """By the first line that is not blank: the one that parts path from label."""
        first = next((line for line in file if line.strip()), "")
        file.seek(0)
        for separator in _SEPARATORS:
            cells = next(csv.reader([first], delimiter=separator, skipinitialspace=True))
            if {"path", "label"} <= {_COLUMNS.get(_name(cell), "") for cell in cells}:
                return separator
        found = f"; it is {clean(first.strip())[:80]!r}" if first.strip() else ""
        raise self._wrong(f"its first line must name the columns path,label{found}")

    def _places(self, header: Sequence[str]) -> dict[str, int]:
        """What is where; columns without a name count as unused once a cell is filled."""
        place: dict[str, int] = {}
        seen: set[str] = set()
        for column, cell in enumerate(header):
            name = _name(cell)
            kind = _COLUMNS.get(name)
            if name and (name in seen or kind in place):
                other = "" if name in seen else f" beside {header[place[kind or '']]!r}"
                raise self._wrong(f"column {cell!r} is there twice{other}; delete one")
            seen.add(name)
            if kind is not None:
                place[kind] = column
            elif name and name not in _REFUSED:
                self._unused.append(clean(cell))
        return place

    def _row(
        self, row: list[str], names: list[str], place: dict[str, int], line: int, separator: str
    ) -> Row:
        while len(row) > len(names) and not row[-1]:
            row.pop()
        if len(row) != len(names):
            raise self._wrong(
                f"{len(row)} cells where the first line names {len(names)} columns; put what holds "
                f"a {_SEPARATORS[separator]} in quotes, and leave no cell out that is empty", line
            )  # fmt: skip
        for name, cell in zip(names, row, strict=True):
            if cell and (why := _REFUSED.get(_name(name))):
                raise self._wrong(f"{clean(name)} {clean(cell)[:40]}: {why}", line)
            if cell and not name and (unnamed := "(no name)") not in self._unused:
                self._unused.append(unnamed)
        path, label = row[place["path"]], row[place["label"]]
        if not path or not label:
            raise self._wrong("path or label is empty; fill it in or delete the line", line)
        side: Side | None = None
        if "split" in place:
            word = row[place["split"]]
            if (known := _SPELLINGS.get(word.casefold())) is None:
                what = f"split {clean(word)[:40]!r} is none" if word else "split is empty"
                raise self._wrong(f"{what}; give train, val or test", line)
            side = known
            if side != word and len(self._spelled) < len(_SPELLINGS):
                self._spelled.setdefault(word, side)
        return Row(line, path, label, side, row[place["group"]] if "group" in place else "")


def _name(cell: str) -> str:
    """A column's name, in whatever letters it is written."""
    return cell.strip().casefold()
