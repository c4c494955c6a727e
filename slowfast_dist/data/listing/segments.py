"""Parts of videos in columns, and which frames of a file lie in each, once it was probed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.labels import Remark
from slowfast_dist.annotations.segments import NO_BOX, seconds_text
from slowfast_dist.data.listing.columns import Categorical, Rows
from slowfast_dist.system.messages import sendable
from slowfast_dist.video.reader import VideoInfo

ROUNDING = 5e-4
"""Seconds by which a time in a list may be off that of a frame and still mean it: lists have times
rounded to milliseconds. A frame that is shown at 12.4124 s is the first one of a segment from
12.412 or from 12.4125 s."""

Spans = NDArray[np.int32]
"""(N, 2): the first frame of each sample, and the one behind its last."""


@sendable
@dataclass(frozen=True, eq=False)
class Segments:
    """(N,) parts of videos; all columns stay beside those of a VideoTable."""

    files: NDArray[np.int32]
    """(N,): equal for rows of one file, from 0 on."""
    bounds: NDArray[np.float64]
    """(N, 2): seconds from the file's first frame to start and end; NaN for all of the file."""
    lines: NDArray[np.int32] | None = None
    """(N,): where the rows begin in the list."""
    subjects: Categorical | None = None
    """(N,), "" where nothing is said; None where that is so in all rows."""
    spans: Spans | None = None
    """Once the files were probed."""
    boxes: NDArray[np.float64] | None = None
    """(N, 4): the region of interest as the list has it, NaN for the whole picture; None where that
    is so in all rows."""

    def take(self, rows: Rows) -> "Segments":
        return Segments(
            self.files[rows],
            self.bounds[rows],
            None if self.lines is None else self.lines[rows],
            None if self.subjects is None else self.subjects.take(rows),
            None if self.spans is None else self.spans[rows],
            None if self.boxes is None else self.boxes[rows],
        )

    @property
    def any_part(self) -> bool:
        """Whether any row is less than all of a file."""
        return not bool(np.isnan(self.bounds).all())

    @property
    def scenes(self) -> NDArray[np.int32]:
        """(N,): equal for rows of one file that look at the same part of its picture."""
        if self.boxes is None:
            return self.files
        keys = np.column_stack([self.files, np.nan_to_num(self.boxes, nan=-np.inf)])
        return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32)

    def box(self, row: int) -> tuple[float, float, float, float]:
        """As the list has it; NO_BOX for the whole picture."""
        if self.boxes is None:
            return NO_BOX
        x, y, w, h = self.boxes[row].tolist()
        return x, y, w, h

    def located(self, spans: Spans) -> "Segments":
        return replace(self, spans=spans)

    def seconds(self, row: int) -> tuple[float, float]:
        """Start and end, NaN for a whole video."""
        start, end = self.bounds[row].tolist()
        return start, end


State = Literal[0, 1, 2, 3]
WITHIN: State = 0
CUT: State = 1
"""It ends behind the end of its file, and is cut there."""
OUTSIDE: State = 2
"""It begins behind the end of its file."""
UNTIMED: State = 3
"""Its file tells neither times nor a frame rate, so nobody can say which frames it has."""


@dataclass(frozen=True)
class Located:
    """Of rows (R,) of one file: ``spans`` (R, 2) and ``states`` (R,); spans are of no meaning where
    the state is OUTSIDE or UNTIMED. ``seconds``: the file lasts so long."""

    spans: Spans
    states: NDArray[np.int8]
    seconds: float


