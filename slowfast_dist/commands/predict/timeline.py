"""A picture of what happens when in one video: a bar of segments over the classes' curves."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from slowfast_dist.commands.predict.lettering import (
    clock,
    draw_text,
    fitted,
    new_canvas,
    printable,
    text_width,
)
from slowfast_dist.commands.predict.segments import Segment, probabilities_at
from slowfast_dist.commands.predict.windows import WindowScores
from slowfast_dist.system.files import atomic_write

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
"""Told apart by colour-blind people, too (Okabe and Ito, Color universal design, 2008)."""

OTHER = "#9a9a9a"
"""Of the classes for which no colour is left."""

INK, SOFT, LINES, PAPER = "#1a1a1a", "#5c5c5c", "#dddddd", "#ffffff"

WIDTH, MARGIN, LEFT = 1600, 48, 96
TITLE, TEXT, SMALL = 34, 26, 22
"""Sizes of type, in pixels."""
BAR, CURVES, ROW = 120, 300, 44

STEPS = (
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200,
    14400, 28800, 86400,
)  # fmt: skip
"""Seconds between two marks of the time axis."""

Scale = Callable[[float], float]
"""Of seconds to pixels."""


class Palette:
    """The look of each class that occurs: a colour, a striped one after the seventh, then grey."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = list(labels)
        self._places = {label: place for place, label in enumerate(labels)}
        self.shown = self.labels[: 2 * len(COLOURS)]
        """Those that have a look of their own."""

    def colour(self, label: str) -> str:
        place = self._places[label]
        return COLOURS[place % len(COLOURS)] if place < 2 * len(COLOURS) else OTHER

    def striped(self, label: str) -> bool:
        return len(COLOURS) <= self._places[label] < 2 * len(COLOURS)

    def fill(
        self, draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], label: str
    ) -> None:
        left, top, right, bottom = map(round, box)
        right = max(right, left + 1)
        draw.rectangle((left, top, right - 1, bottom - 1), fill=self.colour(label))
        if not self.striped(label):
            return
        height = bottom - top
        stripes = Image.new("L", (right - left, height), 0)
        pen = ImageDraw.Draw(stripes)
        for x in range(-height - left % 16, right - left, 16):
            pen.line((x, height, x + height, 0), fill=150, width=4)
        draw.bitmap((left, top), stripes, fill=PAPER)


def by_time(segments: Sequence[Segment]) -> dict[str, float]:
    """Seconds of each label that occurs, the longest first."""
    seconds: dict[str, float] = {}
    for segment in segments:
        seconds[segment.label] = seconds.get(segment.label, 0.0) + segment.end - segment.start
    return dict(sorted(seconds.items(), key=lambda item: (-item[1], item[0])))


