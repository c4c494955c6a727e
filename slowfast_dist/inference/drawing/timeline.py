"""Draw what happens when in one video: a bar of segments over the classes' curves."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from slowfast_dist.inference.drawing.text import (
    draw_text,
    ellipsized,
    format_time,
    printable,
    text_width,
)
from slowfast_dist.inference.segments import Segment, SegmentedVideo
from slowfast_dist.system.files import atomic_write

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
"""Colours of the classes, the longest first; colour-blind people can tell them apart, too (Okabe
and Ito, Color universal design, 2008)."""

OTHER = "#9a9a9a"
"""Colour of the classes for which none of COLOURS is left."""

INK, SOFT, LINES, PAPER = "#1a1a1a", "#5c5c5c", "#dddddd", "#ffffff"
"""Colours of text, of less important text, of grid lines and of the background."""

WIDTH, MARGIN, LEFT = 1600, 48, 96
RIGHT = WIDTH - MARGIN
"""Pixels of the picture's width, its margins, and the left and right edges of bar and curves: sharp
on a slide and a screen, and a hundred kilobytes at most."""
TITLE, TEXT, SMALL = 34, 26, 22
"""Sizes of type in pixels: readable where the picture is shown at half its size."""
BAR, CURVES, ROW = 120, 300, 44
"""Heights in pixels of the bar, the curves, and a row of the legend."""
THIN = 64
"""Height in pixels of each of two bars that are compared."""

STEPS = (
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200,
    14400, 28800, 86400,
)  # fmt: skip
"""Seconds from one mark of the time axis to the next: the first of these is taken at which the
marks' texts do not touch."""

Scale = Callable[[float], float]
"""From seconds of the video to pixels from the left."""

LegendEntry = tuple[int, float, str, str]
"""Row, left edge in pixels, label ("" for all others) and text."""


