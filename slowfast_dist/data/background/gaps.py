"""The time of annotated files that no segment takes: what a class of background is drawn from."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from slowfast_dist.annotations.segments import DIGITS
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.video_table import VideoTable


@dataclass(frozen=True)
class Annotated:
    """All rows of a list, whatever becomes of them: a segment of split test is no gap either.

    ``classes``: what the labels of ``videos`` are; ``of_run``: whether it is split.csv of a run,
    which names the gaps that were used; ``hidden``: how many rows an import left out that show
    something in these videos, by why.
    """

    videos: VideoTable
    classes: tuple[str, ...]
    of_run: bool = False
    hidden: Mapping[str, int] = field(default_factory=dict)

    def require_all(self, flag: str) -> None:
        """Raise UserError, beginning with ``flag`` and its value, where what a row shows that was
        left out would be taken for background."""
        if self.hidden:
            reasons = "; ".join(f"{count}: {why}" for why, count in sorted(self.hidden.items()))
            raise UserError(
                f"{flag}: {sum(self.hidden.values())} rows of videos that are used were left out, "
                f"and what they show would count as background ({reasons}): correct them, or make "
                "a list with python -m slowfast_dist import, which has flags for some "
                "(--point-seconds gives moments a length), and give that"
            )


class Gap(NamedTuple):
    """Seconds from ``start`` to ``end`` without a segment; ``row``: of the list, beside it, or
    the one that says that nothing happens there."""

    start: float
    end: float
    row: int

    @property
    def seconds(self) -> float:
        return self.end - self.start


class FileGaps(NamedTuple):
    """Those of one file by the side that they are on; ``between``: those between rows of two sides,
    or beside a row of none, which are on no side."""

    of_side: Mapping[int, Sequence[Gap]]
    between: Sequence[Gap]


class Part(NamedTuple):
    """A row of the list in its file, in seconds; ``side``: -1 where it is on none."""

    start: float
    end: float
    row: int
    side: int


def gaps_of_file(
    segments: Sequence[Part], stated: Sequence[Part], duration: float, margin: float
) -> FileGaps:
    """What is free of ``segments``, and of ``margin`` seconds around each, in a file that lasts so
    many seconds; where rows are ``stated`` to be background, in those alone."""
    ordered = sorted(part for part in segments if part.start - margin < duration)
    of_side: dict[int, list[Gap]] = defaultdict(list)
    between: list[Gap] = []
    if stated:
        free = [(start, end) for start, end, _ in _free(ordered, duration, margin)]
        for part in sorted(stated):
            pieces = ((max(start, part.start), min(end, part.end)) for start, end in free)
            found = [Gap(*_rounded(*piece), part.row) for piece in pieces if piece[0] < piece[1]]
            (of_side[part.side] if part.side >= 0 else between).extend(found)
        return FileGaps(of_side, between)
    for start, end, beside in _free(ordered, duration, margin):
        if start < end and beside:
            sides = {part.side for part in beside}
            gap = Gap(*_rounded(start, end), beside[0].row)
            alone = len(sides) == 1 and min(sides) >= 0
            (of_side[min(sides)] if alone else between).append(gap)
    return FileGaps(of_side, between)


def _free(
    ordered: Sequence[Part], duration: float, margin: float
) -> Iterator[tuple[float, float, list[Part]]]:
    """Start, end, and the parts before and behind, of which one may be missing."""
    reached, before = 0.0, list[Part]()
    for part in ordered:
        if part.start - margin > reached:
            yield reached, min(part.start - margin, duration), [*before, part]
        if part.end + margin > reached:
            reached, before = part.end + margin, [part]
    if reached < duration:
        yield reached, duration, before


def _rounded(start: float, end: float) -> tuple[float, float]:
    """As lists have them, so that what is read from split.csv is the same."""
    return round(start, DIGITS), round(end, DIGITS)


SAME = 1e-4
"""Seconds by which a gap may differ from one window and still be it: far above the rounding of
lists, far below a frame."""


def windows(gap: Gap, seconds: float) -> list[Gap]:
    """As many parts of ``seconds`` as fit, spread evenly; of a shorter gap all of it."""
    count = int((gap.seconds + SAME) / seconds)
    slack = max(0.0, gap.seconds - count * seconds)
    if count < 1 or (count == 1 and slack < SAME):
        return [gap]
    starts = (gap.start + n * seconds + slack * (n + 0.5) / count for n in range(count))
    return [Gap(*_rounded(start, start + seconds), gap.row) for start in starts]
