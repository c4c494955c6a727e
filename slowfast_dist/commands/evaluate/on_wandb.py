"""Timelines of truth and prediction, for the run's own run on wandb."""

from collections.abc import Sequence
from typing import Any

from slowfast_dist.commands.evaluate.opening import Opened
from slowfast_dist.inference.drawing.timeline import draw_compared
from slowfast_dist.inference.segments import Segment
from slowfast_dist.metrics.over_time import SCORES, OverTime
from slowfast_dist.report.timelines import Stretches, TimedFile
from slowfast_dist.runs.settings import run_of
from slowfast_dist.tracking.wandb_late import Mode, open_late, videos_named
from slowfast_dist.tracking.wandb_panels import Panels, timelines_panels

MOST_FILES = 20
"""Files whose timelines are logged, the worst first: more are not looked at, and over_time.html has
them."""


def log_over_time(
    opened: Opened, timed: Sequence[TimedFile], scores: OverTime, background: int | None, mode: Mode
) -> None:
    """Log the ``scores`` and a table of the worst files, each with its picture; a file's name only
    where the training was to name videos. Nothing where the run was not logged."""
    folder = run_of(opened.best.folder)
    named = videos_named(folder)
    shown = sorted(timed, key=_right)[:MOST_FILES]
    what = f"scores over time and timelines of {len(shown)} files"
    names = "their names" if named else "no names of files"
    run = open_late(folder, mode, f"{what}, class names; {names}, no pictures of videos")

    def draw() -> Panels:
        rows = [_row(number, one, opened, background, named) for number, one in enumerate(shown)]
        return timelines_panels(opened.name, {key: scores.values[key] for key in SCORES}, rows)

    run.log_panels(draw)
    run.finish(0)


def _right(one: TimedFile) -> float:
    return 1.0 if one.scores.accuracy is None else one.scores.accuracy


def _row(
    number: int, one: TimedFile, opened: Opened, background: int | None, named: int
) -> tuple[str, float | None, float, Any]:
    classes = opened.best.classes
    told = one.file if number < named else f"file {number + 1}"
    truth, found = (_segments(side, classes, background) for side in (one.truth, one.found))
    picture = draw_compared(truth, found, one.duration)
    return told, one.scores.accuracy, one.scores.edit, picture


def _segments(
    side: Stretches, classes: Sequence[str], background: int | None
) -> list[Segment]:
    """All but the background, which is what is left of the line."""
    sure = side.probabilities.tolist() if len(side.probabilities) else [1.0] * len(side.labels)
    rows = zip(side.bounds.tolist(), side.labels.tolist(), sure, strict=True)
    return [
        Segment(start, end, classes[label], chance)
        for (start, end), label, chance in rows
        if label != background
    ]
