"""Tables of segments by the names of their columns: our own list, CSV of any program, the
metadata.csv or .jsonl of Hugging Face's videofolder, the JSON of Apple's Create ML."""

import ast
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from slowfast_dist.annotations.importing.rows import Segment, Where
from slowfast_dist.annotations.importing.source import MOST_NUMBER, Source, optional_column
from slowfast_dist.system.text import clean, few

VIDEO = ("path", "file_name", "videopath", "filename", "file", "video", "video_path", "video_name",
         "video_id", "videoid", "clip", "media", "media_file", "video_file_name")  # fmt: skip
LABEL = ("label", "class", "class_name", "label_name", "behavior", "behaviour", "action",
         "activity", "category", "event", "event_label", "text")  # fmt: skip
START = ("start", "start_time", "start (s)", "start_s", "start_sec", "start_seconds", "starttime",
         "begin", "begin_time", "onset", "onset_s", "time_start", "t_start", "from",
         "start_timestamp")  # fmt: skip
END = ("end", "end_time", "end (s)", "end_s", "end_sec", "end_seconds", "endtime", "stop",
       "stop (s)", "stop_time", "offset", "offset_s", "time_end", "t_end", "to",
       "stop_timestamp", "end_timestamp")  # fmt: skip
FIRST_FRAME = ("start_frame", "startframe", "start frame", "first_frame", "frame_start",
               "begin_frame")  # fmt: skip
LAST_FRAME = ("end_frame", "stop_frame", "endframe", "end frame", "stop frame", "last_frame",
              "frame_end")  # fmt: skip
OTHERS = {
    "subject": ("subject", "subject_id", "animal", "individual", "participant", "person"),
    "split": ("split", "subset", "set", "fold"),
    "group": ("group", "recording", "session"),
}  # fmt: skip

_FEATURE = re.compile(r"""\{'bytes': None, 'path': ('.*'|".*")\}""")
"""A cell of a column of videos, as Hugging Face's datasets write it to CSV or JSON lines."""

_FRAMES = "numbers of frames are taken as from 0, the last one included: --frame-base and " \
          "--frame-end take them otherwise"  # fmt: skip


def is_table(source: Source) -> bool:
    """Whether its first line names columns for the video and the label."""
    if source.is_json or source.first in ("<", ""):
        return False
    row = next(source.table(), None)
    return row is not None and _names_both(row.cells, source)


def _names_both(header: Sequence[str], source: Source) -> bool:
    labels = (*LABEL, *(name.casefold() for name in source.options.tier))
    return len(header) > 1 and all(
        optional_column(header, names) is not None for names in (_video_names(header), labels)
    )


def _video_names(header: Sequence[str]) -> tuple[str, ...]:
    """Names of the column of videos; Hugging Face's may have a word of their own before the end."""
    small = (cell.strip().casefold() for cell in header)
    return (*VIDEO, *(name for name in small if name.endswith("_file_name")))


def is_videofolder(source: Source) -> bool:
    if source.path.stem != "metadata" or source.first == "<":
        return False
    if source.is_json:
        entry = next(iter(_entries(source)), None)
        names = list(entry) if isinstance(entry, dict) else []
    else:
        row = next(source.table(), None)
        names = row.cells if row is not None else []
    return any(name.strip().casefold() == "file_name" or name.endswith("_file_name")
               for name in names)  # fmt: skip


def read_videofolder(source: Source) -> Iterator[Segment]:
    return read_objects(source) if source.is_json else read_table(source)


def is_objects(source: Source) -> bool:
    """Whether it is JSON, a list of flat objects with a video and a label each."""
    entry = next(iter(_entries(source)), None) if source.is_json else None
    return isinstance(entry, dict) and _names_both(list(entry), source)


def _entries(source: Source) -> list[Any]:
    """The objects of JSON or of JSON lines, of which one may be all there is."""
    return source.document if isinstance(source.document, list) else [source.document]


