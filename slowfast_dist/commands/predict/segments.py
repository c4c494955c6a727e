"""What happens when: segments of a video, from what a model says of overlapping windows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.commands.predict.windows import WindowScores

STEPS = 8
"""Moments looked at from one window's centre to the next."""

MOST_STEPS = 200_000
"""In a video."""

LEAST = 0.5
"""Of a window's length: what is shorter is no segment. A window sees the whole of an action of its
own length only at one place, and more than half of it on half a window to either side."""

CHANGE = 0.05
"""Of a window's length: expected time labelled right that each further segment must win, or it is
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
    if len(centres) == 1:
        return np.repeat(values, len(at), axis=0)
    right = np.clip(np.searchsorted(centres, at), 1, len(centres) - 1)
    span = centres[right] - centres[right - 1]
    weight = np.clip((at - centres[right - 1]) / span, 0, 1)[:, None]
    return (1 - weight) * values[right - 1] + weight * values[right]


def find_segments(
    scores: WindowScores, classes: Sequence[str], smoothing: float | None
) -> list[Segment]:
    """Cut the video into segments, from its beginning to its end without gaps.

    Of all ways to cut it into pieces no shorter than half a window, the one with the largest
    expected time that is labelled right (the integral of the labels' probabilities, smoothed as in
    `probabilities_at`) less CHANGE for each change, found exactly by dynamic programming as for a
    hidden Markov model with a least duration (Rabiner, A tutorial on hidden Markov models, 1989,
    IV D).
    """
    centres, values = _curve(scores)
    window = window_seconds(scores)
    gap = float(np.median(np.diff(centres))) if len(centres) > 1 else window
    step = max(min(gap, window) / STEPS, scores.duration / MOST_STEPS)
    count = max(1, round(scores.duration / step))
    edges = np.linspace(0, scores.duration, count + 1)
    moments = (edges[1:] + edges[:-1]) / 2
    # A class that is never the most probable one does not win a segment, or hardly ever.
    smooth = probabilities_at(scores, centres, smoothing)
    ever = np.unique(np.concatenate([values.argmax(axis=1), smooth.argmax(axis=1)]))
    few = WindowScores(
        scores.starts, scores.ends, scores.probabilities[:, ever], scores.duration
    )
    chances = probabilities_at(few, moments, smoothing)
    steps = window / (edges[1] - edges[0])
    least = min(count, max(1, round(LEAST * steps)))
    return [
        Segment(
            start=float(edges[first]),
            end=float(edges[end]),
            label=classes[ever[label]],
            probability=float(chances[first:end, label].mean()),
        )
        for first, end, label in best_cut(chances, least, CHANGE * steps)
    ]


def best_cut(
    values: NDArray[np.float64], least: int, change: float = 0.0
) -> list[tuple[int, int, int]]:
    """(first, end, column) of runs that cover the rows of ``values`` (N, K), each ``least`` rows or
    longer (N >= least), so that the sum of the values in each run's column is the largest, less
    ``change`` for each run but the first.

    Neighbours may have the same column only where a run of it is that long anyway: they are joined.
    """
    count, _ = values.shape
    assert 1 <= least <= count
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    best = np.full(count + 1, -np.inf)
    best[0] = change  # the first run costs nothing
    run_value = np.full(values.shape[1], -np.inf)  # of a run of each column, less its sums
    run_first = np.zeros(values.shape[1], np.int64)
    firsts, columns = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    for end in range(least, count + 1):
        first = end - least
        opened = best[first] - change - sums[first]
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
