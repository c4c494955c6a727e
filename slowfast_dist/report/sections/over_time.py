"""Timelines of truth and prediction on a run's page, from what ``evaluate --segments`` left."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.segments import parse_time
from slowfast_dist.report.timelines import Paint, Stretches, axis, line, parted
from slowfast_dist.runs.reading import MOST_BYTES, mapping, read_json, read_table
from slowfast_dist.runs.run import Run

COLUMNS = ("path", "kind", "label", "start", "end", "probability")
"""Of segments.csv; ``kind``: truth or prediction."""

MOST_FILES = 6
"""Files on the run's page, the worst first: the evaluation's own page has them all, with frames."""

LINE_BYTES = 300_000
"""Of their lines together: what else is on the page leaves so much of its 3 MB."""


@dataclass(frozen=True)
class File:
    """``right``: the share of its labelled time in which truth and prediction are the same; None
    without such time. ``lines``: truth, prediction and the axis, as SVG."""

    name: str
    right: float | None
    lines: tuple[str, str, str]


@dataclass(frozen=True)
class Timelines:
    """Of the newest evaluation over time: ``name``, some of its ``total`` files, the colours."""

    name: str
    files: list[File]
    total: int
    legend: list[tuple[str, str]]


Rows = list[tuple[float, float, int, float]]
"""Start, end, label and probability (NaN: not known) of segments of one file."""


def timelines(run: Run) -> Timelines | None:
    """None where no evaluation of whole files lies in the run's folder, or it is damaged."""
    newest = next((one for one in run.evaluations if one.over_time), None)
    if newest is None:
        return None
    folder = run.folder / f"evaluation-{newest.name}"
    classes = list(run.classes)
    sides = _read(folder / "segments.csv", classes)
    told = mapping(read_json(folder / "metrics.json")).get("background")
    background = classes.index(told) if told in classes else None
    truths, founds = sides["truth"], sides["prediction"]
    if not founds:
        return None
    seconds = np.zeros(len(classes))
    for rows in truths.values():
        for start, end, label, _ in rows:
            seconds[label] += end - start
    paint = Paint.of(classes, seconds, background)
    drawn = [_file(name, truths.get(name, []), founds[name], paint, background) for name in founds]
    drawn.sort(key=lambda one: 1.0 if one.right is None else one.right)
    shown, size = list[File](), 0
    for one in drawn[:MOST_FILES]:
        size += sum(len(text.encode()) for text in one.lines)
        if size > LINE_BYTES and shown:
            break
        shown.append(one)
    return Timelines(newest.name, shown, len(drawn), paint.legend())


def _read(path: Path, classes: list[str]) -> dict[str, dict[str, Rows]]:
    """Of truth and prediction the rows of each file; ``classes`` gets the names that are new."""
    places = {name: place for place, name in enumerate(classes)}
    known = len(places)
    sides: dict[str, dict[str, Rows]]
    sides = {kind: defaultdict(list) for kind in ("truth", "prediction")}
    for file, kind, label, start, end, sure in read_table(path, COLUMNS, MOST_BYTES):
        try:
            times = parse_time(start), parse_time(end)
            chance = float(sure) if sure else float("nan")
        except ValueError:
            continue
        if kind in sides and times[0] <= times[1]:
            place = places.setdefault(label, len(places))
            sides[kind][file].append((*times, place, chance))
    classes.extend([*places][known:])
    return sides


def _file(name: str, truth: Rows, found: Rows, paint: Paint, background: int | None) -> File:
    """Where the model has a background, time without a row is that, unless rows of the file say
    where it is: as `compare` of the command has it."""
    none = len(paint.names) - 1
    told = background is None or any(row[2] == background for row in truth)
    duration = max(end for _, end, _, _ in [*truth, *found])
    edges = np.unique([0.0, duration, *(time for row in [*truth, *found] for time in row[:2])])
    middles = (edges[:-1] + edges[1:]) / 2
    true = _labels(truth, middles, none if told or background is None else background)
    said = _labels(found, middles, none)
    spans = np.diff(edges)
    counted = spans[true != none].sum()
    right = float(spans[(true == said) & (true != none)].sum() / counted) if counted > 0 else None
    marks = parted(true, said, edges[:-1], spans, none) if len(spans) else []
    return File(name, right, (
        line(_stretches(truth), duration, paint, "truth"),
        line(_stretches(found), duration, paint, "found"),
        axis(marks, duration),
    ))  # fmt: skip


def _labels(rows: Rows, times: NDArray[np.float64], none: int) -> NDArray[np.int64]:
    """(T,): the label of the segment that each time is in, of several the one that began last."""
    labels = np.full(len(times), none, np.int64)
    for start, end, label, _ in sorted(rows):
        first, last = np.searchsorted(times, (start, end))
        labels[first:last] = label
    return labels


def _stretches(rows: Sequence[tuple[float, float, int, float]]) -> Stretches:
    bounds = np.array([row[:2] for row in rows], np.float64).reshape(-1, 2)
    chances = np.array([row[3] for row in rows], np.float64)
    labels = np.array([row[2] for row in rows], np.int64)
    known = np.isfinite(chances).all() and len(rows)
    return Stretches(bounds, labels, chances if known else np.empty(0))
