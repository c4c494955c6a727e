"""The columns of an annotation file: what each name means, and which are refused, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

from slowfast_dist.system.text import clean

COLUMNS = {
    "path": "path", "label": "label", "class": "label", "labels": "label", "classes": "label",
    "split": "split", "group": "group", "fold": "fold",
    "subject": "subject", "x": "x", "y": "y", "w": "w", "h": "h",
    **dict.fromkeys(("start", "start (s)", "start_s", "start_sec", "start_seconds"), "start"),
    **dict.fromkeys(
        ("end", "end (s)", "end_s", "end_sec", "end_seconds", "stop (s)", "stop_s", "stop_sec"),
        "end",
    ),
    **dict.fromkeys(("weight", "weights", "sample_weight"), "weight"),
}  # fmt: skip
"""Names of columns, with what they hold; split.csv of a run has class in place of label. The names
of times are those that say seconds."""

OF_ALL_LABELS = frozenset({"labels", "classes"})
"""Names of a column that holds all classes of its row, so that segments which overlap it add none:
split.csv of a run with several labels a clip has classes."""

_TIMES = {
    **dict.fromkeys(
        ("start_time", "time_start", "t_start", "begin", "onset", "start_timestamp"), "start"
    ),
    **dict.fromkeys(
        ("end_time", "stop_time", "time_end", "t_end", "stop", "offset", "stop_timestamp",
         "end_timestamp"), "end",
    ),
}  # fmt: skip
"""Names of times that do not say in what they count, with the column that would."""

_FRAMES = {
    **dict.fromkeys(("start_frame", "frame_start", "first_frame", "begin_frame"), "start"),
    **dict.fromkeys(("end_frame", "stop_frame", "frame_end", "last_frame"), "end"),
}

@dataclass(frozen=True)
class Columns:
    """What is where: ``place`` by meaning, the number of a column; ``refused``, by number, why a
    filled cell is; ``unused``: names of those that nothing is done with, by number."""

    names: tuple[str, ...]
    place: dict[str, int]
    refused: dict[int, str]
    unused: dict[int, str]


def columns_of(header: Sequence[str]) -> Columns:
    """Raises ValueError, with a reason for people, for a column that is there twice."""
    place: dict[str, int] = {}
    seen: set[str] = set()
    for number, cell in enumerate(header):
        name = plain_name(cell)
        kind = COLUMNS.get(name)
        if name and (name in seen or kind in place):
            other = "" if name in seen else f" beside {header[place[kind or '']]!r}"
            raise ValueError(f"column {cell!r} is there twice{other}; delete one")
        seen.add(name)
        if kind is not None:
            place[kind] = number
    refused, unused = dict[int, str](), dict[int, str]()
    for number, cell in enumerate(header):
        name = plain_name(cell)
        if why := _refusal(name, place):
            refused[number] = why
        elif name not in COLUMNS:
            unused[number] = clean(cell) if name else "(no name)"
    return Columns(tuple(header), place, refused, unused)


def _refusal(name: str, place: dict[str, int]) -> str | None:
    """Why a training would do wrong without such a column; None where it would not."""
    if (kind := _TIMES.get(name)) and kind not in place:
        return (
            f"name the column {kind} if it holds seconds from the video's beginning, or "
            "H:MM:SS.mmm; else delete it"
        )
    if (kind := _FRAMES.get(name)) and kind not in place:
        return (
            f"times are in seconds: write a column {kind}, the frame's number over the frames a "
            "second, or delete the column"
        )
    return None


def plain_name(cell: str) -> str:
    """A column's name, in whatever letters it is written."""
    return cell.strip().casefold()
