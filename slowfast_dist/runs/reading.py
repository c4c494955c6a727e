"""Files of a run that may be missing, damaged or another's: what is good of them, or nothing."""

import csv
import math
from io import StringIO
from pathlib import Path
from typing import Any

from slowfast_dist.system.parsing import parse_json

MOST_BYTES = 64 * 1024**2
"""Size of the largest file that is read whole: 60 times what 2,000 classes need. A list with a line
for each video is read whatever its size."""


def read_text(path: Path, most: int | None = MOST_BYTES) -> str | None:
    """The file's text, with bytes that are no UTF-8 as surrogates; None where it cannot be read.

    A pipe or a device, which could be waited for without end, is not.
    """
    try:
        if not path.is_file():
            return None
        with open(path, "rb") as file:
            content = file.read(-1 if most is None else most + 1)
    except (OSError, ValueError):
        return None
    if most is not None and len(content) > most:
        return None
    return content.decode("utf-8", "surrogateescape")


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of change, by which a file that changed is known; None where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def read_json(path: Path) -> Any:
    """What a JSON file holds, None where it is none, too large, or nested too deeply."""
    text = read_text(path)
    try:
        return None if text is None else parse_json(text)
    except ValueError:
        return None


def read_table(path: Path, header: tuple[str, ...], most: int | None = None) -> list[list[str]]:
    """The rows below ``header`` of a CSV; rows of another length are left out."""
    text = read_text(path, most)
    rows: list[list[str]] = []
    try:
        for row in csv.reader(StringIO(text or "", newline="")):
            if len(row) == len(header):
                rows.append(row)
    except csv.Error:  # the rows before the damage are good
        pass
    return rows[1:] if rows and tuple(rows[0]) == header else []


def number(value: Any) -> float | None:
    """A finite number as float, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def whole(value: Any) -> int | None:
    """A whole number from 0 on that a counter can have, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        return None
    return value


def pair(value: Any) -> tuple[float, float] | None:
    """Two finite numbers in order, as an interval has them."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = map(number, value)
    return None if low is None or high is None or low > high else (low, high)


def mapping(value: Any) -> dict[str, Any]:
    """``value`` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """``value`` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []
