"""VGG Image Annotator 3 (VIA): its two CSV exports and its projects; a project is written.

Read off VIA's own code (via_import_export.js, _via_data.js): seconds; in one CSV as
temporal_segment_start and _end, in the other as "[s, e]"; JSON in the cells; the header is a
comment.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from slowfast_dist.annotations.formats.writing import VideoSegments, as_json
from slowfast_dist.annotations.importing.rows import Segment, Where
from slowfast_dist.annotations.importing.source import Source, finite
from slowfast_dist.system.text import clean, few

_HEADER = "CSV_HEADER"
_ATTRIBUTES = ("ATTRIBUTE", "ATTRIBUTES")

LOCAL_FILE = 1
"""VIA's number for a file that is chosen on this machine (_VIA_FILE_LOC)."""

VIDEO_FILE = 4
"""VIA's number for a video (_VIA_FILE_TYPE)."""

SELECT = 4
"""VIA's number for an attribute with one of several options (_VIA_ATTRIBUTE_TYPE)."""

REGION = "it is a region of a picture, not a segment"


def is_csv(source: Source) -> bool:
    return any(line.lstrip('"').startswith("#") and _HEADER in line
               for line in source.head.splitlines()[:40])  # fmt: skip


def is_project(source: Source) -> bool:
    if not source.is_json or not isinstance(source.document, dict):
        return False
    return {"file", "view", "metadata", "attribute"} <= source.document.keys()


class _Labels:
    """The label in the values of a row's attributes.

    ``attributes``: by number, each with its name and perhaps its options; the files that have no
    such list have the names in the rows.
    """

    def __init__(self, source: Source, attributes: Mapping[str, Any]) -> None:
        self.source = source
        self._attributes = attributes
        self._only: str | None = None

    def of(self, values: Any, where: Where) -> list[str]:
        if not isinstance(values, dict):
            return []
        named = {self._name(key): (key, value) for key, value in values.items()}
        chosen = [name for name in self.source.options.tier if name in named]
        if not chosen and not self.source.options.tier:
            chosen = [name for name, (_, value) in named.items() if value not in ("", None)]
            if len(chosen) > 1 or (chosen and self._only not in (None, chosen[0])):
                raise self.source.wrong(
                    f"has several attributes, as {few(sorted({*chosen, self._only or chosen[0]}))}:"
                    " choose the one that holds the labels with --tier NAME", where
                )  # fmt: skip
            self._only = chosen[0] if chosen else self._only
        return [label for name in chosen for label in self._options(*named[name])]

    def _name(self, key: str) -> str:
        entry = self._attributes.get(key)
        name = entry.get("aname") if isinstance(entry, dict) else entry
        return str(name) if name else key

    def _options(self, key: str, value: Any) -> list[str]:
        """The words behind the numbers of options; of a checkbox several."""
        entry = self._attributes.get(key)
        options = entry.get("options") if isinstance(entry, dict) else None
        text = str(value)
        if not isinstance(options, dict) or not options:
            return [text]
        if text in options:
            return [str(options[text])]
        parts = [part for part in text.split(",") if part in options]
        return [str(options[part]) for part in parts] or [text]


def _segments(
    source: Source, where: Where, video: str, labels: list[str], times: list[Any], boxes: Any
) -> Iterator[Segment]:
    seconds = [finite(time) for time in times]
    if boxes and len(times) < 2:
        source.notes.drop(where, REGION, video, "".join(labels[:1]))
    elif not labels:
        source.notes.drop(where, "it has no label", video)
    elif None in seconds or len(seconds) not in (0, 1, 2):
        source.notes.drop(where, f"its times are {clean(str(times))[:40]}", video, labels[0])
    else:
        for label in labels:
            if seconds:
                yield Segment(where, video, label, seconds[0], seconds[-1])
            else:
                yield Segment(where, video, label)


# --- CSV ----------------------------------------------------------------------------------------


def read_csv(source: Source) -> Iterator[Segment]:
    header, attributes = _comments(source)
    video = source.column(header, ["file_list"], "the video")
    metadata = source.column(header, ["metadata"], "the label")
    both = source.column(
        header, ["temporal_coordinates", "temporal_segment_start"], "the start and end"
    )
    separate = header[both].strip() == "temporal_segment_start"
    stop = source.column(header, ["temporal_segment_end"], "the end") if separate else both
    boxes = header.index("spatial_coordinates") if "spatial_coordinates" in header else None
    labels = _Labels(source, attributes)
    for line, cells in source.table():
        if len(cells) <= max(video, metadata, both, stop):
            raise source.wrong(f"{len(cells)} cells where {len(header)} are named; export the file "
                               "once more", line)  # fmt: skip
        files = _json(source, cells[video], line, "file_list")
        name = _first_file(source, files if isinstance(files, list) else [cells[video]])
        found = labels.of(_json(source, cells[metadata], line, "metadata"), line)
        if separate:
            times: list[Any] = [source.number(cells[place], line, header[place])
                                for place in (both, stop)]  # fmt: skip
            times = [] if times == [None, None] else times
        else:
            value = _json(source, cells[both], line, "temporal_coordinates")
            times = value if isinstance(value, list) else [value]
        box = boxes is not None and _json(source, cells[boxes], line, "spatial_coordinates")
        yield from _segments(source, line, name, found, times, box)


