"""Parts of videos: their times as people write them, and the names that they have in lists."""

import re
from math import isfinite, isnan

EXTRA = ("start", "end", "subject")
"""Columns that split.csv and lists of predictions have beside where they are of parts of videos."""

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


def sample_name(path: str, start: float, end: float) -> str:
    """What a segment is called where a list has but one word for it: path@start-end; a whole video,
    whose times are NaN, is called as its file."""
    return path if isnan(start) else f"{path}@{seconds_text(start)}-{seconds_text(end)}"


def parse_sample_name(name: str) -> tuple[str, float, float]:
    """Path, start and end of what `sample_name` wrote."""
    if match := _NAME.fullmatch(name):
        return match[1], float(match[2]), float(match[3])
    return name, float("nan"), float("nan")
