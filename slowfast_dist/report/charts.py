"""Curves as inline SVG of a few kilobytes.

Colours come from the page's style sheet by class, so that they follow light and dark. A value is
shown where the pointer rests, by <title>: no script.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from slowfast_dist.report.format import short
from slowfast_dist.runs.history import Point
from slowfast_dist.system.text import clean

MOST_POINTS = 240
"""Points of a curve that are drawn, one for each 1.5 pixels; of more, the least and the greatest of
each stretch."""
MOST_HITS = 100
"""Places of a chart where a pointer finds the values: one for each 4 pixels."""
DOTS = 40
"""Points up to which each has a dot of its own; more would run together."""
LOG_RATIO = 50.0
"""How many times the median the greatest value has where a scale becomes logarithmic: on a linear
one most values would lie in its lowest 50th."""


@dataclass(frozen=True)
class Series:
    """A curve: ``css`` is its class (colour and dashes); values None leave a gap."""

    name: str
    css: str
    points: Sequence[Point]
    best: float | None = None
    """Where a ring is drawn."""

    @property
    def finite(self) -> list[tuple[float, float]]:
        return [(x, y) for x, y in self.points if y is not None]


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_name: str = "epoch",
    form: Callable[[float], str] = short,
    tick: Callable[[float], str] = short,
    mark: float | None = None,
    mark_name: str = "best epoch",
    low: float | None = None,
    high: float | None = None,
    size: tuple[float, float] = (400, 230),
    hits: int = MOST_HITS,
) -> str:
    """An <svg> of curves over ``x_name``; empty where none of them has a value.

    ``form`` and ``tick`` write values and the scale. ``mark`` gets a vertical line. ``low`` and
    ``high`` fix the scale's ends, else they follow the values; a scale turns logarithmic where a
    few values are far above the others. A pointer finds values at ``hits`` places, about.
    """
    shown = [one for one in series if one.finite]
    if not shown:
        return ""
    values = sorted(y for one in shown for _, y in one.finite)
    places = [x for one in shown for x, _ in one.points]
    median = values[len(values) // 2]
    log = values[0] > 0 and values[-1] > LOG_RATIO * median and high is None
    bottom = values[0] if low is None or log else min(low, values[0])
    top = values[-1] if high is None else max(high, values[-1])
    marks = log_ticks(bottom, top) if log else ticks(bottom, top, 4 if size[1] > 180 else 3)
    first, last = (values[0], values[-1]) if log else (marks[0], marks[-1])
    low_x, high_x = min(places), max(places)
    if low_x == high_x:
        low_x, high_x = low_x - 0.5, high_x + 0.5
    axes = Axes(*size, low_x, high_x, min(first, bottom), max(last, top), log)
    if axes.low == axes.high:
        axes = Axes(*size, low_x, high_x, axes.low - 1, axes.high + 1)
    parts = [*_grid(axes, marks, tick), *_places(axes, places, x_name)]
    if mark is not None and axes.low_x <= mark <= axes.high_x:
        x = px(axes.x(mark))
        parts.append(f'<path class="mark" d="M{x} {axes.top:g}V{px(axes.height - axes.bottom)}"/>')
    for one in shown:
        parts.append(_curve(axes, one))
        parts += _ring(axes, one)
    parts.append(_hits(axes, shown, x_name, form, mark, mark_name, hits))
    label = escape(clean(f"{title}. {_described(shown, form)}"), quote=True)
    return (
        f'<svg class="chart" viewBox="0 0 {size[0]:g} {size[1]:g}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _described(series: Sequence[Series], form: Callable[[float], str]) -> str:
    """What the curves do, for those who do not see them."""
    texts = []
    for one in series:
        values = [y for _, y in one.finite]
        texts.append(
            f"{one.name}: from {form(values[0])} to {form(values[-1])}, "
            f"least {form(min(values))}, greatest {form(max(values))}"
        )
    return "; ".join(texts)


# From values to the pixels of a plot: axes, round numbers along them, fewer points.


@dataclass(frozen=True)
class Axes:
    """A plot's pixels and the values at its edges."""

    width: float
    height: float
    low_x: float
    high_x: float
    low: float
    high: float
    log: bool = False
    left: float = 50.0
    right: float = 10.0
    top: float = 10.0
    bottom: float = 26.0

    def x(self, value: float) -> float:
        span = self.high_x - self.low_x or 1.0
        return self.left + (value - self.low_x) / span * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(max(value, self.low))
        part = (at - low) / (high - low or 1.0)
        return self.height - self.bottom - part * (self.height - self.top - self.bottom)