def _comments(source: Source) -> tuple[list[str], Mapping[str, Any]]:
    """The names of the columns, and the attributes."""
    header: list[str] = []
    attributes: Mapping[str, Any] = {}
    for _, line in source.lines():
        text = line.strip('"')
        if not text.startswith("#"):
            break
        name, _, value = text.lstrip("# ").partition("=")
        if name.strip() == _HEADER:
            header = [cell.strip() for cell in value.split(",") if cell.strip()]
        elif name.strip() in _ATTRIBUTES:
            try:
                read = json.loads(value)
            except (ValueError, RecursionError):
                continue
            attributes = read if isinstance(read, dict) else {}
    if not header:
        raise source.wrong("no line # CSV_HEADER = ... names its columns; export it once more")
    return header, attributes


def _json(source: Source, cell: str, line: int, column: str) -> Any:
    if not cell.strip():
        return None
    try:
        return json.loads(cell)
    except (ValueError, RecursionError) as error:
        shown = clean(cell)[:40]
        raise source.wrong(f"column {column!r} holds {shown!r}, which is no JSON ({error})",
                           line) from None  # fmt: skip


def _first_file(source: Source, files: list[Any]) -> str:
    if len(files) > 1:
        source.notes.say(f"{source.path.name}: of several files in one view the first is taken")
    return str(files[0]) if files else ""


# --- projects -----------------------------------------------------------------------------------


def read_project(source: Source) -> Iterator[Segment]:
    project = source.document
    parts = [project[name] for name in ("file", "view", "metadata", "attribute")]
    if not all(isinstance(part, dict) for part in parts):
        raise source.wrong("is no project of VIA 3: file, view, metadata and attribute are needed")
    files, views, metadata, attributes = parts
    labels = _Labels(source, attributes)
    for name, entry in metadata.items():
        where = f"metadata {name}"
        entry = source.mapping(entry, "it", where)
        view = views.get(str(entry.get("vid")))
        view = source.mapping(view, "its view", where)
        listed = source.listed(view.get("fid_list"), "fid_list", where)
        known = [files.get(str(file)) for file in listed]
        names = [file.get("fname") or file.get("src") for file in known if isinstance(file, dict)]
        if not names:
            source.notes.drop(where, "its view has no file")
            continue
        times = entry.get("z")
        yield from _segments(
            source, where, _first_file(source, names), labels.of(entry.get("av"), where),
            times if isinstance(times, list) else [], entry.get("xy"),
        )  # fmt: skip


def write_project(video: VideoSegments) -> str:
    """A project with one video, its classes the options of the attribute "class"."""
    options = {str(place): label for place, label in enumerate(video.classes)}
    numbers = {label: place for place, label in options.items()}
    metadata = {
        f"1_segment{number}": {
            "vid": "1", "flg": 0, "z": [round(segment.start, 3), round(segment.end, 3)], "xy": [],
            "av": {"1": numbers[segment.label]},
        }
        for number, segment in enumerate(video.segments, start=1)
    }  # fmt: skip
    return as_json({
        "project": {
            "pid": "__VIA_PROJECT_ID__", "rev": "__VIA_PROJECT_REV_ID__",
            "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__", "pname": video.name,
            "creator": "slowfast_dist", "created": 0, "data_format_version": "3.1.1",
            "vid_list": ["1"],
        },
        "config": {
            "file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}},
            "ui": {"file_content_align": "center", "file_metadata_editor_visible": True,
                   "spatial_metadata_editor_visible": True,
                   "temporal_segment_metadata_editor_visible": True,
                   "spatial_region_label_attribute_id": "",
                   "gtimeline_visible_row_count": "4"},
        },
        "attribute": {
            "1": {"aname": "class", "anchor_id": "FILE1_Z2_XY0", "type": SELECT, "desc": "",
                  "options": options, "default_option_id": ""},
        },
        "file": {"1": {"fid": "1", "fname": video.name, "type": VIDEO_FILE, "loc": LOCAL_FILE,
                       "src": ""}},
        "metadata": metadata, "view": {"1": {"fid_list": ["1"]}},
    })  # fmt: skip
