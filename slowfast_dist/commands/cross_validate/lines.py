"""What a cross-validation found, in a few lines for people."""

from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from slowfast_dist.config.fields import FINAL
from slowfast_dist.metrics.calibration import calibration_line
from slowfast_dist.metrics.uncertainty import scores_line
from slowfast_dist.report.sections.folds import PAGE, RESULT
from slowfast_dist.report.sections.wrong_list import WRONG_LABELS
from slowfast_dist.runs.folder import RunFolder

OUT_OF_FOLD = "out_of_fold.csv"
"""The predictions of all folds, in the folder of the cross-validation."""


def result_lines(folder: Path, facts: Mapping[str, Any]) -> list[str]:
    """Scores with their intervals, seeds, learning curve, calibration, rows of split test, and the
    files in ``folder``; ``facts`` as in cross_validation.json."""
    groups = f" in {facts['groups']} groups" if facts["groups"] else ""
    lines = [
        f"out of fold, {facts['videos']} {facts['what']}{groups}: "
        f"{scores_line(facts['metrics'], facts['intervals'], facts['intervals_over'])}"
    ]
    if len(facts["seeds"]) > 1:
        values = [one["f1_macro"] for one in facts["seeds"]]
        lines.append(
            f"over {len(values)} seeds macro-F1 is {mean(values):.4f}, standard deviation "
            f"{stdev(values):.4f}"
        )
    if len(facts["learning_curve"]) > 1:
        unit = "groups" if facts["groups"] else "videos"
        curve = ", ".join(
            f"{one['groups']:.0f} {unit}: {one['f1_macro']:.4f}" for one in facts["learning_curve"]
        )
        lines.append(f"learning curve, macro-F1 by what was trained on: {curve}")
    if facts["calibration"]:
        lines.append(calibration_line(facts["calibration"]))
    if test := facts["test"]:
        scores = scores_line(test["metrics"], test["intervals"], test["intervals_over"])
        lines.append(
            f"split test, {test['videos']} videos, scored once by the model of all folds "
            f"({FINAL}/models): {scores}"
        )
    shown_at = RunFolder(folder).shown
    files = [OUT_OF_FOLD, RESULT]
    if (folder / WRONG_LABELS).is_file():
        files.append(WRONG_LABELS)
    lines.append(f"{shown_at / PAGE}: all of it; {', '.join(files)}: for programs")
    return lines
