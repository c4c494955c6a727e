"""What a reader of a format gives: segments as the file has them, and what it could not take."""

import csv
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from slowfast_dist.system.text import clean

Where = int | str
"""Place in a file: the number of a line from 1 on, or words as ``task 3``."""

ONE_END = "it has only one of start and end"


class Segment(NamedTuple):
    """``label`` is seen in ``video`` from ``start`` to ``end``; both None: in all of it.

    Both count seconds, or with ``frames`` the video's own frames from 0 on, ``end`` being the first
    one behind; an infinite end is the video's. A point event ends where it starts. ``video`` is
    named as the file names it;
    ``clip`` is the name of a file that holds the segment alone, which is looked for first;
    ``length``: seconds that the file says its video has, 0 where it does not.
    """

    where: Where
    video: str
    label: str
    start: float | None = None
    end: float | None = None
    frames: bool = False
    subject: str = ""
    split: str = ""
    group: str = ""
    clip: str = ""
    length: float = 0.0


@dataclass(frozen=True)
class Options:
    """What a user may say of the files, for readers; the flags of ``import`` have these names."""

    tier: tuple[str, ...] = ()
    """Names of what holds the labels, where a file has several such: see
    `config.commands.dataset`."""
    frame_rate: float | None = None
    """Frames a second in which numbers of frames count; None: as the format has it."""
    frame_base: int | None = None
    """Number of a video's first frame; None: as the format has it."""
    frame_end: Literal["inclusive", "exclusive"] | None = None
    """Whether the last frame named belongs to a segment; None: as the format has it."""
    comma: bool = False
    """Whether numbers have a decimal comma."""
    times: Literal["auto", "seconds", "frames"] = "auto"
    """What the times of tables count."""
    classes: Mapping[str, str] = field(default_factory=dict)
    """Names of classes by the numbers or codes that stand in the file."""

    def span(self, first: float, last: float, base: int, inclusive: bool) -> tuple[float, float]:
        """Frames from 0, the end behind, of those that a format numbers first to last."""
        base = base if self.frame_base is None else self.frame_base
        inclusive = inclusive if self.frame_end is None else self.frame_end == "inclusive"
        return first - base, last - base + inclusive


LISTED = ("what", "file", "where", "video", "label", "why")
"""Columns of the list of rows that were dropped or changed, which is what happened to them."""


class Notes:
    """What was dropped or changed, counted by its reason, each listed; and what is said once.

    The list is kept on the disk: it may be as long as the file that is imported.
    """

    def __init__(self) -> None:
        self.file = ""
        """The annotation file that is read at the moment."""
        self.said: dict[str, None] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], str] = {}
        self._list = tempfile.TemporaryFile(  # noqa: SIM115 (open as long as this is)
            "w+", encoding="utf-8", newline="", errors="replace"
        )
        self._writer = csv.writer(self._list)

    def say(self, text: str) -> None:
        """Tell it once, whatever the number of calls."""
        self.said[text] = None

    def drop(
        self, where: Where, reason: str, video: str = "", label: str = "", detail: str = ""
    ) -> None:
        """Count a row that is left out; ``reason`` is the same for all that it holds for."""
        self._note("dropped", where, reason, video, label, detail)

    def change(
        self, where: Where, reason: str, video: str = "", label: str = "", detail: str = ""
    ) -> None:
        """Count a row that is taken otherwise than it stands there."""
        self._note("changed", where, reason, video, label, detail)

    def _note(
        self, what: str, where: Where, reason: str, video: str, label: str, detail: str
    ) -> None:
        key = (what, reason)
        self._counts[key] += 1
        if key not in self._examples:
            shown = [place(where), *([clean(video)[:80]] if video else []),
                     *([clean(detail)[:120]] if detail else [])]  # fmt: skip
            self._examples[key] = f"{Path(self.file).name}, {': '.join(shown)}"
        full = f"{reason}: {detail}" if detail else reason
        self._writer.writerow([what, self.file, where, video, label, full])

    def dropped(self) -> int:
        """How many rows are left out so far."""
        return sum(count for (what, _), count in self._counts.items() if what == "dropped")

    def changed(self) -> int:
        """How many are taken otherwise than they stand there; one may be so for several reasons."""
        return self._counts.total() - self.dropped()

    def lines(self) -> Iterator[str]:
        """One for each reason, the most frequent first."""
        for (what, reason), count in self._counts.most_common():
            rows = "1 row" if count == 1 else f"{count} rows"
            yield f"{rows} {what}: {reason} ({self._examples[what, reason]})"

    def count(self) -> int:
        """How many entries the list has."""
        return self._counts.total()

    def entries(self) -> Iterator[dict[str, str]]:
        """The entries of the list by LISTED."""
        self._list.flush()
        self._list.seek(0)
        for row in csv.reader(self._list):
            yield dict(zip(LISTED, row, strict=True))

    def listed(self, header: bool = True) -> Iterator[str]:
        """The text of the list, a CSV, in pieces; nothing where it is empty."""
        if self._counts:
            self._list.flush()
            self._list.seek(0)
            if header:
                yield ",".join(LISTED) + "\r\n"
            while piece := self._list.read(1 << 20):
                yield piece


def place(where: Where) -> str:
    """As ``line 3``, or the words."""
    return f"line {where}" if isinstance(where, int) else where
