"""Times of segments as our list has them: seconds from a video's first frame, inside the video."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.importing.columns import Columns, rows_of
from slowfast_dist.annotations.importing.rows import ONE_END, Notes
from slowfast_dist.annotations.segments import DIGITS, MOST_SECONDS
from slowfast_dist.config.errors import UserError
from slowfast_dist.system.text import few

BEHIND_END = "its end is behind the video's and is cut to that"
TOO_LATE = "it begins behind the end of its video"
OTHER_LENGTH = "its video is of another length than its file says: is it another video of that " \
               "name, or one of several that were played one behind the other?"  # fmt: skip
ENDLESS = f"its end is unknown, or later than {MOST_SECONDS:,.0f} s: no video is that long"
TWICE = "it is there twice"
OTHER_SUBJECT = "another subject does the same at the same time: a list has one row of a class"
SECOND_CLASS = "its whole video has a row already, of another class: a training with --loss.name " \
               "bce that is given this file itself takes all of them"  # fmt: skip
NO_SPLIT = "it has no split while others are val or test: fill it in, or import its file apart"
NO_FRAME_TIMES = "it counts frames and its video tells no times: --frame-rate"
BACKWARDS = "it ends before it starts"
POINT = "it is a moment without length: --point-seconds gives it one"

SLACK = 0.0015
"""Seconds by which an end may pass the video's and counts as the same: tools round to thousandths,
and some state the time of a container's longest stream."""

LENGTH_SLACK, LENGTH_SHARE = 0.5, 0.02
"""Seconds, and beside them the share of its length, that a video may be off the length that a file
states: sound that lasts longer, and rounding, make less."""

MOST_TOO_LATE = 0.5
"""Share of the rows with times that may begin behind the end of their videos: where most do, the
times are wrong, not the rows."""


@dataclass(frozen=True)
class Facts:
    """What a video's file tells: ``seconds`` from the first frame to the end of the last, NaN where
    it does not tell; ``times``: a function that gives those of its frames (F,), or None."""

    seconds: float
    times: Callable[[], NDArray[np.float64] | None]


@dataclass(frozen=True)
class Table:
    """(N,) rows to write: their places in the columns, starts and ends in seconds, NaN for none;
    and whether each of them has a side of the ``split``."""

    rows: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    split: bool


def convert(
    columns: Columns, facts: Sequence[Facts | str], notes: Notes,
    point_seconds: float | None, frame_rate: float | None, several: bool = False,
) -> Table:  # fmt: skip
    """Seconds of all rows, cut to their videos; what cannot be, is dropped and noted.

    ``facts`` of the videos by their code, or why one cannot be read; ``several``: whether the whole
    of a video may be of several classes. Raises UserError where most
    rows lie behind their videos' ends.
    """
    work = _Conversion(columns, facts, notes)
    work.drop_unreadable()
    work.drop_other_lengths()
    work.frames_to_seconds(frame_rate)
    work.check_order()
    work.points(point_seconds)
    work.cut()
    split = work.complete_split()
    work.drop_copies(several)
    rows = np.flatnonzero(work.kept)
    kept = {columns.labels.texts[code] for code in np.unique(work.label[rows]).tolist()}
    if lost := sorted(columns.seen_labels - kept):
        notes.say(f"classes that are lost with all their rows: {len(lost)}: {few(lost, 6)}")
    empty = np.setdiff1d(work.video, work.video[rows]).tolist()
    if empty:
        names = few([columns.videos.texts[code] for code in empty])
        notes.say(f"videos that are left without a row: {len(empty)}: {names}")
    return Table(rows, work.start[rows], work.end[rows], split)