def draw_timeline(
    path: Path,
    scores: WindowScores,
    segments: Sequence[Segment],
    classes: Sequence[str],
    smoothing: float | None,
    title: str,
) -> None:
    """Write a PNG, atomically. Raises OSError."""
    seconds = by_time(segments)
    palette = Palette(list(seconds))
    rows = _legend_rows(palette, seconds)
    bar = MARGIN + TITLE + 24 + ROW * len(rows) + 16
    curves = bar + BAR + 60
    image, draw = new_canvas(WIDTH, curves + CURVES + 64 + MARGIN // 2, PAPER)
    duration = max(scores.duration, 1e-6)
    plot = (LEFT, WIDTH - MARGIN)

    def x(time: float) -> float:
        return plot[0] + (plot[1] - plot[0]) * min(1.0, time / duration)

    length = clock(duration, _precision(duration))
    head = fitted(printable(title), TITLE, WIDTH - 3 * MARGIN - text_width(length, TITLE))
    draw_text(draw, (MARGIN, MARGIN), head, TITLE, INK)
    draw_text(draw, (WIDTH - MARGIN, MARGIN), length, TITLE, SOFT, "rm")
    _draw_legend(draw, palette, rows, MARGIN + TITLE + 24)
    _draw_bar(draw, palette, segments, x, bar)
    _draw_axis(draw, duration, x, bar + BAR, curves + CURVES)
    _draw_curves(image, draw, palette, scores, classes, smoothing, plot, curves)
    with atomic_write(path) as file:
        image.save(file, "PNG", optimize=True)


def _precision(seconds: float) -> float:
    return 0.01 if seconds < 1 else 0.1 if seconds < 60 else 1


def _legend_rows(palette: Palette, seconds: dict[str, float]) -> list[list[tuple[str, str]]]:
    """(label, text) of each row, as many in each as fit."""
    entries = []
    precision = _precision(max(seconds.values()))  # the same for all: they are compared
    for label in palette.shown:
        text = f"  {clock(seconds[label], precision)}"
        most = WIDTH - 2 * MARGIN - ROW - text_width(text, TEXT)
        entries.append((label, fitted(printable(label), TEXT, min(most, 640)) + text))
    left = len(seconds) - len(palette.shown)
    if left:
        entries.append(("", f"{left} more classes"))
    rows: list[list[tuple[str, str]]] = [[]]
    used = 0.0
    for label, text in entries:
        width = ROW + text_width(text, TEXT) + 32
        if rows[-1] and used + width > WIDTH - 2 * MARGIN:
            rows.append([])
            used = 0.0
        rows[-1].append((label, text))
        used += width
    return rows


def _draw_legend(
    draw: ImageDraw.ImageDraw, palette: Palette, rows: list[list[tuple[str, str]]], top: float
) -> None:
    for row in rows:
        left = float(MARGIN)
        for label, text in row:
            box = (left, top + 8, left + 28, top + 36)
            if label:
                palette.fill(draw, box, label)
            else:
                draw.rectangle(box, fill=OTHER)
            draw_text(draw, (left + 40, top + 22), text, TEXT, INK)
            left += ROW + text_width(text, TEXT) + 32
        top += ROW


def _draw_bar(
    draw: ImageDraw.ImageDraw,
    palette: Palette,
    segments: Sequence[Segment],
    x: Scale,
    top: float,
) -> None:
    for number, segment in enumerate(segments):
        left, right = x(segment.start), x(segment.end)
        palette.fill(draw, (left, top, right, top + BAR), segment.label)
        if number and right - left >= 4:
            draw.line((left, top, left, top + BAR), fill=PAPER, width=2)
        room = right - left - 20
        name = fitted(printable(segment.label), TEXT, room) if room > 24 else ""
        if 2 * len(name) > len(printable(segment.label)):  # or the legend tells more
            sure = f"{segment.probability:.0%}"
            wide = max(text_width(name, TEXT), text_width(sure, SMALL)) + 16
            middle = (left + right) / 2
            box = (middle - wide / 2, top + 26, middle + wide / 2, top + BAR - 26)
            draw.rounded_rectangle(box, 8, fill=PAPER)
            draw_text(draw, (middle, top + BAR / 2 - 15), name, TEXT, INK, "mm")
            draw_text(draw, (middle, top + BAR / 2 + 17), sure, SMALL, SOFT, "mm")


def _draw_axis(
    draw: ImageDraw.ImageDraw, duration: float, x: Scale, top: float, bottom: float
) -> None:
    """Marks under the bar and under the curves, with lines between."""
    for step in STEPS:
        wide = text_width(clock(duration, step), SMALL) + 40
        if step / duration * (x(duration) - x(0)) >= wide:
            break
    for number in range(int(duration / step + 1e-6) + 1):
        place = x(number * step)
        draw.line((place, top, place, bottom), fill=LINES, width=2)
        text = clock(number * step, step)
        draw_text(draw, (place, bottom + 24), text, SMALL, SOFT, "mm")
        draw.line((place, top, place, top + 8), fill=SOFT, width=2)


def _draw_curves(
    image: Image.Image,
    draw: ImageDraw.ImageDraw,
    palette: Palette,
    scores: WindowScores,
    classes: Sequence[str],
    smoothing: float | None,
    plot: tuple[int, int],
    top: int,
) -> None:
    left, right = plot
    for share in (0.0, 0.5, 1.0):
        y = top + CURVES * (1 - share)
        draw.line((left, y, right, y), fill=LINES if share else SOFT, width=2)
        draw_text(draw, (left - 12, y), f"{share:.0%}", SMALL, SOFT, "rm")
    labels = palette.labels[: len(COLOURS)]
    columns = [list(classes).index(label) for label in palette.labels]
    few = WindowScores(
        scores.starts, scores.ends, scores.probabilities[:, columns], scores.duration
    )
    values = probabilities_at(few, np.linspace(0, scores.duration, right - left), smoothing)
    # At twice the size, then made smaller: smooth lines.
    box = (left, top - 8, right, top + CURVES + 8)
    large = image.crop(box).resize((2 * (right - left), 2 * (CURVES + 16)))
    pen = ImageDraw.Draw(large)
    if len(labels) < len(columns):
        others = values[:, len(labels) :].max(axis=1)  # the most probable of them
        pen.line(_points(others), fill=OTHER, width=4, joint="curve")
    for column in reversed(range(len(labels))):
        points = _points(values[:, column])
        pen.line(points, fill=palette.colour(labels[column]), width=8, joint="curve")
    image.paste(large.resize((right - left, CURVES + 16), Image.Resampling.BOX), box[:2])


def _points(values: NDArray[np.float64]) -> list[tuple[float, float]]:
    """In a picture of twice the size that begins 8 pixels above the curves."""
    ys = 2 * (8 + CURVES * (1 - values))
    return [(2 * place, float(y)) for place, y in enumerate(ys)]
