"""Find what happens when: segments of a video, from the scores of overlapping windows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.inference.windows import WindowScores
from slowfast_dist.metrics.unknown import UNKNOWN, label_of

STEPS = 8
"""Moments from one window's centre to the next at which a segment may begin: with a stride of half
a second, boundaries are found to a sixteenth, finer than people place them."""

MAX_STEPS = 200_000
"""Moments in a whole video, at most: a day of half a second each, which takes seconds to cut."""

MIN_WINDOWS = 0.5
"""Length of the shortest segment, in window lengths. A window sees the whole of an action of its
own length only at one place, and more than half of it on half a window to either side."""

CHANGE_COST = 0.05
"""Expected time labelled right, in window lengths, that each further segment must win, or it is
rather the model's doubt than a segment. Measured on three clips in turn that the model gets right
alone, with it and without: sampling dense 24 and 24 of 24 boundaries found, 3 and 9 too many;
sampling uniform, its windows half overlapping, 20 and 24 found, 2 and 12 too many."""


@dataclass(frozen=True)
class Segment:
    """``label`` is seen from ``start`` to ``end`` (seconds); ``probability``: the mean of
    its probability there."""

    start: float
    end: float
    label: str
    probability: float

    def as_json(self, digits: int) -> dict[str, Any]:
        """In JSON's types; times to milliseconds, the probability to so many ``digits``."""
        return {
            "start": round(self.start, 3), "end": round(self.end, 3),
            "class": self.label, "confidence": round(self.probability, digits),
        }  # fmt: skip


@dataclass(frozen=True)
class SegmentedVideo:
    """The ``segments`` of a video, with the ``scores`` of all ``classes`` from which they were cut,
    smoothed over ``smoothing`` seconds (see `probabilities_at`)."""

    scores: WindowScores
    segments: list[Segment]
    classes: Sequence[str]
    smoothing: float | None

    def seconds(self) -> dict[str, float]:
        """Seconds of each label that occurs, the longest first."""
        seconds: dict[str, float] = {}
        for segment in self.segments:
            seconds[segment.label] = seconds.get(segment.label, 0.0) + segment.end - segment.start
        return dict(sorted(seconds.items(), key=lambda item: (-item[1], item[0])))

    def curves(self, labels: Sequence[str], moments: NDArray[np.float64]) -> NDArray[np.float64]:
        """The probabilities (N, len(labels)) at ``moments`` (N,) in seconds; of `unknown` that of
        the most probable class."""
        if UNKNOWN in labels and UNKNOWN not in self.classes:
            values = probabilities_at(self.scores, moments, self.smoothing)
            return np.stack(
                [values.max(axis=1) if label == UNKNOWN else values[:, self._column(label)]
                 for label in labels], axis=1,
            )  # fmt: skip
        columns = [self._column(label) for label in labels]
        return probabilities_at(self.scores.of_classes(columns), moments, self.smoothing)

    def _column(self, label: str) -> int:
        return list(self.classes).index(label)


def window_seconds(scores: WindowScores) -> float:
    """The length of a window."""
    return float(np.median(scores.ends - scores.starts))


def probabilities_at(
    scores: WindowScores, moments: NDArray[np.float64], smoothing: float | None
) -> NDArray[np.float64]:
    """(N, K) at ``moments`` (N,) in seconds.

    A window speaks for its centre, between two centres the probabilities change evenly, before the
    first and after the last they stay. Then each moment gets the mean over the ``smoothing``
    seconds around it, as far as the video goes; None: one window, which is about the mean of the
    windows that show the moment; 0: itself.
    """
    centres, values = _curve(scores)
    width = window_seconds(scores) if smoothing is None else smoothing
    low = np.clip(moments - width / 2, 0, scores.duration)
    high = np.clip(moments + width / 2, 0, scores.duration)
    if width <= 0 or len(centres) == 1:
        return _interpolated(centres, values, moments)
    # The integral of a broken line, exactly: parabolas between the centres.
    knots = np.concatenate([[0.0], centres, [scores.duration]])
    lines = np.concatenate([values[:1], values, values[-1:]])
    areas = np.diff(knots)[:, None] * (lines[1:] + lines[:-1]) / 2
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(areas, axis=0)])

    def integral(at: NDArray[np.float64]) -> NDArray[np.float64]:
        place = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
        rest = (at - knots[place])[:, None]
        return total[place] + rest * (lines[place] + _interpolated(centres, values, at)) / 2

    lengths = np.maximum(high - low, 1e-9)[:, None]
    return (integral(high) - integral(low)) / lengths