def _not_after(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """The times to a microsecond, as they are written: never behind the frame that they are of."""
    rounded = np.round(times, 6)
    return np.where(rounded > times, np.round(rounded - 1e-6, 6), rounded)


class _Conversion:
    def __init__(
        self, columns: Columns, facts: Sequence[Facts | str], notes: Notes
    ) -> None:
        self.columns, self.facts, self.notes = columns, facts, notes
        self.start, self.end, self.frames = columns.times()
        self.kept = np.ones(len(columns), np.bool_)
        self.video, self.label = columns.codes("video"), columns.codes("label")
        self.file = columns.codes("file")
        seconds = [fact.seconds if isinstance(fact, Facts) else np.nan for fact in facts]
        self.seconds = np.array(seconds, np.float64)[self.video]

    @property
    def timed(self) -> NDArray[np.bool_]:
        return self.kept & ~np.isnan(self.start)

    def _drop(self, rows: NDArray[np.int64], reason: str, detail: bool = False) -> None:
        for row in rows.tolist():
            self._note(self.notes.drop, row, reason, detail)
        self.kept[rows] = False

    def _note(self, note: Callable[..., None], row: int, reason: str, detail: bool) -> None:
        columns = self.columns
        self.notes.file = columns.files.texts[self.file[row]]
        video = columns.videos.texts[self.video[row]]
        label = columns.labels.texts[self.label[row]]
        text = ""
        if detail:
            text = f"{self.start[row]:.3f} to {self.end[row]:.3f} s of {self.seconds[row]:.3f} s"
        note(columns.where(row), reason, video, label, text)

    def drop_unreadable(self) -> None:
        for code, fact in enumerate(self.facts):
            if isinstance(fact, str) and code:
                self._drop(np.flatnonzero(self.video == code), f"its video cannot be read: {fact}")

    def drop_other_lengths(self) -> None:
        """Where the file says that its video is of another length, its times are not of it."""
        lengths = self.columns.lengths()
        apart = np.abs(lengths - self.seconds) > LENGTH_SLACK + LENGTH_SHARE * self.seconds
        self._drop(np.flatnonzero(self.kept & (lengths > 0) & apart), OTHER_LENGTH, detail=True)

    def frames_to_seconds(self, frame_rate: float | None) -> None:
        """By the times of the file's own frames; with a ``frame_rate``, by that."""
        rows = np.flatnonzero(self.frames & self.timed)
        if frame_rate is not None:
            self.start[rows] /= frame_rate
            self.end[rows] /= frame_rate
            return
        for part in rows_of(self.video, rows):
            fact = self.facts[self.video[part[0]]]
            times = fact.times() if isinstance(fact, Facts) else None
            if times is None:
                self._drop(part, NO_FRAME_TIMES)
                continue
            end = fact.seconds if isinstance(fact, Facts) else np.nan
            step = end / len(times)
            for column in (self.start, self.end):
                numbers = column[part]
                whole = np.floor(numbers).astype(np.int64)
                inside = (numbers >= 0) & (whole < len(times))
                seconds = numbers * step  # of frames that are not there
                seconds[numbers == len(times)] = end
                seconds[inside] = _not_after(times[whole[inside]])
                column[part] = seconds

    def check_order(self) -> None:
        """Drop what ends before it starts or has only one of the two, and cut what starts before
        0."""
        kept = self.kept
        one = kept & (np.isnan(self.start) != np.isnan(self.end))
        self._drop(np.flatnonzero(one), ONE_END)
        self._drop(np.flatnonzero(self.timed & (self.end < self.start)), BACKWARDS, detail=True)
        early = np.flatnonzero(self.timed & (self.start < 0))
        gone = early[self.end[early] <= 0]
        self._drop(gone, "it ends before its video starts", detail=True)
        for row in np.setdiff1d(early, gone).tolist():
            self._note(self.notes.change, row, "it starts before its video and is cut to 0", True)
        self.start[early] = 0.0

    def points(self, point_seconds: float | None) -> None:
        rows = np.flatnonzero(self.timed & (self.start == self.end))
        if point_seconds is None:
            self._drop(rows, POINT)
            return
        for row in rows.tolist():
            why = f"it is a moment and becomes {point_seconds:g} s around it"
            self._note(self.notes.change, row, why, False)
        self.start[rows] = np.maximum(0.0, self.start[rows] - point_seconds / 2)
        self.end[rows] += point_seconds / 2

    def cut(self) -> None:
        late = np.flatnonzero(self.timed & (self.start >= self.seconds))
        if len(late) > MOST_TOO_LATE * np.count_nonzero(self.timed):
            raise self._wrong_times(int(late[0]))
        self._drop(late, TOO_LATE, detail=True)
        over = self.timed & (self.end > self.seconds)
        far = over & (self.end > self.seconds + SLACK) & np.isfinite(self.end)
        for row in np.flatnonzero(far).tolist():
            self._note(self.notes.change, row, BEHIND_END, True)
        self.end[over] = _not_after(self.seconds[over])
        self._drop(np.flatnonzero(self.timed & (self.end > MOST_SECONDS)), ENDLESS, detail=True)
        # As they are written: what lies closer than that is the same to a reader of the list.
        self.start, self.end = np.round(self.start, DIGITS), np.round(self.end, DIGITS)
        self._drop(np.flatnonzero(self.timed & (self.end <= self.start)), TOO_LATE, detail=True)

    def _wrong_times(self, row: int) -> UserError:
        columns = self.columns
        video = columns.videos.texts[self.video[row]]
        file = columns.files.texts[self.file[row]]
        where = columns.where(row)
        shown = f"line {where}" if isinstance(where, int) else where
        timed = ~np.isnan(self.start) & ~self.frames
        whole = bool(np.all(self.start[timed] % 1 == 0) and np.all(self.end[timed] % 1 == 0))
        remedy = "are they those of other videos? give the right --videos"
        if whole and not self.frames.any():
            remedy = "and all times are whole numbers: are they frames? --times frames"
        return UserError(
            f"{file}, {shown}: start {self.start[row]:g} s is behind the end of {video} "
            f"({self.seconds[row]:.3f} s), as in most rows, {remedy}"
        )

    def complete_split(self) -> bool:
        """Whether the list has a column split: a training refuses one with empty cells. Rows
        without a side stay where the others are all train, which then need not be said."""
        sides = self.columns.codes("split")
        empty = self.kept & (sides == 0)
        told = {self.columns.splits.texts[code] for code in np.unique(sides[self.kept]).tolist()}
        told.discard("")
        if not told or not empty.any():
            return bool(told)
        if told == {"train"}:
            self.notes.say(f"the column split is left out: {np.count_nonzero(empty)} rows have no "
                           "split, and all others are train")  # fmt: skip
            return False
        self._drop(np.flatnonzero(empty), NO_SPLIT)
        return True

    def drop_copies(self, several: bool) -> None:
        """Of rows that a list takes for the same one the first stays: those of a class at the same
        time in a video, whoever does it, and all that mean the whole of a video, unless that may
        have ``several`` classes."""
        rows = np.flatnonzero(self.kept)
        video, label, subject = self.video[rows], self.label[rows], self.columns.codes("subject")
        whole = np.isnan(self.start[rows])
        keys: list[NDArray[Any]] = [
            np.nan_to_num(self.end[rows], nan=-1), np.nan_to_num(self.start[rows], nan=-1),
            label if several else np.where(whole, -1, label), video,
        ]  # fmt: skip
        order = np.lexsort(keys)  # stable: the first of equals stays in front
        new = np.zeros(len(rows), np.bool_)
        new[:1] = True
        for key in keys:
            new[1:] |= key[order][1:] != key[order][:-1]
        first = np.empty_like(rows)  # of each row the one that stays for it
        first[order] = rows[order[np.flatnonzero(new)[np.cumsum(new) - 1]]]
        copy = first != rows
        other_class, other_subject = label != self.label[first], subject[rows] != subject[first]
        self._drop(rows[copy & other_class], SECOND_CLASS)
        self._drop(rows[copy & ~other_class & other_subject], OTHER_SUBJECT)
        self._drop(rows[copy & ~other_class & ~other_subject], TWICE)
