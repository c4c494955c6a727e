"""Import annotation files without videos: of these only length and rate are told. What comes of
each is listed as a training lists it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from slowfast_dist.annotations.formats.registry import find_format
from slowfast_dist.annotations.importing.columns import Columns
from slowfast_dist.annotations.importing.conversion import Facts, Table, convert
from slowfast_dist.annotations.importing.reading import Subjects, read_rows
from slowfast_dist.annotations.importing.rows import Notes, Options
from slowfast_dist.annotations.importing.source import Source
from slowfast_dist.annotations.importing.videos import VideoFinder
from slowfast_dist.annotations.importing.writing import seconds, write_rows
from slowfast_dist.data.listing.listing import Listing
from slowfast_dist.data.listing.manifest import list_videos

ENDINGS = (".mp4", ".avi", ".webm", ".mkv")

FAR = 10_000.0
"""Seconds of a video of which nothing is said."""


@dataclass
class Imported:
    """What came of it: the name of the format, the rows, what was said, and a line a reason."""

    format: str
    rows: list[tuple[str, ...]]
    """(path, label, start, end), times as they are written."""
    said: list[str]
    lines: list[str]
    columns: Columns
    table: Table

    def column(self, name: str) -> list[str]:
        """The cells of subject, split or group."""
        texts = getattr(self.columns, f"{name}s").texts
        return [texts[code] for code in self.columns.codes(name)[self.table.rows]]


def facts(length: float, fps: float) -> Facts:
    return Facts(length, partial(np.arange, 0, length - 1e-9, 1 / fps))


def imported(
    path: Path, videos: Mapping[str, tuple[float, float]] | None = None, *,
    format: Any = None, point_seconds: float | None = None, frame_rate: float | None = None,
    subjects: Subjects | None = None, **options: Any,
) -> Imported:  # fmt: skip
    """Import the file; ``videos``: paths with their seconds and frames a second."""
    videos = videos or {}
    notes = Notes()
    source = Source(path, Options(frame_rate=frame_rate, **options), notes)
    found = find_format(source, format)
    finder = VideoFinder(
        Path("videos"), [name for name in videos if name.endswith(ENDINGS)],
        [name for name in videos if not name.endswith(ENDINGS)],
        lambda name: name.endswith(ENDINGS),
    )  # fmt: skip
    columns = read_rows([(source, found.read)], finder, subjects or Subjects(), notes)
    known = [facts(*videos[name]) for name in columns.videos.texts[1:]]
    table = convert(columns, [facts(FAR, 25.0), *known], notes, point_seconds, frame_rate)
    rows: list[tuple[str, ...]] = [
        (columns.videos.texts[columns.codes("video")[row]],
         columns.labels.texts[columns.codes("label")[row]], seconds(start), seconds(end))
        for row, start, end in zip(table.rows.tolist(), table.start, table.end, strict=True)
    ]  # fmt: skip
    if rows:
        assert len(listed(columns, table).videos) == len(rows)
    return Imported(found.name, rows, list(notes.said), list(notes.lines()), columns, table)


def listed(columns: Columns, table: Table, name: str = "list.csv") -> Listing:
    """What a training reads of the list that is written, beside files that hold nothing."""
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        write_rows(path, columns, table, str)
        for video in columns.videos.texts[1:]:
            file = Path(folder, video)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return list_videos(path, "data.root", single_class=True)
