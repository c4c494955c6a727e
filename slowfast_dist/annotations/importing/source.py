"""One annotation file, opened with care: it may come from a stranger, and hold anything."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

from slowfast_dist.annotations.importing.rows import Notes, Options, Where, place
from slowfast_dist.annotations.segments import clock_seconds
from slowfast_dist.config.errors import UserError
from slowfast_dist.system.text import clean, few

MOST_JSON_BYTES = 512 << 20
"""Bytes of a JSON file at most: parsed, it takes about ten times as many of memory."""

MOST_DEPTH = 100
"""Elements of XML within each other at most; those of annotation tools have about eight."""

HEAD_CHARACTERS = 65_536
"""Characters of a file that are looked at to find its format; VIA writes long comments first."""

MOST_NUMBER = 1e12
"""Largest second or frame that is taken for one: thirty thousand years."""

_COMMA_NUMBER = re.compile(r"-?\d+,\d+|-?\d[\d:]*:\d\d,\d+")


class Cells(NamedTuple):
    """A row of a table: the number of its first ``line``, and its cells by column."""

    line: int
    cells: list[str]


@dataclass
class Source:
    """The annotation file at ``path``, with what a user said of it; ``notes`` takes what a reader
    has to tell. Its methods raise UserError for what cannot be read."""

    path: Path
    options: Options = field(default_factory=Options)
    notes: Notes = field(default_factory=Notes)

    def wrong(self, what: str, where: int | str | None = None) -> UserError:
        """The error that ends the import: what is wrong, and the remedy."""
        return UserError(f"{self.path}{f', {place(where)}' if where is not None else ''}: {what}")

    def open(self) -> IO[str]:
        """As text: UTF-8, or UTF-16 where it begins as such (Excel's Unicode text)."""
        try:
            with open(self.path, "rb") as file:
                wide = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
            encoding = "utf-16" if wide else "utf-8-sig"
            return open(self.path, encoding=encoding, newline="")
        except OSError as error:
            raise self.wrong(f"cannot be read ({error.strerror})") from None

    @cached_property
    def head(self) -> str:
        """The first characters."""
        with self.open() as file:
            try:
                return file.read(HEAD_CHARACTERS)
            except UnicodeError as error:
                raise self._not_utf8(error) from None

    def _not_utf8(self, error: UnicodeError) -> UserError:
        return self.wrong(f"is no text in UTF-8 ({error}); save it as such, not as a spreadsheet")

    @property
    def first(self) -> str:
        """The first character that is not blank: { or [ of JSON, < of XML."""
        return self.head.lstrip()[:1]

    @property
    def is_json(self) -> bool:
        return self.first in ("{", "[")

    # --- JSON ---------------------------------------------------------------------------------

    @cached_property
    def document(self) -> Any:
        """The whole file as JSON; JSON lines become a list."""
        if self.path.stat().st_size > MOST_JSON_BYTES:
            limit = MOST_JSON_BYTES >> 20
            raise self.wrong(f"is JSON of more than {limit} MiB; export it in several files")
        with self.open() as file:
            try:
                text = file.read()
            except UnicodeError as error:
                raise self._not_utf8(error) from None
        try:
            return json.loads(text)
        except RecursionError:
            raise self.wrong("is JSON nested too deep to be annotations") from None
        except ValueError as error:
            lines = [line for line in text.splitlines() if line.strip()]
            if len(lines) > 1 and all(line.lstrip().startswith("{") for line in lines[:2]):
                return [self._json_line(line, n) for n, line in enumerate(lines, start=1)]
            raise self.wrong(f"is no whole JSON ({error}); export it once more") from None

    def _json_line(self, line: str, number: int) -> Any:
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self.wrong(f"is no JSON ({error})", number) from None

    def listed(self, value: Any, what: str, where: Where) -> list[Any]:
        """A list of the JSON, empty where there is none; raises UserError for anything else."""
        if value is not None and not isinstance(value, list):
            raise self.wrong(f"{what} is no list", where)
        return value or []

    def objects(self, value: Any, what: str, where: Where) -> list[dict[str, Any]]:
        """As `listed`, of objects alone."""
        found = self.listed(value, what, where)
        if not all(isinstance(one, dict) for one in found):
            raise self.wrong(f"{what} is no list of objects", where)
        return found

    def mapping(self, value: Any, what: str, where: Where) -> dict[str, Any]:
        """An object of the JSON, empty where there is none; raises UserError for anything else."""
        if value is not None and not isinstance(value, dict):
            raise self.wrong(f"{what} is no object", where)
        return value or {}

    # --- XML ----------------------------------------------------------------------------------

    @cached_property
    def root_tag(self) -> str:
        """The name of the outermost element; of what is no XML, nothing. A document type, whose
        entities could name other files or grow without end, is refused."""
        found: list[str] = []
        parser = expat.ParserCreate()

        def doctype(*_: object) -> None:
            raise self.wrong("has a document type (DOCTYPE), which no annotation tool writes")

        def element(name: str, _: object) -> None:
            found.append(name)

        parser.StartDoctypeDeclHandler = doctype
        parser.StartElementHandler = element
        try:
            with open(self.path, "rb") as file:
                while not found and (piece := file.read(1 << 16)):
                    parser.Parse(piece)
        except (expat.ExpatError, OSError):
            return found[0] if found else ""
        return found[0] if found else ""

    def elements(self, *tags: str) -> Iterator[ElementTree.Element]:
        """Each element of these names once it is whole, in the order of their ends; it is emptied
        behind that, so that a large file takes little memory."""
        if not self.root_tag:
            raise self.wrong("is no XML; export it once more")
        depth = 0
        held = 0  # elements of these names that are open
        try:
            with open(self.path, "rb") as file:
                for event, element in ElementTree.iterparse(file, events=("start", "end")):
                    name = element.tag.rpartition("}")[2]
                    if event == "start":
                        depth += 1
                        held += name in tags
                        if depth > MOST_DEPTH:
                            raise self.wrong("is XML nested too deep to be annotations")
                        continue
                    depth -= 1
                    if name in tags:
                        held -= 1
                        yield element
                    if not held:
                        element.clear()
        except ElementTree.ParseError as error:
            raise self.wrong(f"is no whole XML ({error}); export it once more") from None
        except OSError as error:
            raise self.wrong(f"cannot be read ({error.strerror})") from None

    # --- tables -------------------------------------------------------------------------------

    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines that are not blank, with their numbers."""
        with self.open() as file:
            try:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield number, line.strip()
            except UnicodeError as error:
                raise self._not_utf8(error) from None

    @cached_property
    def separator(self) -> str:
        """Of the cells of a table, by which of tab, semicolon and comma its first lines have most.
        A line in quotes counts as a reader of CSV takes it."""
        lines = [line for line in self.head.splitlines() if line.strip()][:40]
        lines = [line for line in lines if not line.startswith("#")] or lines

        def columns(separator: str) -> int:
            try:
                return max((len(row) for row in csv.reader(lines, delimiter=separator)), default=0)
            except csv.Error:
                return 0

        return max("\t;,", key=columns)

    def table(self) -> Iterator[Cells]:
        """Its rows, a header included, without blank ones and lines of comment (#)."""
        with self.open() as file:
            reader = csv.reader(file, delimiter=self.separator, skipinitialspace=True)
            line = 1
            while True:
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    raise self.wrong(f"is no CSV ({error})", line) from None
                except UnicodeError as error:
                    raise self._not_utf8(error) from None
                if row and any(row) and not row[0].startswith("#"):
                    yield Cells(line, row)
                line = reader.line_num + 1

    def column(
        self, header: Sequence[str], names: Sequence[str], what: str, line: int = 1
    ) -> int:
        """The place of the first of ``names`` (in small letters) in a header; raises UserError,
        naming ``what`` it is, where none is there."""
        found = optional_column(header, names)
        if found is None:
            shown = few([clean(cell.strip()) for cell in header if cell.strip()], 12)
            raise self.wrong(
                f"no column for {what}: looked for {few(list(names), 6, ' or ')} among {shown}; "
                "rename the column", line
            )  # fmt: skip
        return found

    def number(self, cell: str, line: int | str, column: str) -> float | None:
        """A time or another number; None for an empty cell. H:MM:SS.mmm becomes seconds."""
        text = cell.strip()
        if not text or text in ("NA", "nan", "NaN", "None", "null"):
            return None
        if self.options.comma:
            text = text.replace(",", ".")
        try:
            value = float(text)
            if abs(value) <= MOST_NUMBER:
                return value
        except ValueError:
            if (clock := clock_seconds(text.removeprefix("-"))) is not None:
                return -clock if text.startswith("-") else clock
        shown = f"column {clean(column)!r} holds {clean(text)[:40]!r}, which is no number"
        if _COMMA_NUMBER.fullmatch(text):
            raise self.wrong(f"{shown} with a decimal point: add --decimal-comma", line)
        raise self.wrong(f"{shown}; correct it, or delete the row", line)


def optional_column(header: Sequence[str], names: Sequence[str]) -> int | None:
    """As `Source.column`; None where there is none."""
    small = [cell.strip().casefold() for cell in header]
    return next((small.index(name) for name in names if name in small), None)


def finite(value: Any) -> float | None:
    """A number of JSON as it is; None for anything else, as true, NaN or a text that is none, and
    what is no time (`MOST_NUMBER`)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) <= MOST_NUMBER else None
