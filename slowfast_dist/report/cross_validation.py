"""What the page about a cross-validation shows; its words: templates/cross_validation.html."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slowfast_dist.metrics.summary import Summary, confused_pairs
from slowfast_dist.report.curves import MOST_IN_GRID, grid, heat_map
from slowfast_dist.report.run_page import CALIBRATION_AXES, PAIRS, doubts_context
from slowfast_dist.report.sections.folds import learning_curve
from slowfast_dist.report.sections.judged import Judged
from slowfast_dist.report.thumbnails import Thumbnails
from slowfast_dist.system.text import operand


def cross_validation_context(
    folder: Path, facts: Mapping[str, Any], summary: Summary, judged: Judged,
    thumbnails: Mapping[str, Thumbnails],
) -> dict[str, Any]:  # fmt: skip
    """``facts`` as in cross_validation.json; ``summary`` of all out-of-fold predictions, which are
    ``judged``; ``thumbnails`` of videos whose label is in doubt, by their names."""
    name, size = folder.name, len(summary.classes)
    pairs = sorted(
        confused_pairs(summary.cells, summary.classes), key=lambda pair: (-pair.count, -pair.share)
    )
    return {
        "title": f"{name}: cross-validation",
        "name": name,
        "facts": facts,
        "curve": learning_curve(facts),
        "grouped": facts["groups"] is not None,
        "classes": summary.classes,
        "grid": grid(summary.cells, size) if size <= MOST_IN_GRID else [],
        "heat": heat_map(summary.cells, size) if size > MOST_IN_GRID else "",
        "pairs": pairs[:PAIRS],
        "calibration": [one for one in summary.bins if one.count],
        "with_temperature": [one for one in judged.calibrated if one.count],
        "calibration_axes": CALIBRATION_AXES,
        "ece": summary.ece,
        "review": f"python -m slowfast_dist review {operand(folder)}",
        **doubts_context(judged, thumbnails, len(judged.doubts), summary.videos),
    }

