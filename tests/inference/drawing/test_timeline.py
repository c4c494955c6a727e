"""The timeline picture shows the segments where and as long as they are, whatever the names."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from slowfast_dist.inference.drawing.timeline import (
    COLOURS,
    LEFT,
    MARGIN,
    RIGHT,
    WIDTH,
    draw_compared,
    draw_timeline,
)
from slowfast_dist.inference.segments import Segment, SegmentedVideo, find_segments
from slowfast_dist.inference.windows import WindowScores


def made(count: int, duration: float, windows: int) -> tuple[WindowScores, list[str]]:
    rng = np.random.default_rng(count)
    starts = np.linspace(0, duration * (1 - 1 / windows), windows)
    chances = rng.dirichlet(np.full(count, 0.05), windows)
    length = duration / windows
    return WindowScores(starts, starts + length, chances, duration), [
        f"class {number}" for number in range(count)
    ]


def test_the_bar_has_the_colours_where_the_segments_are(tmp_path):
    path = tmp_path / "timeline.png"
    scores, _ = made(2, 10.0, 10)
    segments = [Segment(0, 2.5, "short", 0.8), Segment(2.5, 10, "long", 0.9)]
    draw_timeline(path, SegmentedVideo(scores, segments, ["long", "short"], None), "a.mp4")
    image = np.asarray(Image.open(path).convert("RGB"))
    assert image.shape[1] == WIDTH
    colours = [ImageColor.getrgb(colour) for colour in COLOURS[:2]]  # the longest class's first
    rows = np.flatnonzero((image[:, LEFT + 5] == colours[1]).all(axis=1))
    row = image[rows[3]]
    for colour, start, end in ((colours[1], 0, 2.5), (colours[0], 2.5, 10)):
        there = np.flatnonzero((row == colour).all(axis=1))
        scale = (WIDTH - MARGIN - LEFT) / 10
        assert there[0] == pytest.approx(LEFT + start * scale, abs=3)
        assert there[-1] == pytest.approx(LEFT + end * scale, abs=3)


@pytest.mark.parametrize(
    ("count", "duration", "windows"), [(3, 0.04, 1), (3, 5.0, 9), (400, 3 * 3600.0, 700)]
)
def test_every_length_and_number_of_classes_is_drawn(count, duration, windows, tmp_path):
    scores, classes = made(count, duration, windows)
    segments = find_segments(scores, classes, None)
    draw_timeline(tmp_path / "t.png", SegmentedVideo(scores, segments, classes, None), "a.mp4")
    image = Image.open(tmp_path / "t.png")
    assert image.width == WIDTH and 600 < image.height < 1300


NAMES = [
    "", " ", "日本語を書く", "العربية", "हिन्दी", "🎉", "a\nb\x00c", "\ud800", "x" * 5000, "ngủ",
    "\u202eright to left", "e\u0301" * 300,
]


def test_no_name_ends_it(tmp_path):
    scores, _ = made(len(NAMES), 60.0, 40)
    segments = find_segments(scores, NAMES, None)
    video = SegmentedVideo(scores, segments, NAMES, None)
    draw_timeline(tmp_path / "t.png", video, "".join(NAMES[2:]))
    assert Image.open(tmp_path / "t.png").width == WIDTH


def test_two_bars_are_compared_along_the_same_time():
    truth = [Segment(0, 5, "walks", 1.0)]
    found = [Segment(0, 2.5, "walks", 0.8), Segment(5, 10, "jumps", 0.9)]
    image = np.asarray(draw_compared(truth, found, 10.0))
    walks, jumps = (ImageColor.getrgb(colour) for colour in COLOURS[:2])  # the longest in truth
    width = RIGHT - LEFT
    for colour, share in ((walks, 0.5), (walks, 0.25), (jumps, 0.5)):
        lengths = (image[:, LEFT + 1 : RIGHT] == colour).all(axis=2).sum(axis=1)
        assert (np.abs(lengths - share * width) <= 2).any(), (colour, share)
    assert draw_compared([], [], 0.0).size[0] == WIDTH
