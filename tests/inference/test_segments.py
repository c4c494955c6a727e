"""Segments: where something begins and ends, and no flicker between."""

from itertools import pairwise, product
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from slowfast_dist.data.synthetic import MOTIONS, moving_disc
from slowfast_dist.inference.segments import (
    Segment,
    SegmentedVideo,
    best_cut,
    find_segments,
    probabilities_at,
    window_seconds,
    with_unknown,
)
from slowfast_dist.inference.windows import WindowScores, score_windows
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.writer import write_video
from tests.helpers.predictors import UNIFORM, predictor

CLASSES = ("a", "b", "c")


def scores_of(rows: list[list[float]], window: float = 2.0, stride: float = 1.0) -> WindowScores:
    starts = np.asarray(np.arange(len(rows)) * stride, np.float64)
    return WindowScores(starts, starts + window, np.array(rows), starts[-1] + window)


def sure(*labels: int) -> list[list[float]]:
    return [np.where(np.arange(3) == label, 0.9, 0.05).tolist() for label in labels]


def test_a_video_of_one_class_is_one_segment():
    (found,) = find_segments(scores_of(sure(1, 1, 1, 1)), CLASSES, None)
    assert (found.start, found.end, found.label) == (0, 5, "b")
    assert found.probability == pytest.approx(0.9)


def test_doubtful_segments_are_unknown_and_become_one() -> None:
    segments = [Segment(0, 1, "a", 0.4), Segment(1, 4, "b", 0.2), Segment(4, 5, "a", 0.5)]
    first, last = with_unknown(segments, 0.5)
    assert (first.start, first.end, first.label) == (0, 4, "unknown")
    assert first.probability == pytest.approx(0.25) and last == segments[2]
    assert with_unknown(segments, 0.0) == segments
    video = SegmentedVideo(scores_of(sure(0, 1, 2)), [first, last], CLASSES, 0.0)
    moments = np.array([1.0, 1.5, 2.0])
    assert video.curves(["a", "unknown"], moments).T.tolist() == [
        pytest.approx([0.9, 0.475, 0.05]), pytest.approx([0.9, 0.475, 0.9])
    ]  # fmt: skip


def test_a_boundary_lies_where_the_windows_change_their_mind():
    """A video of 20 s changes at 10 s; windows of 2 s see as much of either class as they show."""
    starts = np.arange(0, 18.01, 1.0)
    share = np.clip((starts + 2 - 10) / 2, 0, 1)
    scores = WindowScores(starts, starts + 2, np.stack([1 - share, share, 0 * share], 1), 20.0)
    for smoothing in (None, 0.0, 0.5, 4.0):
        first, second = find_segments(scores, CLASSES, smoothing)
        assert (first.label, second.label) == ("a", "b")
        assert first.end == second.start == pytest.approx(10, abs=0.13)


def test_a_flicker_of_one_window_is_no_segment_but_two_seconds_are():
    flicker = scores_of(sure(0, 0, 0, 0, 2, 0, 0, 0, 0), stride=0.5)
    assert [found.label for found in find_segments(flicker, CLASSES, None)] == ["a"]
    event = scores_of(sure(0, 0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0), stride=0.5)
    found = find_segments(event, CLASSES, None)
    assert [segment.label for segment in found] == ["a", "c", "a"]
    assert found[1].start == pytest.approx(2.75, abs=0.3)
    assert found[1].end == pytest.approx(4.75, abs=0.3)


def test_a_doubt_between_two_classes_is_no_segment():
    rows = sure(0, 0, 0, 0, 0, 0, 0, 0)
    rows[3] = rows[4] = [0.45, 0.1, 0.45 + 1e-3]
    assert [found.label for found in find_segments(scores_of(rows), CLASSES, 0.0)] == ["a"]
    rows[3] = rows[4] = [0.1, 0.1, 0.8]
    found = find_segments(scores_of(rows), CLASSES, 0.0)
    assert [segment.label for segment in found] == ["a", "c", "a"]


