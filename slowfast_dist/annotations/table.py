"""A CSV of path,label: one row a video."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from slowfast_dist.config.errors import UserError


class Row(NamedTuple):
    """``path`` as it is written, ``label``, and the number of the ``line`` that holds them."""

    line: int
    path: str
    label: str


def read_rows(table: Path, flag: str) -> Iterator[Row]:
    """The rows of the CSV that --``flag`` names; columns beside path and label are passed over.

    Raises UserError for a file that cannot be read, that lacks a column, and for an empty cell.
    """
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            place = {name: column for column, name in enumerate(next(reader, []))}
            if not {"path", "label"} <= set(place):
                raise UserError(
                    f"--{flag} {table}: its first line must name the columns path,label"
                )
            for row in filter(None, reader):
                path, label = _cell(row, place["path"]), _cell(row, place["label"])
                if not path or not label:
                    raise UserError(
                        f"--{flag} {table}, line {reader.line_num}: path or label is empty; fill "
                        "it in or delete the line"
                    )
                yield Row(reader.line_num, path, label)
    except OSError as error:
        raise UserError(f"--{flag} {table}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--{flag} {table}: not a CSV in UTF-8 ({error}); save it as one") from None


def _cell(row: list[str], column: int) -> str:
    return row[column].strip() if column < len(row) else ""
