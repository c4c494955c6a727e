"""An annotation file, a CSV or JSON lines: a row a video, or a part of one."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from math import nan
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, get_args

from slowfast_dist.annotations.columns import (
    COLUMNS,
    OF_ALL_LABELS,
    Columns,
    columns_of,
    plain_name,
)
from slowfast_dist.annotations.labels import Remark
from slowfast_dist.annotations.segments import (
    BOX,
    NO_BOX,
    BoxError,
    parse_box,
    parse_time,
    seconds_text,
)
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.fields import is_fraction
from slowfast_dist.metrics.cells import SEPARATOR, parted
from slowfast_dist.system.text import clean, few

Side = Literal["train", "val", "test"]
SIDES: tuple[Side, ...] = get_args(Side)
"""What a row's split may be."""

SUFFIXES = (".csv", ".tsv", ".jsonl")
"""Endings of an annotation file, which stands in place of a folder."""

OF_RUN = ("path", "class", "split", "group")
OF_RUN_SEVERAL = ("path", "classes", "split", "group")
"""The columns with which split.csv of a run begins: with one label a clip, and with several."""

SPELLINGS: dict[str, Side] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validate": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Cells of a column split, and words in files' names. "eval" is missing: to some it is val, to
others test."""

MOST_HEADER = 1 << 20
"""Characters of the longest first line that is looked at: names of columns need a thousandth."""

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}


def names_columns(path: Path) -> bool:
    """Whether a file is such a list: its first line that is not blank names path and label, in JSON
    lines as keys. What cannot be read is none."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = _first_line(file)
    except (OSError, UnicodeDecodeError):
        return False
    if path.suffix.lower() != ".jsonl":
        return bool(_parting(first))
    try:
        keys = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(keys, dict) and _names_both(keys)


def _first_line(file: IO[str]) -> str:
    """The first line that is not blank, as far as a header goes."""
    while line := file.readline(MOST_HEADER):
        if line.strip():
            return line
    return ""


def _parting(first: str) -> str:
    """The separator by which a first line names path and label, nothing where none does."""
    for separator in _SEPARATORS:
        try:
            cells = next(csv.reader([first], delimiter=separator, skipinitialspace=True))
        except csv.Error:  # a cell too long for the module, so not a name of a column
            continue
        if _names_both(cells):
            return separator
    return ""


def _names_both(names: Iterable[str]) -> bool:
    return {"path", "label"} <= {COLUMNS.get(plain_name(name), "") for name in names}


class Row(NamedTuple):
    """``path`` as it is written, ``label`` (of several classes each once, sorted, with SEPARATOR
    between them; "" for none of them), the number of the ``line`` that they begin in, its
    ``side`` (None without a column split), its ``group`` ("" for that of its file), the seconds
    from ``start`` to ``end`` (None: the whole video), its ``subject`` ("" without one), and its
    ``box``, a region of interest (NO_BOX: the whole picture), its ``weight`` in the loss, and its
    ``fold`` in a cross-validation (None without a column fold, "" for an empty cell)."""

    line: int
    path: str
    label: str
    side: Side | None
    group: str
    start: float | None = None
    end: float | None = None
    subject: str = ""
    box: tuple[float, float, float, float] = NO_BOX
    weight: float = 1.0
    fold: str | None = None


MOST_WEIGHT = 1e6
"""Largest weight of a row, and one over it the least: more is a slip, and float32, in which sums of
a step's losses are, loses the others beside it."""


