"""Numbers and lists as a page shows them."""

from collections.abc import Mapping
from typing import Any

from slowfast_dist.runs.reading import mapping, number, pair, sequence
from slowfast_dist.runs.reading import whole as whole_number
from slowfast_dist.system.text import few

HEAD_LISTS = {"kept": "kept by name", "new": "new", "dropped": "dropped"}
"""Lists of classes below training.head of best_model.json -> how they are called."""

NAMED_CLASSES = 5
"""Classes of such a list that are named; of the others the number is given."""

ABSENT = "–"
"""In place of a number that is not there."""


def share(value: float | None) -> str:
    """A part of one in percent: 80.0 %."""
    return ABSENT if value is None else f"{100 * value:.1f} %"


def percent(value: float | None) -> str:
    """A part of one in whole percent where it is whole, for a scale: 25 %."""
    return ABSENT if value is None else f"{100 * value:.3g} %"


def score(value: float | None) -> str:
    """Three digits behind the point."""
    return ABSENT if value is None else f"{value:.3f}"


def short(value: float | None) -> str:
    """Three significant digits: 0.00288, 7.33, 1.2e+05."""
    if value is None:
        return ABSENT
    return f"{value:.0f}" if 100 <= abs(value) < 1e5 else f"{value:.3g}"


def interval(pair: tuple[float, float] | None, percent: bool = True) -> str:
    """A confidence interval, 64.0 to 92.0 %; nothing where there is none."""
    if pair is None:
        return ""
    low, high = pair
    return f"{100 * low:.1f} to {100 * high:.1f} %" if percent else f"{low:.3f} to {high:.3f}"


def points(value: float) -> str:
    """A difference of two shares, in percentage points with their sign: +1.5."""
    return f"{100 * value:+.1f}"


def whole(value: int | None) -> str:
    """A whole number: 2,500."""
    return ABSENT if value is None else f"{value:,}"


def count(number: int, one: str, many: str | None = None) -> str:
    """``1 video``, ``2,500 videos``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float | None) -> str:
    """42 s, 4.0 min or 2 h 05 min."""
    if seconds is None:
        return ABSENT
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02} min"


def seconds(value: float | None) -> str:
    """Seconds in a column: 7.3, 1,250.0."""
    return ABSENT if value is None else f"{value:,.1f}"


def last_part(path: str) -> str:
    """The name of a folder or file: clips of data/clips/."""
    return path.rstrip("/").rpartition("/")[2]


FILTERS = (count, duration, interval, last_part, points, score, seconds, share, short, whole)
"""How the templates write numbers and names."""


def head_parts(training: Mapping[str, Any]) -> list[str]:
    """What became of the classes of the weights that a run began with, each list counted and its
    first names given, from best_model.json's "training"; nothing where all were kept."""
    head = mapping(training.get("head"))
    lists = {name: [str(one) for one in sequence(head.get(name))] for name in HEAD_LISTS}
    if not (lists["new"] or lists["dropped"]):
        return []
    return [
        f"{len(names):,} {what} ({few(names, NAMED_CLASSES)})"
        for what, names in ((HEAD_LISTS[name], names) for name, names in lists.items())
        if names
    ]


def calibration_facts(best: Mapping[str, Any]) -> dict[str, Any] | None:
    """"calibration" of best_model.json, as `Calibration.facts`; None where there is none, or it is
    damaged."""
    given = mapping(best.get("calibration"))
    names = ("temperature", "loss", "ece", "loss_calibrated", "ece_calibrated")
    found: dict[str, Any] = {name: number(given.get(name)) for name in names}
    found |= {name: whole_number(given.get(name)) for name in ("videos", "parts")}
    if None in found.values():
        return None
    return found | {name: str(given.get(name, "")) for name in ("of", "why")}


def tested_facts(best: Mapping[str, Any]) -> dict[str, Any] | None:
    """"test" of best_model.json, what it says of the rows of split test; None where there are no
    such scores, or they are damaged."""
    given = mapping(best.get("test"))
    found: dict[str, Any] = {
        name: number(given.get(f"test/{name}")) for name in ("accuracy", "f1_macro")
    }
    found["videos"] = whole_number(given.get("test/videos"))
    if None in found.values():
        return None
    bounds = mapping(given.get("intervals")).items()
    intervals = {name: both for name, one in bounds if (both := pair(one)) is not None}
    return found | {"intervals": intervals}
