"""What is wrong with parts of videos, and what they are: lengths, gaps, overlaps, times."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.commands.check.dataset import Dataset, Finding
from slowfast_dist.commands.check.files import clip_config
from slowfast_dist.config.commands.dataset import CheckData
from slowfast_dist.data.background.drawn import find_gaps
from slowfast_dist.data.listing.segments import Segments, overlaps

SAME_SHARE = 0.8
"""Share of the time that two segments of a class cover together, and both cover, from which they
are one action that was annotated twice; annotators who agree differ by a few frames."""


def left_out(data: Dataset) -> Iterator[Finding]:
    """Rows of another tool's file that the import on the way dropped or changed."""
    notes = [one.notes for one in data.imported if one.notes.count()]
    if notes:
        dropped, changed = (sum(count) for count in zip(
            *((one.dropped(), one.changed()) for one in notes), strict=True))  # fmt: skip
        said = [str(remark) for remark in data.remarks if remark.kind == "rows-left-out"]
        yield Finding(
            "rows-left-out", "warning",
            f"Of the annotations' rows {dropped} are left out, and {changed} are changed.",
            "correct them, or make a list with python -m slowfast_dist import, which has flags for "
            "how files are read",
            [line.replace("--data.", "--") for line in said],
            [entry for one in notes for entry in one.entries()],
        )  # fmt: skip


def outside(data: Dataset) -> Iterator[Finding]:
    """Segments that have no frame in their file."""
    rows = sorted(data.outside)
    if rows:
        remark = next((one.remedy for one in _remarks(data) if one.kind == "segments-outside"), "")
        yield Finding(
            "segments-outside", "error",
            f"{len(rows)} of {len(data.names)} segments have no frame in their videos: training "
            "would do without them.",
            remark or "correct their times, or delete them",
            [f"{data.names[row]}: {data.reasons[row]}" for row in rows],
            [{**data.video(row), "reason": data.reasons[row]} for row in rows],
        )  # fmt: skip


def _rows_of_all(data: Dataset, rows: Sequence[NDArray[np.int64]]) -> list[int]:
    """Rows (M,) of each root as rows of all."""
    starts = accumulate((len(placed.videos) for placed in data.placed), initial=0)
    return [first + row
            for first, some in zip(starts, rows, strict=False)
            for row in some.tolist()]  # fmt: skip


def cut(data: Dataset) -> Iterator[Finding]:
    if rows := _rows_of_all(data, [placed.cut for placed in data.placed]):
        yield Finding(
            "segments-cut", "warning",
            f"{len(rows)} of {len(data.names)} segments end behind the end of their videos and are "
            "cut there.",
            "harmless where it is little; else see whether the times are of another file",
            [f"{data.names[row]}: {_frames(data, row)} frames are left" for row in rows],
            [{**data.video(row), "frames": _frames(data, row)} for row in rows],
        )  # fmt: skip


def boxes_cut(data: Dataset) -> Iterator[Finding]:
    """Regions of interest that reach beyond their pictures."""
    if rows := _rows_of_all(data, [placed.beyond for placed in data.placed]):
        yield Finding(
            "boxes-cut", "warning",
            f"{len(rows)} of {len(data.names)} regions of interest reach beyond their pictures and "
            "are cut there.",
            "harmless where it is little; else see whether x,y,w,h are of pictures of another size",
            [data.names[row] for row in rows],
            [data.video(row) for row in rows],
        )  # fmt: skip


def overlapping(data: Dataset) -> Iterator[Finding]:
    """Segments of different classes that share time. Of several labels a clip they do no harm."""
    if data.classes is not data.single_classes:
        return
    pairs = [pair for first, segments, labels in _parts(data)
             for pair in (overlaps(segments, labels) + first).tolist()
             if data.background not in data.labels[pair]]  # fmt: skip
    if pairs:
        rows = {row for pair in pairs for row in pair}
        yield Finding(
            "overlapping-segments", "warning",
            f"{len(rows)} of {len(data.names)} segments overlap one of another class: a clip there "
            "shows both, and counts as its own segment's class alone.",
            "correct their times where that is a mistake; --loss.name bce gives a clip both labels",
            [_pair(data, *pair) for pair in pairs],
            [{"segments": [data.video(row) for row in pair]} for pair in pairs],
        )  # fmt: skip


