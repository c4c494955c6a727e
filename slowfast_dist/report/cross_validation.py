"""What the page about a cross-validation shows; its words: templates/cross_validation.html."""

from collections.abc import Mapping
from typing import Any

from slowfast_dist.metrics.summary import Summary, confused_pairs
from slowfast_dist.report.charts import Axes, Series, line_chart
from slowfast_dist.report.curves import MOST_IN_GRID, Chart, Key, grid, heat_map
from slowfast_dist.report.format import score
from slowfast_dist.report.run_page import PAIRS


def cross_validation_context(
    name: str, facts: Mapping[str, Any], summary: Summary
) -> dict[str, Any]:
    """``facts`` as in cross_validation.json; ``summary`` of all out-of-fold predictions."""
    size = len(summary.classes)
    pairs = sorted(
        confused_pairs(summary.cells, summary.classes), key=lambda pair: (-pair.count, -pair.share)
    )
    return {
        "title": f"{name}: cross-validation",
        "name": name,
        "facts": facts,
        "curve": _curve(facts),
        "grouped": facts["groups"] is not None,
        "classes": summary.classes,
        "grid": grid(summary.cells, size) if size <= MOST_IN_GRID else [],
        "heat": heat_map(summary.cells, size) if size > MOST_IN_GRID else "",
        "pairs": pairs[:PAIRS],
        "calibration": [one for one in summary.bins if one.count],
        "calibration_axes": Axes(400, 236, 0.0, 1.0, 0.0, 1.0, left=54, bottom=10),
        "ece": summary.ece,
    }


def _curve(facts: Mapping[str, Any]) -> Chart | None:
    """Macro-F1 and accuracy over the training groups; None where there is one point alone."""
    points = facts["learning_curve"]
    if len(points) < 2:
        return None
    titles = {"f1_macro": ("Macro F1", "s0 d0"), "accuracy": ("Accuracy", "s1 d0")}
    series = [
        Series(title, css, [(one["groups"], one[name]) for one in points])
        for name, (title, css) in titles.items()
    ]
    what = "groups" if facts["groups"] is not None else "videos"
    svg = line_chart(
        "Learning curve", series, x_name=what, form=score, tick=score, low=0.0, high=1.0,
        size=(600, 240),
    )  # fmt: skip
    return Chart("Learning curve", [Key(one.name, one.css) for one in series], svg)