class _Layout:
    """Which column holds what."""

    def __init__(
        self, source: Source, header: Sequence[str], line: int, may_lack_one: bool = False
    ) -> None:
        """``may_lack_one``: without a column for it, segments start at 0, or end with the video."""
        self.source, self.header = source, header
        tier = tuple(name.casefold() for name in source.options.tier)
        self.video = source.column(header, _video_names(header), "the video", line)
        self.label = source.column(header, tier or LABEL, "the label", line)
        self.start = optional_column(header, START)
        self.end = optional_column(header, END)
        self.frames = source.options.times == "frames"
        if self.start is None and self.end is None:
            self.start = optional_column(header, FIRST_FRAME)
            self.end = optional_column(header, LAST_FRAME)
            self.frames = self.frames or self.start is not None
        if (self.start is None) != (self.end is None) and not may_lack_one:
            names, what = (START, "the start") if self.start is None else (END, "the end")
            source.column(header, names, what, line)
        if self.frames and self.start is not None:
            source.notes.say(f"{source.path.name}: {_FRAMES}")
        self.others = {name: optional_column(header, names) for name, names in OTHERS.items()}
        used = {self.video, self.label, self.start, self.end, *self.others.values()}
        frames = set() if self.frames else {*FIRST_FRAME, *LAST_FRAME}  # seconds say it, too
        unused = [
            clean(cell) for place, cell in enumerate(header)
            if place not in used and cell.strip() and cell.strip().casefold() not in frames
        ]  # fmt: skip
        if unused:
            source.notes.say(f"{source.path.name}: columns not used: {few(unused, 8)}")

    def segment(self, where: Where, cells: Sequence[str]) -> Segment:
        start = self._time(cells, self.start, where)
        end = self._time(cells, self.end, where)
        if (self.start is None) != (self.end is None):
            start = 0.0 if self.start is None else start
            end = math.inf if self.end is None else end
        if self.frames and start is not None and end is not None:
            start, end = self.source.options.span(start, end, base=0, inclusive=True)
        subject, split, group = (
            "" if place is None else cells[place].strip() for place in self.others.values()
        )
        video = cells[self.video].strip()
        if video.startswith("{"):
            video = _path_of(video)
        return Segment(where, video, cells[self.label], start, end,
                       self.frames, subject, split, group)  # fmt: skip

    def _time(self, cells: Sequence[str], place: int | None, where: Where) -> float | None:
        if place is None:
            return None
        cell = cells[place]
        try:  # most of a million rows
            value = float(cell)
        except ValueError:
            return self.source.number(cell, where, self.header[place])
        return value if abs(value) <= MOST_NUMBER else self.source.number(
            cell, where, self.header[place]
        )


def read_table(source: Source) -> Iterator[Segment]:
    rows = source.table()
    line, header = next(rows)
    layout = _Layout(source, header, line)
    width = len(header)
    segment = layout.segment
    for line, cells in rows:
        if len(cells) != width:
            while len(cells) > width and not cells[-1]:
                cells.pop()
            if len(cells) > width or len(cells) <= max(layout.video, layout.label):
                remedy = "is a quote missing, or one too many?"
                if len(cells) > width:
                    remedy = (
                        f"put what holds a {source.separator!r} in quotes, or is it a decimal "
                        "comma? then save the file with semicolons or tabs between its cells and "
                        "add --decimal-comma"
                    )
                raise source.wrong(
                    f"{len(cells)} cells where the first line names {width} columns; {remedy}", line
                )
            cells += [""] * (width - len(cells))
        yield segment(line, cells)


def read_objects(source: Source) -> Iterator[Segment]:
    """JSON, a list of objects, each a row; the names of the first one's fields are the columns."""
    layout: _Layout | None = None
    names: list[str] = []
    for number, entry in enumerate(_entries(source), start=1):
        where = f"entry {number}"
        if not isinstance(entry, dict):
            raise source.wrong("is no object with a video and a label", where)
        if layout is None or not entry.keys() <= set(names):
            names = list(entry)
            layout = _Layout(source, names, number, may_lack_one=True)  # Create ML says so
        yield layout.segment(where, [_text(entry.get(name)) for name in names])


def _path_of(cell: str) -> str:
    """The path in a cell of a column of videos (`_FEATURE`); any other cell as it is."""
    found = _FEATURE.fullmatch(cell)
    if found is None:
        return cell
    try:
        path = ast.literal_eval(found[1])
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return cell
    return path if isinstance(path, str) else cell


def _text(value: Any) -> str:
    return "" if value is None else str(value)