def annotated_twice(data: Dataset) -> Iterator[Finding]:
    """Neighbours of one class that cover nearly the same time."""
    pairs = [(first + one, first + other) for first, segments, labels in _parts(data)
             for one, other in _nearly_same(segments, labels)]  # fmt: skip
    if pairs:
        yield Finding(
            "annotated-twice", "warning",
            f"{len(pairs)} pairs of segments of a class cover nearly the same time of a file, as "
            "two annotators' do: they count twice.",
            "keep one of each",
            [_pair(data, *pair) for pair in pairs],
            [{"segments": [data.video(row) for row in pair]} for pair in pairs],
        )  # fmt: skip


def _nearly_same(segments: Segments, labels: NDArray[np.int32]) -> list[tuple[int, int]]:
    scenes = segments.scenes
    order = np.lexsort((segments.bounds[:, 0], labels, scenes))
    one, other = order[:-1], order[1:]
    both = (scenes[one] == scenes[other]) & (labels[one] == labels[other])
    (start, end), (later, until) = segments.bounds[one].T, segments.bounds[other].T
    common = np.minimum(end, until) - np.maximum(start, later)
    together = np.maximum(end, until) - np.minimum(start, later)
    same = both & (common >= SAME_SHARE * together)
    return list(zip(one[same].tolist(), other[same].tolist(), strict=True))


def _parts(data: Dataset) -> Iterator[tuple[int, Segments, NDArray[np.int32]]]:
    """Of each list its first row here, its segments, and their classes."""
    first = 0
    for placed in data.placed:
        if placed.videos.segments is not None:
            yield first, placed.videos.segments, placed.videos.labels
        first += len(placed.videos)


def _remarks(data: Dataset) -> Iterator[Any]:
    return (remark for placed in data.placed for remark in placed.remarks)


def _pair(data: Dataset, one: int, other: int) -> str:
    first, second = (
        f"{data.names[row]} ({data.classes[data.labels[row]]})" for row in (one, other)
    )
    return f"{first} and {second}"


def _frames(data: Dataset, row: int) -> int:
    first, end = data.spans[row] or (0, 0)
    return end - first


def facts(data: Dataset, command: CheckData) -> dict[str, Any]:
    """How long they are, how much of their files they cover, how long what lies between them is,
    and what --data.background would draw from; nothing where there are none."""
    if not data.has_segments:
        return {}
    lengths, total, covered = list[float](), 0.0, 0.0
    of_class = dict.fromkeys(data.single_classes, 0.0)
    shown: dict[Any, list[tuple[int, int]]] = {}
    rates: dict[Any, tuple[float, int]] = {}
    for row, info in data.readable():
        rate = info.mean_rate()
        if rate <= 0:
            continue
        first, end = data.spans[row] or (0, info.frames)
        lengths.append((end - first) / rate)
        for name in data.classes_of(row):
            of_class[name] += (end - first) / rate
        shown.setdefault(data.paths[row], []).append((first, end))
        rates[data.paths[row]] = rate, info.frames
    gaps = list[float]()
    for path, spans in shown.items():
        rate, frames = rates[path]
        total += frames / rate
        taken, between = _union(spans)
        covered += taken / rate
        gaps += [gap / rate for gap in between]
    if not lengths:
        return {}
    return {
        "segments": {
            "count": len(data.names), "files": len(data.first_rows),
            "seconds": _spread(lengths),
            "class_seconds": of_class, "annotated_share": covered / total,
            "gaps": {"count": len(gaps), "seconds": _spread(gaps) if gaps else None},
            "background": _background(data, command),
        }
    }  # fmt: skip


def _background(data: Dataset, command: CheckData) -> dict[str, Any]:
    """Whatever side they are on."""
    config, first = clip_config(command), 0
    count, files, seconds = 0, 0, 0.0
    for annotated, placed in zip(data.annotated, data.placed, strict=True):
        rows = [row for row in range(len(placed.videos)) if data.infos[first + row] is not None]
        first += len(placed.videos)
        if annotated is not None and rows:
            [side] = find_gaps(
                annotated, (placed.videos.select(rows),), command.background or "", config
            )
            count, files = count + len(side.gaps), files + side.files
            seconds += side.seconds
    return {"count": count, "files": files, "seconds": seconds, "margin": command.margin}


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median": median(seconds), "least": min(seconds), "most": max(seconds)}


def _union(spans: list[tuple[int, int]]) -> tuple[int, list[int]]:
    """Frames that are in any of them, and how many lie between one and the next."""
    total, reached = 0, 0
    gaps = list[int]()
    for number, (first, end) in enumerate(sorted(spans)):
        if number and first > reached:
            gaps.append(first - reached)
        total += max(0, end - max(first, reached))
        reached = max(reached, end)
    return total, gaps