@pytest.mark.parametrize("smoothing", [None, 0.0, 0.3, 100.0])
@pytest.mark.parametrize("count", [1, 2, 30])
def test_segments_cover_the_video_and_are_long_enough(count, smoothing):
    rows = np.random.default_rng(count).dirichlet(np.ones(3), count).tolist()
    scores = scores_of(rows)
    found = find_segments(scores, CLASSES, smoothing)
    assert found[0].start == 0 and found[-1].end == pytest.approx(scores.duration)
    for before, after in pairwise(found):
        assert before.end == after.start and before.label != after.label
    shortest = min(segment.end - segment.start for segment in found)
    assert shortest >= 0.5 * window_seconds(scores) - 0.2
    assert all(0 < segment.probability <= 1 for segment in found)


def test_smoothing_is_the_mean_over_that_time():
    rng = np.random.default_rng(0)
    scores = scores_of(rng.dirichlet(np.ones(3), 12).tolist(), window=1.5, stride=0.6)
    moments = np.array([0.0, 0.4, 2.0, 3.33, scores.duration])
    for smoothing in (0.2, 1.5, 5.0):
        found = probabilities_at(scores, moments, smoothing)
        for moment, row in zip(moments, found, strict=True):
            around = np.linspace(
                max(0, moment - smoothing / 2), min(scores.duration, moment + smoothing / 2), 4001
            )
            np.testing.assert_allclose(
                row, probabilities_at(scores, around, 0.0).mean(axis=0), atol=2e-3
            )
    np.testing.assert_allclose(
        probabilities_at(scores, (scores.starts + scores.ends) / 2, 0.0), scores.probabilities
    )


@pytest.mark.parametrize("change", [0.0, 0.3])
@pytest.mark.parametrize("least", [1, 2, 3])
def test_the_cut_is_the_best_of_all(least, change):
    """Against all labellings of 7 rows whose runs are long enough."""
    rng = np.random.default_rng(least)
    for _ in range(5):
        values = rng.random((7, 3))
        best = max(
            sum(values[row, column] for row, column in enumerate(labels))
            - change * (len(run_lengths(labels)) - 1)
            for labels in product(range(3), repeat=7)
            if all(length >= least for length in run_lengths(labels))
        )
        runs = best_cut(values, least, change)
        assert [run[0] for run in runs] == [0, *(run[1] for run in runs[:-1])]
        assert runs[-1][1] == 7 and min(end - first for first, end, _ in runs) >= least
        right = sum(values[first:end, c].sum() for first, end, c in runs)
        assert right - change * (len(runs) - 1) == pytest.approx(best)


def run_lengths(labels: tuple[int, ...]) -> list[int]:
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    return np.diff(edges).tolist()


NAMES = ("moves down", "moves left", "moves right", "moves up")


def motion(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits of NAMES from the brightness's flow over the whole picture (Lucas and Kanade)."""
    logits = []
    for clip in clips:
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in clip]
        flow = []
        for before, after in pairwise(grey):
            down, right = np.gradient((before + after) / 2)
            gradients = np.stack([right.ravel(), down.ravel()], axis=1)
            flow.append(np.linalg.lstsq(gradients, (before - after).ravel(), rcond=None)[0])
        x, y = np.mean(flow, axis=0)
        logits.append([y, -x, x, -y])
    return 10 * np.array(logits, np.float32)


def test_boundaries_of_a_concatenation_are_found_within_a_window(tmp_path: Path):
    """Three motions of the demo's disc, one after the other, of unequal lengths."""
    path, rng = tmp_path / "three.mp4", np.random.default_rng(3)
    lengths = {"moves right": 70, "moves up": 100, "moves left": 60}
    clips = [list(moving_disc(MOTIONS[name], 64, count, rng)) for name, count in lengths.items()]
    write_video(path, (frame for clip in clips for frame in clip), 15)
    flow = predictor(motion, UNIFORM, classes=NAMES)
    scores = score_windows(flow, path, probe_file(path), 1.0, 0.5, 8)
    found: list[Segment] = find_segments(scores, NAMES, None)
    assert [segment.label for segment in found] == list(lengths)
    ends = np.cumsum(list(lengths.values())) / 15
    errors = [abs(segment.end - end) for segment, end in zip(found, ends, strict=True)]
    print(f"\nmeasured: boundaries off by {errors[0]:.2f} and {errors[1]:.2f} s, windows of 1 s")
    assert max(errors) < 1.0