class Palette:
    """How each class that occurs is drawn: in a colour, a striped one after the seventh, then
    grey."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = list(labels)
        self._places = {label: place for place, label in enumerate(labels)}
        self.shown = self.labels[: 2 * len(COLOURS)]
        """Those that no others are drawn like."""

    def colour(self, label: str) -> str:
        place = self._places[label]
        return COLOURS[place % len(COLOURS)] if place < 2 * len(COLOURS) else OTHER

    def fill(
        self, draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], label: str
    ) -> None:
        left, top, right, bottom = map(round, box)
        right = max(right, left + 1)
        draw.rectangle((left, top, right - 1, bottom - 1), fill=self.colour(label))
        if not len(COLOURS) <= self._places[label] < 2 * len(COLOURS):
            return
        height = bottom - top
        stripes = Image.new("L", (right - left, height), 0)
        pen = ImageDraw.Draw(stripes)
        for x in range(-height - left % 16, right - left, 16):
            pen.line((x, height, x + height, 0), fill=150, width=4)
        draw.bitmap((left, top), stripes, fill=PAPER)


def draw_timeline(path: Path, video: SegmentedVideo, title: str) -> None:
    """Write a PNG, atomically. Raises OSError."""
    seconds = video.seconds()
    palette = Palette(list(seconds))
    legend = _place_legend(palette, seconds)
    rows = legend[-1][0] + 1
    bar = MARGIN + TITLE + 24 + ROW * rows + 16
    curves = bar + BAR + 60
    image = Image.new("RGB", (WIDTH, curves + CURVES + 64 + MARGIN // 2), PAPER)
    draw = ImageDraw.Draw(image)
    duration = max(video.scores.duration, 1e-6)

    def x(time: float) -> float:
        return LEFT + (RIGHT - LEFT) * min(1.0, time / duration)

    length = format_time(duration, _precision(duration))
    head = ellipsized(printable(title), TITLE, WIDTH - 3 * MARGIN - text_width(length, TITLE))
    draw_text(draw, (MARGIN, MARGIN), head, TITLE, INK)
    draw_text(draw, (WIDTH - MARGIN, MARGIN), length, TITLE, SOFT, "rm")
    _draw_legend(draw, palette, legend, MARGIN + TITLE + 24)
    _draw_bar(draw, palette, video.segments, x, bar)
    _draw_axis(draw, duration, x, bar + BAR, curves + CURVES)
    _draw_curves(image, draw, palette, video, curves)
    with atomic_write(path) as file:
        image.save(file, "PNG", optimize=True)


def draw_compared(
    truth: Sequence[Segment], found: Sequence[Segment], duration: float
) -> Image.Image:
    """A bar of the true segments over one of those that were found, along a file of so many
    seconds. The legend has the seconds of the truth."""
    duration = max(duration, 1e-6)
    seconds = dict.fromkeys([one.label for one in [*truth, *found]], 0.0)
    for one in truth:
        seconds[one.label] += one.end - one.start
    palette = Palette(sorted(seconds, key=lambda label: -seconds[label]))
    legend = _place_legend(palette, seconds) if seconds else []
    top = MARGIN + ROW * (legend[-1][0] + 1 if legend else 0)
    bars = (top, top + THIN + 16)
    image = Image.new("RGB", (WIDTH, bars[1] + THIN + 64), PAPER)
    draw = ImageDraw.Draw(image)

    def x(time: float) -> float:
        return LEFT + (RIGHT - LEFT) * min(1.0, time / duration)

    _draw_legend(draw, palette, legend, MARGIN // 2)
    _draw_axis(draw, duration, x, bars[0] + THIN, bars[1] + THIN)
    for name, segments, place in zip(("truth", "found"), (truth, found), bars, strict=True):
        draw_text(draw, (LEFT - 12, place + THIN / 2), name, SMALL, INK, "rm")
        draw.rectangle((LEFT, place, RIGHT, place + THIN), outline=LINES)
        for one in segments:
            palette.fill(draw, (x(one.start), place, x(one.end), place + THIN), one.label)
    return image


def _precision(seconds: float) -> float:
    return 0.01 if seconds < 1 else 0.1 if seconds < 60 else 1


def _place_legend(palette: Palette, seconds: dict[str, float]) -> list[LegendEntry]:
    """As many in a row as fit."""
    entries = []
    precision = _precision(max(seconds.values()))  # the same for all: they are compared
    for label in palette.shown:
        text = f"  {format_time(seconds[label], precision)}"
        space = WIDTH - 2 * MARGIN - ROW - text_width(text, TEXT)
        entries.append((label, ellipsized(printable(label), TEXT, min(space, 640)) + text))
    if others := len(seconds) - len(palette.shown):
        entries.append(("", f"{others} more classes"))
    placed: list[LegendEntry] = []
    row, left = 0, float(MARGIN)
    for label, text in entries:
        width = ROW + text_width(text, TEXT) + 32
        if left > MARGIN and left + width > WIDTH - MARGIN:
            row, left = row + 1, MARGIN
        placed.append((row, left, label, text))
        left += width
    return placed


def _draw_legend(
    draw: ImageDraw.ImageDraw, palette: Palette, placed: list[LegendEntry], above: float
) -> None:
    for row, left, label, text in placed:
        top = above + ROW * row
        box = (left, top + 8, left + 28, top + 36)
        if label:
            palette.fill(draw, box, label)
        else:
            draw.rectangle(box, fill=OTHER)
        draw_text(draw, (left + 40, top + 22), text, TEXT, INK)


def _draw_bar(
    draw: ImageDraw.ImageDraw, palette: Palette, segments: Sequence[Segment], x: Scale, top: float
) -> None:
    for number, segment in enumerate(segments):
        left, right = x(segment.start), x(segment.end)
        palette.fill(draw, (left, top, right, top + BAR), segment.label)
        if number and right - left >= 4:
            draw.line((left, top, left, top + BAR), fill=PAPER, width=2)
        space = right - left - 20
        name = ellipsized(printable(segment.label), TEXT, space) if space > 24 else ""
        if 2 * len(name) > len(printable(segment.label)):  # or the legend tells more
            percent = f"{segment.probability:.0%}"
            wide = max(text_width(name, TEXT), text_width(percent, SMALL)) + 16
            middle = (left + right) / 2
            box = (middle - wide / 2, top + 26, middle + wide / 2, top + BAR - 26)
            draw.rounded_rectangle(box, 8, fill=PAPER)
            draw_text(draw, (middle, top + BAR / 2 - 15), name, TEXT, INK, "mm")
            draw_text(draw, (middle, top + BAR / 2 + 17), percent, SMALL, SOFT, "mm")


def _draw_axis(
    draw: ImageDraw.ImageDraw, duration: float, x: Scale, top: float, bottom: float
) -> None:
    """Marks under the bar and under the curves, with lines between."""
    for step in STEPS:
        wide = text_width(format_time(duration, step), SMALL) + 40
        if step / duration * (RIGHT - LEFT) >= wide:
            break
    for number in range(int(duration / step + 1e-6) + 1):
        place = x(number * step)
        draw.line((place, top, place, bottom), fill=LINES, width=2)
        text = format_time(number * step, step)
        draw_text(draw, (place, bottom + 24), text, SMALL, SOFT, "mm")
        draw.line((place, top, place, top + 8), fill=SOFT, width=2)


def _draw_curves(
    image: Image.Image, draw: ImageDraw.ImageDraw, palette: Palette, video: SegmentedVideo, top: int
) -> None:
    left, right = LEFT, RIGHT
    for share in (0.0, 0.5, 1.0):
        y = top + CURVES * (1 - share)
        draw.line((left, y, right, y), fill=LINES if share else SOFT, width=2)
        draw_text(draw, (left - 12, y), f"{share:.0%}", SMALL, SOFT, "rm")
    labels = palette.labels[: len(COLOURS)]
    moments = np.linspace(0, video.scores.duration, right - left)
    values = video.curves(palette.labels, moments)
    # At twice the size, then made smaller: smooth lines.
    box = (left, top - 8, right, top + CURVES + 8)
    large = image.crop(box).resize((2 * (right - left), 2 * (CURVES + 16)))
    pen = ImageDraw.Draw(large)
    if len(labels) < len(palette.labels):
        others = values[:, len(labels) :].max(axis=1)  # the most probable of them
        pen.line(_points(others), fill=OTHER, width=4, joint="curve")
    for column, label in reversed(list(enumerate(labels))):
        points = _points(values[:, column])
        pen.line(points, fill=palette.colour(label), width=8, joint="curve")
    image.paste(large.resize((right - left, CURVES + 16), Image.Resampling.BOX), box[:2])


def _points(values: NDArray[np.float64]) -> list[tuple[float, float]]:
    """In a picture of twice the size that begins 8 pixels above the curves."""
    ys = 2 * (8 + CURVES * (1 - values))
    return [(2 * place, float(y)) for place, y in enumerate(ys)]