class Table:
    """The annotation file that --``flag`` names: iterating reads its rows; `remarks` tells what is
    to be said once that is done.

    Raises UserError while it is read: for a file that cannot be, a column that is missing, twice
    there or refused, an empty cell, a time that is none, and a row of another length.
    """

    def __init__(self, path: Path, flag: str, several: bool | None = False) -> None:
        """``several``: whether a row may have several classes, or none at all; None: either, and
        ``has_several`` then tells which it is."""
        self.path, self.flag, self.several = path, flag, several
        self.follows_links = False
        """Whether its columns are those of a run's split.csv, which names what a training found, be
        it behind links; known with the first row."""
        self.has_several = bool(several)
        """Whether rows have several classes, once all were read."""
        self.names_all = False
        """Whether a row names all of its classes (OF_ALL_LABELS)."""
        self._empty: int | None = None  # the first line without a label
        self._unused: list[str] = []
        self._spelled: dict[str, Side] = {}
        self._boxes = [0, 0]  # of regions of interest in pixels, and in fractions

    def __iter__(self) -> Iterator[Row]:
        lines = self.path.suffix.lower() == ".jsonl"
        kind = "JSON lines" if lines else "a CSV"
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as file:
                yield from self._objects(file) if lines else self._rows(file)
            if self._empty is not None and not self.has_several:
                raise self._unlabelled(self._empty)
        except OSError as error:
            raise self.wrong(f"cannot be read ({error.strerror})") from None
        except UnicodeDecodeError as error:
            raise self.wrong(f"not {kind} in UTF-8 ({error}); save it as one") from None

    def remarks(self) -> Iterator[Remark]:
        if self._unused:
            one = len(self._unused) == 1
            named = f"column{'s' * (not one)} {few(self._unused, 6, quoted=True)} of {self.path}"
            yield Remark(
                "warning", "unused-columns", f"{named} {'is' if one else 'are'} not used",
                "only path, label (or class), start, end, split, group, fold, subject, x,y,w,h and "
                "weight are",
            )  # fmt: skip
        pixels, fractions = self._boxes
        if fractions:
            of = f"{fractions} of {pixels + fractions}" if pixels else "all"
            yield Remark(
                "info", "box-fractions",
                f"{self.path}: x,y,w,h of {of} regions of interest are fractions of the picture, "
                "as none is above 1",
            )  # fmt: skip
        if self._spelled:
            read = [f"{word!r} is taken as {side}" for word, side in self._spelled.items()]
            yield Remark("info", "split-words", f"{self.path}: split {few(read, 6)}")

    def wrong(self, what: str, line: int | None = None) -> UserError:
        """The mistake ``what``, in a line of the file, as the user reads it."""
        at = "" if line is None else f", line {line}"
        return UserError(f"--{self.flag} {self.path}{at}: {what}")

    # --- a CSV ---

    def _rows(self, file: IO[str]) -> Iterator[Row]:
        separator = self._separator(file)
        reader = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
        columns: Columns | None = None
        line = 1
        while True:
            try:
                row = [cell.strip() for cell in next(reader)]
            except StopIteration:
                return
            except csv.Error as error:
                why = f"not a CSV ({error}); is a quote missing, or one too many?"
                raise self.wrong(why, line) from None
            if any(row):
                if columns is None:
                    columns = self._columns(row, None)
                else:
                    self._fit(row, columns, line, separator)
                    yield self._row(row, columns, line)
            line = reader.line_num + 1

    def _separator(self, file: IO[str]) -> str:
        """By the first line that is not blank: the one that parts path from label."""
        first = _first_line(file)
        file.seek(0)
        if separator := _parting(first):
            return separator
        found = f"; it is {clean(first.strip())[:80]!r}" if first.strip() else ""
        raise self.wrong(f"its first line must name the columns path,label{found}")

    def _fit(self, row: list[str], columns: Columns, line: int, separator: str) -> None:
        """Take empty cells off the end. Raises UserError for a row of another length."""
        wanted = len(columns.names)
        while len(row) > wanted and not row[-1]:
            row.pop()
        if len(row) == wanted:
            return
        remedy = f"put what holds a {_SEPARATORS[separator]} in quotes, and leave no cell out that "
        remedy += "is empty"
        if separator == "," and len(row) > wanted and "start" in columns.place:
            remedy += "; numbers have a point, 12.4, no comma"
        what = f"{len(row)} cells where the first line names {wanted} columns"
        raise self.wrong(f"{what}; {remedy}", line)

    # --- JSON lines ---

    def _objects(self, file: IO[str]) -> Iterator[Row]:
        known: dict[tuple[str, ...], Columns] = {}
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                found = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise self.wrong(f"not JSON ({error}); write one object a line", line) from None
            if not isinstance(found, dict):
                what = "write one object a line, with the keys path and label"
                raise self.wrong(f"{clean(text.strip())[:40]} is no JSON object; {what}", line)
            names = tuple(found)
            if names not in known:
                known[names] = self._columns(names, line)
            cells = [self._cell(name, value, line) for name, value in found.items()]
            yield self._row(cells, known[names], line)

    def _cell(self, name: str, value: Any, line: int) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            return value.strip()
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if plain_name(name) not in COLUMNS:
            return "?"  # filled, with what is not used
        if isinstance(value, list) and COLUMNS[plain_name(name)] == "label":
            cells = [self._cell(name, one, line) for one in value if not isinstance(one, list)]
            if all(cells) and len(cells) == len(value):
                if len(cells) != 1:
                    self._note_several(SEPARATOR.join(cells), line)
                return SEPARATOR.join(cells)
        what = f"{clean(name)} is {clean(json.dumps(value))[:40]}; give a text or a number"
        raise self.wrong(what, line)

    # --- both ---

    def _columns(self, header: Sequence[str], line: int | None) -> Columns:
        try:
            columns = columns_of(header)
        except ValueError as error:
            raise self.wrong(str(error), line) from None
        for name in ("path", "label"):
            if name not in columns.place:
                raise self.wrong(f"{name} is missing; every row needs path and label", line)
        self.follows_links = tuple(header[: len(OF_RUN)]) in (OF_RUN, OF_RUN_SEVERAL)
        self.names_all = plain_name(header[columns.place["label"]]) in OF_ALL_LABELS
        self.has_several |= self.names_all and self.several is None
        named = (name for name in columns.unused.values() if name != "(no name)")
        self._unused += [name for name in named if name not in self._unused]
        return columns

    def _row(self, row: list[str], columns: Columns, line: int) -> Row:
        place = columns.place
        for number, why in columns.refused.items():
            if cell := row[number]:
                name = clean(columns.names[number])
                raise self.wrong(f"{name} {clean(cell)[:40]}: {why}", line)
        for number, name in columns.unused.items():
            if row[number] and name not in self._unused:
                self._unused.append(name)
        path, label = row[place["path"]], row[place["label"]]
        if not path or (not label and self.several is False):
            raise self._unlabelled(line)
        # A class of a run, as a folder, may be called so.
        if SEPARATOR in label and (self.names_all or not self.follows_links):
            label = self._several_of(label, line)
        elif not label and self._empty is None:
            self._empty = line
        side: Side | None = None
        if "split" in place:
            word = row[place["split"]]
            if (known := SPELLINGS.get(word.casefold())) is None:
                what = f"split {clean(word)[:40]!r} is none" if word else "split is empty"
                raise self.wrong(f"{what}; give train, val or test", line)
            side = known
            if side != word and len(self._spelled) < len(SPELLINGS):
                self._spelled.setdefault(word, side)
        start, end = self._times(row, columns, line)
        group = row[place["group"]] if "group" in place else ""
        subject = row[place["subject"]] if "subject" in place else ""
        box = self._box(row, columns, line)
        weight = self._weight(row, columns, line)
        fold = _fold(row[place["fold"]]) if "fold" in place else None
        return Row(line, path, label, side, group, start, end, subject, box, weight, fold)

    def _box(
        self, row: list[str], columns: Columns, line: int
    ) -> tuple[float, float, float, float]:
        place = columns.place
        cells = [row[place[name]] if name in place else "" for name in BOX]
        try:
            box = parse_box(cells)
        except BoxError as error:
            what = str(error)
            if error.column not in place:
                what = f"there is no column {error.column}: a region of interest is x,y,w,h"
            raise self.wrong(clean(what), line) from None
        if box is not NO_BOX:
            self._boxes[int(is_fraction(box))] += 1
        return box

    def _several_of(self, cell: str, line: int) -> str:
        """The classes of a row, each once. Raises UserError where a row may have but one."""
        names = [name.strip() for name in cell.split(SEPARATOR)]
        if not all(names):
            raise self.wrong(f"label {clean(cell)[:60]!r} has an empty class; delete one |", line)
        names = sorted(set(names))
        if len(names) > 1:
            self._note_several(cell, line)
        return SEPARATOR.join(names)

    def _note_several(self, cell: str, line: int) -> None:
        if self.several is False:
            what = f"label {clean(cell)[:60]!r} holds {len(parted(cell))} classes"
            remedy = "train on several a clip with --loss.name bce, or leave one, without a |"
            raise self.wrong(f"{what}: {remedy}", line)
        self.has_several = True

    def _unlabelled(self, line: int) -> UserError:
        return self.wrong("path or label is empty; fill it in or delete the line", line)

    def _weight(self, row: list[str], columns: Columns, line: int) -> float:
        place = columns.place.get("weight")
        if place is None or not (cell := row[place]):
            return 1.0
        try:
            weight = float(cell)
        except ValueError:
            weight = nan
        if not 1 / MOST_WEIGHT <= weight <= MOST_WEIGHT or "_" in cell:
            name = clean(columns.names[place])
            what = f"give a number from {1 / MOST_WEIGHT:g} to {MOST_WEIGHT:g}, with a point, or "
            what += "nothing for 1"
            raise self.wrong(f"{name} {clean(cell)[:40]!r}: {what}", line)
        return weight

    def _times(
        self, row: list[str], columns: Columns, line: int
    ) -> tuple[float | None, float | None]:
        found = dict[str, float]()
        for kind in ("start", "end"):
            if kind in columns.place and (cell := row[columns.place[kind]]):
                try:
                    found[kind] = parse_time(cell)
                except ValueError as error:
                    name = clean(columns.names[columns.place[kind]])
                    raise self.wrong(f"{name} {clean(cell)[:40]!r} {error}", line) from None
        if not found:
            return None, None
        if len(found) == 1:
            [(kind, seconds)] = found.items()
            other = "end" if kind == "start" else "start"
            what = f"{kind} {seconds_text(seconds)} without {other}: give both, or none for the "
            raise self.wrong(f"{what}whole video", line)
        start, end = found["start"], found["end"]
        if start >= end:
            what = f"start {seconds_text(start)} is not before end {seconds_text(end)}"
            raise self.wrong(f"{what}: correct one of them", line)
        return start, end


def _fold(cell: str) -> str:
    """A fold's name; 2.0, as programs write a column of whole numbers with empty cells, is 2."""
    whole = cell.removesuffix(".0")
    return whole if whole.isdecimal() else cell
