"""What the page about a search for settings shows; its words: templates/tuning.html."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from slowfast_dist.report.charts import Axes, Series, line_chart, px, ticks
from slowfast_dist.report.curves import Chart, Key
from slowfast_dist.report.format import score, short
from slowfast_dist.system.text import clean, shell

SIZE = (400.0, 230.0)
"""Pixels of a chart of one flag: three fit beside each other on a screen."""

MOST_CHARACTERS = 12
"""Characters of a value below such a chart; of a longer one the beginning."""


def tuning_context(
    name: str, facts: Mapping[str, Any], logs: Mapping[str, bool]
) -> dict[str, Any]:
    """``facts`` as in tune.json; ``logs``: of each flag that is searched in a range whether its
    scale is logarithmic."""
    trials = facts["trials"]
    complete = [one for one in trials if one["state"] == "complete"]
    flags = list(trials[0]["params"]) if trials else []
    importance = facts["importance"] or {}
    return {
        "title": f"{name}: search for settings", "name": name, "facts": facts, "flags": flags,
        "counts": {state: sum(one["state"] == state for one in trials)
                   for state in ("complete", "pruned", "failed", "running")},
        "as_given": next((one for one in complete if one["number"] == 0), None),
        "history": _history(complete),
        "scatters": [_scatter(flag, complete, logs.get(flag)) for flag in flags if complete],
        "importance": sorted(importance.items(), key=lambda one: -one[1]),
        "flag_words": shell(facts.get("flags", [])),
        "over": "groups" if facts["groups"] else "videos",
    }  # fmt: skip


def _history(complete: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The score of each complete trial, and the best one until then."""
    if len(complete) < 2:
        return None
    best, until = -math.inf, []
    for one in complete:
        best = max(best, one["f1_macro"])
        until.append((one["number"], best))
    own = [(one["number"], one["f1_macro"]) for one in complete]
    series = [Series("This trial", "s1 d1", own), Series("Best so far", "s0 d0", until)]
    svg = line_chart(
        "Macro F1 by trial", series, x_name="trial", form=score, tick=score, size=(600, 240)
    )
    return Chart("Macro F1 by trial", [Key(one.name, one.css) for one in series], svg)


def _scatter(flag: str, complete: Sequence[Mapping[str, Any]], log: bool | None) -> Chart:
    """Scores over the values of a flag; ``log`` None: its values are words, numbers by size."""
    points = [(one["params"][flag], one["f1_macro"], one["number"]) for one in complete]
    words = sorted({str(value) for value, _, _ in points}, key=_order) if log is None else []

    def place(value: Any) -> float:
        if words:
            return float(words.index(str(value)))
        return math.log10(value) if log else float(value)

    places = [place(value) for value, _, _ in points]
    scores = [value for _, value, _ in points]
    marks_y = ticks(min(scores), max(scores), 4)
    low, high = min(places), max(places)
    edge = 0.5 if words else (high - low) * 0.05 or 0.5
    bottom, top = min(marks_y[0], *scores), max(marks_y[-1], *scores)
    axes = Axes(*SIZE, low - edge, high + edge, bottom, top if top > bottom else bottom + 0.01)
    parts = [
        f'<path class="grid" d="M{axes.left:g} {px(axes.y(one))}H{axes.width - axes.right:g}"/>'
        f'<text x="{axes.left - 6:g}" y="{px(axes.y(one) + 4)}" text-anchor="end">{score(one)}'
        "</text>"
        for one in marks_y
        if axes.low <= one <= axes.high
    ]
    below = [(float(index), word) for index, word in enumerate(words)] or [
        (one, short(10**one if log else one)) for one in (low, (low + high) / 2, high)
    ]
    parts += [
        f'<text x="{px(axes.x(at))}" y="{px(axes.height - axes.bottom + 16)}" '
        f'text-anchor="middle">{escape(clean(text[:MOST_CHARACTERS]))}</text>'
        for at, text in dict(below).items()
    ]
    best = max(scores)
    for at, (value, own, number) in zip(places, points, strict=True):
        css = "s0" if own == best else "s1"
        parts.append(
            f'<path class="dot {css}" d="M{px(axes.x(at))} {px(axes.y(own))}h0"><title>'
            f"trial {number}: {escape(clean(str(value)))}, macro F1 {score(own)}</title></path>"
        )
    label = escape(clean(f"Macro F1 by {flag}, of {len(points)} complete trials"), quote=True)
    svg = (
        f'<svg class="chart" viewBox="0 0 {SIZE[0]:g} {SIZE[1]:g}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )
    return Chart(flag, [], svg)


def _order(word: str) -> tuple[float, str]:
    """Numbers by size, then what is none, as "none" and "0.3 1.0"."""
    try:
        return float(word), word
    except ValueError:
        return math.inf, word
