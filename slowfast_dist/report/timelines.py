"""Truth over prediction along each file, as inline SVG that keeps its text whatever its width.

Places are percent of the width; colours come from the style sheet by class, by which they follow
light and dark.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.over_time import FileScores
from slowfast_dist.system.text import clean, clock

COLOURS = 6
"""Colours of the style sheet: so many classes are filled with one, as many are outlined with it,
and further ones are grey."""

MOST_DRAWN = 400
"""Stretches of a line that are drawn one by one; of more, what lies at so many places, which are
two pixels apart on a wide screen."""

MOST_PARTED = 200
"""Stretches of a file where truth and prediction part that are kept, the longest."""

BAR = 26
"""Height of a line in pixels: it holds a name."""


@dataclass(frozen=True)
class Stretches:
    """(S, 2) seconds and (S,) labels, with the probabilities (S,) where they were predicted."""

    bounds: NDArray[np.float64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Parted:
    """A stretch of frames in which truth and prediction part: ``frame`` is the one in its middle,
    ``time`` when that is shown, in seconds, as ``start`` and ``end``."""

    start: float
    end: float
    frame: int
    time: float
    truth: int
    found: int


@dataclass(frozen=True)
class TimedFile:
    """A file's truth, what was found in it, and how both compare. ``row``: of the table of videos;
    ``recording``: the group that it is of."""

    file: str
    recording: str
    row: int
    duration: float
    truth: Stretches
    found: Stretches
    parted: list[Parted]
    scores: FileScores


def parted(
    truth: NDArray[np.int64], found: NDArray[np.int64], starts: NDArray[np.float64],
    shown: NDArray[np.float64], none: int,
) -> list[Parted]:  # fmt: skip
    """Where the labels of N frames part, the longest first, MOST_PARTED at most; frames whose true
    label is ``none`` are not compared."""
    cuts = np.flatnonzero((np.diff(truth) != 0) | (np.diff(found) != 0)) + 1
    firsts = np.concatenate([[0], cuts])
    ends = np.append(cuts, len(truth))
    apart = (truth[firsts] != found[firsts]) & (truth[firsts] != none)
    stops = starts[ends - 1] + shown[ends - 1]
    rows = np.flatnonzero(apart)
    rows = rows[np.argsort(-(stops - starts[firsts])[rows], kind="stable")][:MOST_PARTED]
    stretches = []
    for row in rows.tolist():
        first, end = int(firsts[row]), int(ends[row])
        middle = (first + end) // 2
        stretches.append(Parted(
            float(starts[first]), float(stops[row]), middle, float(starts[middle]),
            int(truth[first]), int(found[first]),
        ))  # fmt: skip
    return stretches


@dataclass(frozen=True)
class Paint:
    """How classes are drawn: ``names`` (K,) with one more for no label, ``css`` beside them."""

    names: Sequence[str]
    css: Sequence[str]

    @classmethod
    def of(
        cls, classes: Sequence[str], seconds: NDArray[np.float64], background: int | None
    ) -> "Paint":
        """The classes of the most true ``seconds`` (K,) get colours of their own first."""
        css = ["other"] * len(classes) + ["none"]
        ranked = [place for place in np.argsort(-seconds, kind="stable").tolist()
                  if place != background]  # fmt: skip
        for rank, place in enumerate(ranked[: 2 * COLOURS]):
            css[place] = f"{'fill' if rank < COLOURS else 'line'}{rank % COLOURS}"
        if background is not None:
            css[background] = "none"
        return cls([*classes, "no label"], css)

    def legend(self) -> list[tuple[str, str]]:
        """(css, name) of the classes with a look of their own, in the order of their looks."""
        own = [(css, name) for css, name in zip(self.css, self.names, strict=True)
               if css not in ("other", "none")]  # fmt: skip
        return sorted(own)


def line(stretches: Stretches, duration: float, paint: Paint, what: str) -> str:
    """An <svg> of the stretches along a file of so many seconds; ``what`` they are, for those who
    do not see them."""
    drawn = stretches if len(stretches.labels) <= MOST_DRAWN else _thinned(stretches, duration)
    scale, parts, told = 100 / max(duration, 1e-9), [], []
    for place in np.argsort(drawn.bounds[:, 0], kind="stable").tolist():
        start, end = drawn.bounds[place].tolist()
        label = int(drawn.labels[place])
        name, css = escape(clean(paint.names[label]), quote=True), paint.css[label]
        text = f"{name}, {_time(start)} to {_time(end)}"
        if len(drawn.probabilities):
            text += f", {drawn.probabilities[place]:.0%}"
        told.append(text)
        written = "" if css == "none" else f'<text x="5" y="{BAR - 8}">{name}</text>'
        parts.append(
            f'<svg class="{css}" x="{_percent(start * scale)}" '
            f'width="{_percent(max(end - start, 0) * scale)}" height="{BAR}"><title>{text}</title>'
            f'<rect width="100%" height="{BAR}"/>{written}</svg>'
        )
    spoken = f"{what}: {'; '.join(told[:20])}"
    return (
        f'<svg class="line" height="{BAR}" role="img" aria-label="{spoken}">'
        f'<rect class="bed" width="100%" height="{BAR}"/>{"".join(parts)}</svg>'
    )


def axis(parts: Sequence[Parted], duration: float) -> str:
    """An <svg> of where truth and prediction part, and the times below."""
    scale = 100 / max(duration, 1e-9)
    marks = "".join(
        f'<rect class="apart" x="{_percent(one.start * scale)}" '
        f'width="{_percent((one.end - one.start) * scale)}" height="5"/>'
        for one in parts
    )
    times = "".join(
        f'<text x="{quarter * 25}%" y="21" text-anchor="{anchor}">'
        f"{_time(duration * quarter / 4)}</text>"
        for quarter, anchor in enumerate(("start", "middle", "middle", "middle", "end"))
    )
    return f'<svg class="line times" height="24" aria-hidden="true">{marks}{times}</svg>'


def _thinned(stretches: Stretches, duration: float) -> Stretches:
    """What lies at MOST_DRAWN places, equal neighbours joined."""
    edges = np.linspace(0, duration, MOST_DRAWN + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    order = np.argsort(stretches.bounds[:, 0], kind="stable")
    bounds, labels = stretches.bounds[order], stretches.labels[order]
    place = np.searchsorted(bounds[:, 0], middles, "right") - 1
    inside = (place >= 0) & (middles < bounds[np.clip(place, 0, None), 1])
    found = np.where(inside, labels[np.clip(place, 0, None)], -1)
    firsts = np.concatenate([[0], np.flatnonzero(np.diff(found)) + 1])
    ends = np.append(firsts[1:], MOST_DRAWN)
    some = found[firsts] >= 0
    return Stretches(
        np.stack([edges[firsts], edges[ends]], axis=1)[some], found[firsts][some]
    )


def _time(seconds: float) -> str:
    return clock(seconds, 1)


def _percent(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") + "%"