def _curve(scores: WindowScores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The windows' centres, rising, and their probabilities."""
    centres, first = np.unique((scores.starts + scores.ends) / 2, return_index=True)
    return centres, scores.probabilities[first]


def _interpolated(
    centres: NDArray[np.float64], values: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.stack([np.interp(at, centres, column) for column in values.T], axis=1)


def with_unknown(segments: Sequence[Segment], min_confidence: float) -> list[Segment]:
    """`unknown` in place of labels that are less probable than that; such neighbours are joined."""
    found: list[Segment] = []
    for segment in segments:
        label = label_of(segment.label, segment.probability, min_confidence)
        one = replace(segment, label=label)
        if found and label != segment.label and found[-1].label == label:
            before = found.pop()
            lengths = before.end - before.start, one.end - one.start
            mean = np.average([before.probability, one.probability], weights=lengths)
            one = Segment(before.start, one.end, label, float(mean))
        found.append(one)
    return found


def find_segments(
    scores: WindowScores, classes: Sequence[str], smoothing: float | None
) -> list[Segment]:
    """Cut the video into segments, from its beginning to its end without gaps.

    Of all ways to cut it into pieces no shorter than half a window, the one with the largest
    expected time that is labelled right (the integral of the labels' probabilities, smoothed as in
    `probabilities_at`) less CHANGE_COST for each change, found exactly by dynamic programming as
    for a hidden Markov model with a least duration (Rabiner, A tutorial on hidden Markov models,
    1989, IV D).
    """
    centres, values = _curve(scores)
    window = window_seconds(scores)
    gap = float(np.median(np.diff(centres))) if len(centres) > 1 else window
    step = max(min(gap, window) / STEPS, scores.duration / MAX_STEPS)
    count = max(1, round(scores.duration / step))
    edges = np.linspace(0, scores.duration, count + 1)
    moments = (edges[1:] + edges[:-1]) / 2
    # A class that is never the most probable one does not win a segment, or hardly ever.
    smooth = probabilities_at(scores, centres, smoothing)
    ever = np.unique(np.concatenate([values.argmax(axis=1), smooth.argmax(axis=1)]))
    chances = probabilities_at(scores.of_classes(ever), moments, smoothing)
    steps = window / (edges[1] - edges[0])
    min_length = min(count, max(1, round(MIN_WINDOWS * steps)))
    segments = []
    for first, end, label in best_cut(chances, min_length, CHANGE_COST * steps):
        probability = float(chances[first:end, label].mean())
        start, stop = edges[[first, end]].tolist()
        segments.append(Segment(start, stop, classes[ever[label]], probability))
    return segments


def best_cut(
    values: NDArray[np.float64], min_length: int, change_cost: float = 0.0
) -> list[tuple[int, int, int]]:
    """(first, end, column) of runs that cover the rows of ``values`` (N, K), each ``min_length``
    rows (at most N) or longer, so that the sum of the values in each run's column is the largest,
    less ``change_cost`` for each run but the first.

    Neighbours may have the same column only where a run of it is that long anyway: they are joined.
    """
    count, _ = values.shape
    assert 1 <= min_length <= count
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    best = np.full(count + 1, -np.inf)
    best[0] = change_cost  # the first run costs nothing
    run_value = np.full(values.shape[1], -np.inf)  # of a run of each column, less its sums
    run_first = np.zeros(values.shape[1], np.int64)
    firsts, columns = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    for end in range(min_length, count + 1):
        first = end - min_length
        opened = best[first] - change_cost - sums[first]
        newer = opened > run_value
        run_value = np.where(newer, opened, run_value)
        run_first[newer] = first
        column = int(np.argmax(run_value + sums[end]))
        best[end] = run_value[column] + sums[end, column]
        firsts[end], columns[end] = run_first[column], column
    runs: list[tuple[int, int, int]] = []
    end = count
    while end:
        first, column = int(firsts[end]), int(columns[end])
        if runs and runs[-1][2] == column:
            runs[-1] = first, runs[-1][1], column
        else:
            runs.append((first, end, column))
        end = first
    return runs[::-1]