def locate(info: VideoInfo, bounds: NDArray[np.float64]) -> Located:
    """Which frames lie in the segments (R, 2) of a file: those whose own times are from start on
    and before end, as far as lists tell them (ROUNDING).

    A segment too short to hold a frame has the one that is shown when it begins.
    """
    spans = np.zeros((len(bounds), 2), np.int32)
    spans[:, 1] = info.frames
    states = np.zeros(len(bounds), np.int8)
    parts = np.flatnonzero(~np.isnan(bounds[:, 0]))
    seconds = info.duration()
    if not len(parts):
        return Located(spans, states, seconds)
    if not seconds:
        states[parts] = UNTIMED
        return Located(spans, states, 0.0)
    wanted = bounds[parts] - ROUNDING
    if info.uneven_times:
        times = info.times()
        assert times is not None
        found = np.searchsorted(times, wanted, "left")
        shown = np.searchsorted(times, wanted[:, 0] + 2 * ROUNDING, "right") - 1
    else:
        found = np.clip(np.ceil(wanted * info.fps), 0, info.frames).astype(np.int64)
        shown = np.floor((wanted[:, 0] + 2 * ROUNDING) * info.fps).astype(np.int64)
    first, end = found.T
    none = end <= first  # between two frames
    first = np.where(none, np.clip(shown, 0, info.frames - 1), first)
    spans[parts, 0] = first
    spans[parts, 1] = np.where(none, first + 1, end)
    half = 0.5 * seconds / info.frames  # of a frame: an end is as exact as the last one's length
    states[parts] = np.where(bounds[parts, 1] > seconds + max(half, ROUNDING), CUT, WITHIN)
    states[parts[wanted[:, 0] >= seconds - 2 * ROUNDING]] = OUTSIDE
    return Located(spans, states, seconds)


def overlaps(segments: Segments, labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """(P, 2): pairs of rows of one file, of one part of its picture and of different classes that
    share some of its time, each row with the one before it in time that reaches furthest; a whole
    video overlaps all of it."""
    start = np.nan_to_num(segments.bounds[:, 0], nan=0.0)
    end = np.nan_to_num(segments.bounds[:, 1], nan=np.inf)
    scenes = segments.scenes
    order = np.lexsort((start, scenes))
    pairs: list[tuple[int, int]] = []
    open_: dict[int, tuple[float, int]] = {}  # of the running file: by class, its latest end
    file = -1
    columns = (order, scenes[order], labels[order], start[order], end[order])
    for row, of, label, first, last in zip(*(c.tolist() for c in columns), strict=True):
        if of != file:
            file, open_ = of, {}
        open_ = {other: one for other, one in open_.items() if one[0] > first + 2 * ROUNDING}
        pairs += [(whose, row) for other, (_, whose) in open_.items() if other != label]
        if label not in open_ or open_[label][0] < last:
            open_[label] = last, row
    return np.array(pairs, np.int64).reshape(-1, 2)


def overlap_remark(
    segments: Segments, labels: NDArray[np.int32], name: Callable[[int], str]
) -> Remark | None:
    """What is to be said of segments of different classes that overlap; None where none do.
    ``name``: what each of the N rows is called."""
    pairs = overlaps(segments, labels)
    if not len(pairs):
        return None
    one, other = map(name, pairs[0].tolist())
    rows = len(np.unique(pairs))
    return Remark(
        "warning", "overlapping-segments",
        f"{rows} of {len(labels)} segments overlap one of another class, as {one} and {other}: a "
        "clip there shows both and counts as its own segment's class alone",
        "check-data lists them; harmless where few do, and --loss.name bce gives it both",
    )  # fmt: skip


def frames_or_times(bounds: NDArray[np.float64], seconds: float, rate: float) -> bool:
    """Whether times (R, 2) that lie outside of a file of so many ``seconds`` look like numbers of
    its frames: all whole, and within it as such."""
    given = bounds[~np.isnan(bounds)]
    whole = bool(len(given)) and bool((given == np.round(given)).all())
    return whole and rate > 0 and float(given.max()) <= 1.02 * seconds * rate + 1


def outside_reason(start: float, seconds: float) -> str:
    """Why a segment is left out."""
    return f"starts at {seconds_text(start)} s; its video lasts {seconds:.6g} s"
