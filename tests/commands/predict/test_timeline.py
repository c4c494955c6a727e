"""The timeline picture shows the segments where and as long as they are, whatever the names."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from slowfast_dist.commands.predict import lettering
from slowfast_dist.commands.predict.lettering import clock, fitted, font_for, printable, text_width
from slowfast_dist.commands.predict.segments import Segment, find_segments
from slowfast_dist.commands.predict.timeline import COLOURS, LEFT, MARGIN, WIDTH, draw_timeline
from slowfast_dist.commands.predict.windows import WindowScores


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
    draw_timeline(path, scores, segments, ["long", "short"], None, "a.mp4")
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
    draw_timeline(tmp_path / "t.png", scores, segments, classes, None, "a.mp4")
    image = Image.open(tmp_path / "t.png")
    assert image.width == WIDTH and 600 < image.height < 1300


NAMES = [
    "", " ", "日本語を書く", "العربية", "हिन्दी", "🎉", "a\nb\x00c", "\ud800", "x" * 5000, "ngủ",
    "\u202eright to left", "e\u0301" * 300,
]


def test_no_name_ends_it(tmp_path):
    scores, _ = made(len(NAMES), 60.0, 40)
    segments = find_segments(scores, NAMES, None)
    draw_timeline(tmp_path / "t.png", scores, segments, NAMES, None, "".join(NAMES[2:]))
    assert Image.open(tmp_path / "t.png").width == WIDTH


def test_names_are_drawn_in_a_font_that_has_them():
    """Where this machine has one: DejaVu Sans has Cyrillic, Pillow's own font has not."""
    if font_for("ж", 20) is font_for("j", 20):
        pytest.skip("this machine has no font with Cyrillic")
    masks = {bytes(font_for("жяю", 20).getmask(letter)) for letter in "жяю"}
    assert len(masks) == 3


def test_without_fontconfig_names_are_drawn_all_the_same(monkeypatch):
    monkeypatch.setenv("PATH", "")
    lettering._candidates.cache_clear()
    assert text_width("日本", 21) > 0


def test_a_long_name_loses_its_end():
    name = fitted("walking the dog in the park", 20, 120)
    assert name.endswith("…") and name[:4] == "walk" and text_width(name, 20) <= 120
    assert fitted("walk", 20, 120) == "walk" and fitted("walk", 20, 3) == ""
    assert printable("a\nb\0") == "a b" and printable("\n") == "?"


def test_times_are_written_as_people_do():
    assert [clock(seconds) for seconds in (0, 59.6, 61, 3599.7, 36000)] == [
        "0:00", "1:00", "1:01", "1:00:00", "10:00:00",
    ]  # fmt: skip
    assert clock(5.25, 0.1) == "0:05.2" and clock(59.97, 0.1) == "1:00.0"
    assert clock(0.04, 0.01) == "0:00.04"
