"""From values to the pixels of a plot: axes, round numbers along them, fewer points."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float | None]
"""Place and value; None where there is none."""


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


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """At most about ``most`` of the points: of each stretch the least and the greatest, so that no
    spike is lost, and a gap where one was."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(2 * len(points) / most)
    kept: list[Point] = []
    for first in range(0, len(points), size):
        stretch = points[first : first + size]
        finite = [(y, i) for i, (_, y) in enumerate(stretch) if y is not None]
        if not finite:
            kept.append(stretch[0])
            continue
        kept += [stretch[i] for i in sorted({min(finite)[1], max(finite)[1]})]
        if len(finite) < len(stretch):
            kept.append((stretch[-1][0], None))
    return kept


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
