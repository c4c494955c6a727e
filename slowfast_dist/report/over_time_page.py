"""The page about what a model finds in whole files; its words are in templates/over_time.html."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.metrics.over_time import SCORES, OverTime
from slowfast_dist.report.curves import MOST_IN_GRID, grid
from slowfast_dist.report.thumbnails import COMMAND_LIMIT, LEAST_SECONDS, draw
from slowfast_dist.report.timelines import Paint, Parted, TimedFile, axis, line
from slowfast_dist.video.guarded_reader import GuardedReader

MOST_FILES = 100
"""Files on the page, the worst first: more are not looked at, and segments.csv has all."""

MOST_BYTES = 800_000
"""Of all timelines together: with the pictures the page stays below 3 MB."""

PICTURES = 6
"""Stretches of a file of which a frame is shown, the longest: a row of a wide screen."""

MOST_PICTURES = 240
"""Pictures on the page: shared out evenly, so that each file has some."""

PICTURE_BYTES = 1_500_000
"""Of all pictures together, which base64 makes a third larger."""

TIRED = "there was no time or room left on the page"
"""Why a stretch has no picture."""

WORDS = {
    "frame_accuracy": "Frame accuracy", "frame_f1_macro": "Frame macro-F1",
    "map_30": "mAP at temporal IoU .3", "map_50": "mAP at .5", "map_70": "mAP at .7",
    "map_50_95": "mAP, mean of .5 to .95", "f1_10": "Segmental F1@10", "f1_25": "Segmental F1@25",
    "f1_50": "Segmental F1@50", "edit_score": "Edit score",
}  # fmt: skip
"""What people call the scores."""


@dataclass(frozen=True)
class Shown:
    """A file on the page; ``moments``: stretches where truth and prediction part, with a JPEG or
    the reason why there is none."""

    timed: TimedFile
    lines: tuple[str, str, str]
    moments: list[tuple[Parted, bytes, str]]


def over_time_context(
    title: str, timed: Sequence[TimedFile], scores: OverTime, facts: Mapping[str, Any],
    classes: Sequence[str], background: int | None, videos: VideoTable, notes: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """What over_time.html shows; frames are read of ``videos`` for as long as a report may take."""
    paint = Paint.of(classes, scores.seconds[: len(classes)].sum(axis=1), background)

    def badness(one: TimedFile) -> tuple[float, float]:
        accuracy = one.scores.accuracy
        return (1.0 if accuracy is None else accuracy, one.scores.edit)

    shown: list[tuple[TimedFile, tuple[str, str, str]]] = []
    size = 0
    for one in sorted(timed, key=badness)[:MOST_FILES]:
        lines = (
            line(one.truth, one.duration, paint, "truth"),
            line(one.found, one.duration, paint, "found"),
            axis(one.parted, one.duration),
        )
        size += sum(len(text.encode()) for text in lines)
        if size > MOST_BYTES and shown:
            break
        shown.append((one, lines))
    pictures = _pictures([one for one, _ in shown], videos)
    labels = [*classes, *(["no label"] if background is None or scores.seconds[-1].any() else [])]
    rounded = scores.seconds.round().astype(np.int64)
    seconds = [(i, j, int(rounded[i, j])) for i, j in np.argwhere(rounded).tolist()]
    return {
        "title": title,
        "scores": [
            (WORDS[name], scores.values[name], scores.intervals.get(name)) for name in SCORES
        ],
        "values": scores.values,
        "intervals": scores.intervals,
        "per_class": scores.per_class,
        "facts": facts,
        "notes": [("warning" if text.startswith("warning: ") else "note",
                   text.removeprefix("warning: ")) for text in notes],
        "files": [
            Shown(one, lines, pictures.get(one.row, [])) for one, lines in shown
        ],
        "total": len(timed),
        "paint": paint,
        "labels": labels,
        "columns": classes,
        "grid": grid(seconds, len(labels)) if len(labels) <= MOST_IN_GRID else [],
    }


def _pictures(
    timed: Sequence[TimedFile], videos: VideoTable
) -> dict[int, list[tuple[Parted, bytes, str]]]:
    """Of each file, by its row, the longest stretches in the order of time, each with its middle
    frame. All files get some before one gets more."""
    each = max(1, min(PICTURES, MOST_PICTURES // max(1, len(timed))))
    reader, end = GuardedReader(), time.monotonic() + COMMAND_LIMIT.total
    found: dict[int, list[tuple[Parted, bytes, str]]] = {}
    size = 0
    try:
        for one in timed:
            moments = sorted(one.parted[:each], key=lambda moment: moment.start)
            reader.seconds = min(end - time.monotonic(), COMMAND_LIMIT.each)
            if reader.seconds < LEAST_SECONDS or size > PICTURE_BYTES:
                found[one.row] = [(moment, b"", TIRED) for moment in moments]
            elif moments:
                indices = np.array([moment.frame for moment in moments], np.int64)
                drawn = draw(reader, videos.path(one.row), videos.info(one.row), indices)
                pictures = drawn.pictures or (b"",) * len(moments)
                size += sum(map(len, pictures))
                found[one.row] = [
                    (moment, picture, drawn.reason)
                    for moment, picture in zip(moments, pictures, strict=True)
                ]
    finally:
        reader.close()
    return found
