"""Parts of videos: their times as people write them, and the names that they have in lists."""

import re
from collections.abc import Sequence
from math import isfinite, isnan, nan

from slowfast_dist.config.fields import MOST_BOX

EXTRA = ("start", "end", "subject")
"""Columns that split.csv and lists of predictions have beside where they are of parts of videos."""

BOX = ("x", "y", "w", "h")
"""Columns of a region of interest, beside EXTRA where any row has one."""
WEIGHT = "weight"
"""The column that split.csv has where any row weighs other than 1."""

DIGITS = 6
"""Digits behind the point of a time in seconds that are kept: a microsecond, finer than the ticks
of any video's clock, so that a time that was written reads back as it was."""

MOST_SECONDS = 1e7
"""Seconds of the latest time that is taken for one: 115 days."""

_CLOCK = re.compile(r"(?:(\d{1,4}):(?=[0-5]?\d:))?(\d{1,4}):([0-5]?\d(?:\.\d*)?)")
"""H:MM:SS.mmm or M:SS.mmm; without hours there may be 90 minutes, as players show them."""

_PLAIN = re.compile(r"\d+(?:\.\d*)?|\.\d+")
_NAME = re.compile(r"(.+)@(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", re.DOTALL)


def clock_seconds(text: str) -> float | None:
    """Seconds of 1:23.5, 90:00 or 0:01:23.500; None for what is no such time."""
    if (match := _CLOCK.fullmatch(text)) is None:
        return None
    hours, minutes, rest = match.groups()
    return 3600 * int(hours or 0) + 60 * int(minutes) + float(rest)


def parse_time(text: str) -> float:
    """Seconds of 83.5, 1:23.5 or 0:01:23.500. Raises ValueError with what is wrong and its remedy.
    """
    if _PLAIN.fullmatch(text):
        seconds = float(text)
    elif (clock := clock_seconds(text)) is not None:
        seconds = clock
    else:
        seconds = _other_number(text)
    if seconds > MOST_SECONDS:
        raise ValueError("is no time of a video; give seconds from its beginning")
    return round(seconds, DIGITS)


def _other_number(text: str) -> float:
    """Of 1e2. Raises ValueError."""
    pointed = text.replace(",", ".")
    if "," in text and (_PLAIN.fullmatch(pointed) or _CLOCK.fullmatch(pointed)):
        raise ValueError(f"has a comma; write a point: {pointed}")
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if seconds < 0:
        raise ValueError("is before the beginning; count from the video's first frame")
    if not isfinite(seconds):
        raise ValueError("is no time; write seconds as 83.5, or H:MM:SS.mmm")
    return seconds


def seconds_text(seconds: float, least: int = 0) -> str:
    """As few digits as tell it, 83.5, but ``least`` behind the point; "" for NaN, which stands for
    the end of a whole video."""
    if isnan(seconds):
        return ""
    whole, _, part = f"{seconds:.{DIGITS}f}".rstrip("0").partition(".")
    return f"{whole}.{part:0<{least}}".rstrip(".")


NO_BOX = (nan, nan, nan, nan)
"""Of a row that shows the whole picture."""


def parse_box(cells: Sequence[str]) -> tuple[float, float, float, float]:
    """The region of interest of four cells, x, y, w and h; `NO_BOX` where all are empty. Raises
    BoxError with the column that is wrong."""
    if not any(cells):
        return NO_BOX
    box = []
    for name, cell in zip(BOX, cells, strict=True):
        try:
            number = float(cell)
        except ValueError:
            number = nan
        if not cell:
            raise BoxError(name, "is empty: a region of interest needs all of x, y, w and h")
        if not abs(number) <= MOST_BOX:
            remedy = "write a point, 12.5" if "," in cell else "give pixels, or fractions up to 1"
            raise BoxError(name, f"{cell[:40]!r} is no number of a region of interest; {remedy}")
        if name in ("w", "h") and number <= 0:
            raise BoxError(name, f"{cell[:40]} leaves no pixel of the picture; give more than 0")
        box.append(number)
    x, y, w, h = box
    return x, y, w, h


class BoxError(ValueError):
    """A cell of a region of interest that is wrong: its ``column``, and why."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(f"{column} {reason}")
        self.column = column


def box_cells(box: Sequence[float]) -> tuple[str, ...]:
    """x, y, w and h as a list has them; empty for NO_BOX."""
    return tuple("" if isnan(number) else f"{number:.10g}" for number in box)


def extra_columns(extra: Sequence[Sequence[str]] | None) -> tuple[str, ...]:
    """The columns of ``extra`` cells: none, EXTRA, or that and BOX."""
    if not extra:
        return ()
    return (*EXTRA, *BOX)[: len(extra[0])]


def sample_name(path: str, start: float, end: float, box: Sequence[float] = NO_BOX) -> str:
    """What a segment is called where a list has but one word for it: path@start-end; a whole video,
    whose times are NaN, is called as its file. With a region of interest #xywh=x,y,w,h follows, as
    in media fragments of the W3C."""
    name = path if isnan(start) else f"{path}@{seconds_text(start)}-{seconds_text(end)}"
    return name if isnan(box[0]) else f"{name}#xywh={','.join(box_cells(box))}"


def parse_sample_box(name: str) -> tuple[str, tuple[float, float, float, float]]:
    """What `sample_name` wrote without its region of interest, and that; NO_BOX without one."""
    start, _, cells = name.rpartition("#xywh=")
    try:
        return (start, parse_box(cells.split(","))) if start else (name, NO_BOX)
    except ValueError:
        return name, NO_BOX


def parse_sample_name(name: str) -> tuple[str, float, float]:
    """Path, start and end of what `sample_name` wrote."""
    name, _ = parse_sample_box(name)
    if match := _NAME.fullmatch(name):
        return match[1], float(match[2]), float(match[3])
    return name, float("nan"), float("nan")