def _grid(axes: Axes, marks: Sequence[float], form: Callable[[float], str]) -> list[str]:
    inside = [value for value in marks if axes.low <= value <= axes.high]
    lines = "".join(
        f"M{axes.left:g} {px(axes.y(value))}H{axes.width - axes.right:g}" for value in inside
    )
    labels = [
        f'<text x="{axes.left - 6:g}" y="{px(axes.y(value) + 4)}" text-anchor="end">'
        f"{escape(form(value))}</text>"
        for value in inside
    ]
    return [f'<path class="grid" d="{lines}"/>', *labels]


def _places(axes: Axes, places: Sequence[float], name: str) -> list[str]:
    width = axes.width - axes.left - axes.right
    marks = [
        value
        for value in ticks(min(places), max(places), 6 if width > 280 else 3)
        if value == int(value) and min(places) <= value <= max(places)
    ]
    y = axes.height - axes.bottom + 16
    labels = [
        f'<text x="{px(axes.x(value))}" y="{px(y)}" text-anchor="middle">{short(value)}</text>'
        for value in marks
        if axes.x(value) < axes.width - 62 or len(marks) == 1
    ]
    end = axes.width - axes.right
    return [*labels, f'<text x="{end:g}" y="{px(y)}" text-anchor="end">{escape(name)}</text>']


def _curve(axes: Axes, series: Series) -> str:
    points = thin(series.points, MOST_POINTS)
    path, dots, pen_down = [], [], False
    dotted = len(points) <= DOTS
    for index, (x, y) in enumerate(points):
        if y is None:
            pen_down = False
            continue
        place = f"{px(axes.x(x))} {px(axes.y(y))}"
        path.append(f"{' ' if pen_down else 'M'}{place}")
        after = points[index + 1][1] if index + 1 < len(points) else None
        if dotted or (not pen_down and after is None):
            dots.append(f"M{place}h0")
        pen_down = True
    drawn = f'<path class="curve {series.css}" d="{"".join(path)}"/>'
    return drawn + (f'<path class="dot {series.css}" d="{"".join(dots)}"/>' if dots else "")


def _ring(axes: Axes, series: Series) -> list[str]:
    found = [y for x, y in series.finite if x == series.best]
    if not found or series.best is None:
        return []
    x, y = px(axes.x(series.best)), px(axes.y(found[0]))
    return [f'<circle class="ring {series.css}" cx="{x}" cy="{y}" r="4.5"/>']


def _hits(
    axes: Axes,
    series: Sequence[Series],
    x_name: str,
    form: Callable[[float], str],
    mark: float | None,
    mark_name: str,
    most: int,
) -> str:
    """Invisible bars over the plot that show the values at their place."""
    table: dict[float, list[str]] = {}
    for one in series:
        for x, y in one.points:
            value = "not a number" if y is None else form(y)
            table.setdefault(x, []).append(f"{one.name} {value}")
    places = sorted(table)
    stride = -(-len(places) // most)
    chosen = [x for i, x in enumerate(places) if not i % stride or x == mark or x == places[-1]]
    width = (axes.width - axes.left - axes.right) / max(len(chosen), 1)
    down = px(axes.height - axes.bottom)
    bars = "".join(
        f'<path d="M{px(axes.x(x))} {axes.top:g}V{down}"><title>'
        + escape(clean(f"{x_name} {short(x)}{f' ({mark_name})' if x == mark else ''}"))
        + "".join(f"\n{escape(clean(line))}" for line in table[x])
        + "</title></path>"
        for x in chosen
    )
    return f'<g class="hits" stroke-width="{px(max(width, 2))}">{bars}</g>'


def px(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """At most about ``most`` of the points: of each stretch the least and the greatest, so that no
    spike is lost, and a gap where one was."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(2 * len(points) / most)
    chosen: list[Point] = []
    for first in range(0, len(points), size):
        stretch = points[first : first + size]
        finite = [(y, i) for i, (_, y) in enumerate(stretch) if y is not None]
        if not finite:
            chosen.append(stretch[0])
            continue
        chosen += [stretch[i] for i in sorted({min(finite)[1], max(finite)[1]})]
        if len(finite) < len(stretch):
            chosen.append((stretch[-1][0], None))
    return chosen


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers, about so many, the first not above ``low``, the last not below ``high``."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        span = abs(low) or 1.0
    raw = span / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999), 10 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) if step > 1e-9 else index * step
            for index in range(first, last + 1)]  # fmt: skip


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around two numbers above 0, about five."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [10.0**power for power in powers][:: max(1, len(powers) // 5)]
