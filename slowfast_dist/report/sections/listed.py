"""Lists of videos that a page shows with frames: labels in doubt, and what to label next."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slowfast_dist.annotations.segments import parse_time, sample_name
from slowfast_dist.report.thumbnails import Thumbnails
from slowfast_dist.runs.reading import MOST_BYTES, read_table

SUGGESTED = "suggested.csv"
"""The list that ``suggest`` leaves in the folder of the run by which it chose."""

COLUMNS = ("path", "label", "start", "end", "suggested", "probability", "reason")
"""Its columns, which ``review --list`` reads."""

MOST_ROWS = 100
"""Rows of a list that are shown at most: more are for ``review``."""

LIST_BYTES = 300_000
"""JPEGs of one list together, which base64 makes a third larger: with the hardest videos and both
lists the page stays below 3 MB, also where each picture is noise."""

NO_ROOM = Thumbnails((), "there was no room left on the page")
"""In place of the pictures of a video whose list has LIST_BYTES already."""


@dataclass(frozen=True)
class Suggestion:
    """A video, or a part of one, to label next: ``name``, what the model predicts of it ("": none)
    with the ``probability`` of that, and why it was chosen."""

    name: str
    predicted: str
    probability: float | None
    reason: str


def read_suggested(run: Path) -> list[Suggestion]:
    """What ``suggest`` left, in its order; nothing where there is no such list. Rows with times or
    probabilities that are none are left out."""
    found = []
    for path, _, start, end, predicted, sure, reason in read_table(
        run / SUGGESTED, COLUMNS, MOST_BYTES
    ):
        try:
            times = (parse_time(start), parse_time(end)) if start else (float("nan"),) * 2
            chance = float(sure) if sure else None
        except ValueError:
            continue
        if path and (chance is None or 0 <= chance <= 1):
            found.append(Suggestion(sample_name(path, *times), predicted, chance, reason))
    return found


def with_room(
    names: Iterable[str], thumbnails: Mapping[str, Thumbnails]
) -> dict[str, Thumbnails]:
    """Those of ``names``, until their pictures have LIST_BYTES."""
    size, chosen = 0, dict[str, Thumbnails]()
    for name in names:
        drawn = thumbnails.get(name, NO_ROOM)
        size += sum(map(len, drawn.pictures))
        chosen[name] = drawn if size <= LIST_BYTES else NO_ROOM
    return chosen


def any_pictures(drawn: Iterable[Thumbnails]) -> bool:
    return any(one.pictures for one in drawn)


def common_reason(drawn: Sequence[Thumbnails]) -> str:
    """Why none of them has pictures, where that is the same for all; else ""."""
    reasons = {one.reason for one in drawn}
    return reasons.pop() if len(reasons) == 1 and not any_pictures(drawn) else ""
