"""BORIS: aggregated and tabular exports of any version, and projects; a project is written.

The columns were read off real exports of BORIS 3 to 9 and its code (export_observation.py).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from slowfast_dist.annotations.formats.writing import VideoSegments, as_json
from slowfast_dist.annotations.importing.rows import Segment, Where
from slowfast_dist.annotations.importing.source import Source, finite, optional_column

NO_SUBJECT = "No focal subject"
"""What BORIS writes where nobody in particular is observed."""

_MEDIA = ("media file name", "media file path", "media file", "source", "media file(s)")
_SOURCES = ("source", "media file(s)", "media file path", "media file")
_LENGTHS = ("media duration (s)", "media duration", "total length")
_STATUS = ("behavior type", "status", "type")
_NOWHERE = ("", "NA", "Not found", "LIVE", "Live observation")

_LIVE = "its observation has no media file (live, or of pictures)"
_UNPAIRED = "START without STOP, or STOP without START"
_RUNS_ON = "times run on over the files of its observation, whose lengths are not in the table: " \
           "import the project (.boris)"  # fmt: skip
_NEXT_FILE = "it goes on into the next media file of its observation, and is parted there"
_OTHER_PLAYERS = "observations have several players: the video of player #1 is taken"

_FOREVER = 1e12
"""Seconds: the length of an observation's last file where the export does not tell it."""


class _Media:
    """The files of player 1 of an observation, one behind the other, as BORIS counts its time."""

    def __init__(self, names: Sequence[str], lengths: Sequence[float | None]) -> None:
        self.names = names
        self.length = lengths[0] or 0.0 if len(names) == len(lengths) == 1 else 0.0
        """Seconds of the only file, 0 where it is not told."""
        self.known = len(names) <= 1 or (len(lengths) == len(names) and None not in lengths)
        self.ends: list[float] = []
        for length in lengths if self.known and len(names) > 1 else ():
            whole = (self.ends[-1] if self.ends else 0.0) + math.floor((length or 0) * 1e3) / 1e3
            self.ends.append(round(whole, 3))

    def parts(self, start: float, end: float) -> list[tuple[str, float, float]]:
        """The files and the seconds in each that a time of the observation is in."""
        if len(self.names) == 1:
            return [(self.names[0], start, end)]
        begins = [0.0, *self.ends[:-1]]
        ends = [*self.ends[:-1], _FOREVER]
        found = []
        for name, begin, stop in zip(self.names, begins, ends, strict=True):
            if start < stop and (end > begin or start == end >= begin):
                parts = (max(start, begin) - begin, min(end, stop) - begin)
                found.append((name, round(parts[0], 6), round(parts[1], 6)))
        return found


def _segments(
    source: Source, where: Where, media: _Media, start: float, end: float, label: str, subject: str
) -> Iterator[Segment]:
    subject = "" if subject == NO_SUBJECT else subject
    if not media.names:
        source.notes.drop(where, _LIVE, "", label)
    elif not media.known:
        source.notes.drop(where, _RUNS_ON, media.names[0], label)
    else:
        parts = media.parts(start, end)
        if len(parts) > 1:
            source.notes.change(where, _NEXT_FILE, media.names[0], label)
        for name, first, last in parts:
            yield Segment(where, name, label, first, last, subject=subject, length=media.length)


# --- tables -------------------------------------------------------------------------------------


def is_table(source: Source) -> bool:
    """Whether it is an aggregated or tabular export, with or without lines before its header."""
    if source.is_json or source.first == "<":
        return False
    return any(_is_header(cells) for _, cells in zip(range(40), _rows(source), strict=False))


def _rows(source: Source) -> Iterator[list[str]]:
    for row in source.table():
        yield row.cells


def _is_header(cells: Sequence[str]) -> bool:
    small = {cell.strip().casefold() for cell in cells}
    times = {"start (s)", "stop (s)"} <= small or "time" in small
    return "behavior" in small and times and not small.isdisjoint(_STATUS)


def read_table(source: Source) -> Iterator[Segment]:
    """An aggregated export (a row a segment) or a tabular one (a row an event)."""
    rows = source.table()
    header = next((row for row in rows if _is_header(row.cells)), None)
    if header is None:
        raise source.wrong("no header with Behavior and Start (s), or Behavior and Time, is in it; "
                           "export aggregated or tabular events")  # fmt: skip
    line, cells = header
    if any(cell.strip().casefold().startswith("modif") for cell in cells):
        source.notes.say(f"{source.path.name}: modifiers are not used: labels are behaviors")
    table = _Table(source, cells, line)
    table.find_running(source.table())
    small = {cell.strip().casefold() for cell in cells}
    yield from (_aggregated if "stop (s)" in small else _tabular)(source, table, rows)


class _Table:
    """Where an export has what, by its header."""

    def __init__(self, source: Source, header: Sequence[str], line: int) -> None:
        self.source, self.header, self._line = source, header, line
        self.behavior = source.column(header, ["behavior"], "the behavior", line)
        source.column(header, _MEDIA, "the media file", line)
        self.status = source.column(header, _STATUS, "the type or status of events", line)
        self._subject = optional_column(header, ["subject"])
        self._observation = optional_column(header, ["observation id"])
        self._name = optional_column(header, _MEDIA[:1])
        self._source = optional_column(header, _SOURCES)
        self._lengths = optional_column(header, _LENGTHS)
        self._modifiers = [place for place, cell in enumerate(header)
                           if cell.strip().casefold().startswith("modif")]  # fmt: skip
        self._media: dict[tuple[str, str, str], _Media] = {}
        self._running: set[str] = set()
        """Observations of several files, of whose lengths the table has none."""

    def find_running(self, rows: Iterator[Any]) -> None:
        """Old versions name the file of each event, and count time through all of them."""
        if self._source is None:
            return
        names: dict[str, set[str]] = {}
        for line, cells in rows:
            if len(cells) >= len(self.header) and line > self._line:
                media = self.media(cells, line)
                if len(media.names) == 1:
                    names.setdefault(self.observation(cells), set()).add(media.names[0])
        self._running = {name for name, files in names.items() if len(files) > 1}

    def subject(self, cells: Sequence[str]) -> str:
        return "" if self._subject is None else cells[self._subject].strip()

    def observation(self, cells: Sequence[str]) -> str:
        return "" if self._observation is None else cells[self._observation]

    def modifiers(self, cells: Sequence[str]) -> tuple[str, ...]:
        return tuple(cells[place] for place in self._modifiers)

    def media(self, cells: Sequence[str], line: int) -> _Media:
        name = "" if self._name is None else cells[self._name].strip()
        source = "" if self._source is None else cells[self._source].strip()
        lengths = "" if self._lengths is None else cells[self._lengths].strip()
        if self.observation(cells) in self._running:
            return _Media([name or source, ""], [])
        key = (name, source, lengths)
        if key not in self._media:
            self._media[key] = self._read_media(name, source, lengths, line)
        return self._media[key]

    def _read_media(self, name: str, source: str, lengths: str, line: int) -> _Media:
        first, *others = source.split("|")
        if others and any(player.partition(":")[2].strip() for player in others):
            self.source.notes.say(_OTHER_PLAYERS)
        head, colon, tail = first.partition(":")
        listed = tail if colon and head.strip().casefold().startswith("player #") else first
        names = [part.strip() for part in listed.split(";")]
        names = [part for part in names if part not in _NOWHERE]
        if len(names) <= 1:
            single = name if name not in _NOWHERE else "".join(names)
            alone = lengths.split("|")[0]
            length = None if ";" in alone else self._seconds(alone, line)
            return _Media([single] if single else [], [length])
        texts = lengths.split("|")[0].split(";")
        found: list[float | None] = []
        for text in texts if len(texts) == len(names) else []:
            found.append(self._seconds(text, line))
        return _Media(names, found)

    def _seconds(self, text: str, line: int) -> float | None:
        return self.source.number(text, line, "Media duration (s)")


def _aggregated(source: Source, table: _Table, rows: Iterator[Any]) -> Iterator[Segment]:
    start = source.column(table.header, ["start (s)"], "the start")
    stop = source.column(table.header, ["stop (s)"], "the end")
    for line, cells in rows:
        if len(cells) < len(table.header):
            cells = [*cells, *[""] * (len(table.header) - len(cells))]
        label = cells[table.behavior].strip()
        first = source.number(cells[start], line, "Start (s)")
        last = source.number(cells[stop], line, "Stop (s)")
        media = table.media(cells, line)
        if first is None or last is None:
            why = _LIVE if not media.names else "it has only one of start and end"
            source.notes.drop(line, why, "".join(media.names[:1]), label)
            continue
        yield from _segments(source, line, media, first, last, label, table.subject(cells))


def _tabular(source: Source, table: _Table, rows: Iterator[Any]) -> Iterator[Segment]:
    place = source.column(table.header, ["time", "time (s)", "start"], "the time")
    open_: dict[tuple[Any, ...], tuple[int, float, _Media]] = {}
    for line, cells in rows:
        if len(cells) < len(table.header):
            cells = [*cells, *[""] * (len(table.header) - len(cells))]
        label, subject = cells[table.behavior].strip(), table.subject(cells)
        status, media = cells[table.status].strip().upper(), table.media(cells, line)
        time = source.number(cells[place], line, "Time")
        if time is None:
            source.notes.drop(line, _LIVE, "".join(media.names[:1]), label)
            continue
        # Without a name of the observation, its file tells it from others in the table.
        observation = table.observation(cells) or "".join(media.names)
        key = (observation, subject, label, table.modifiers(cells))
        if status == "POINT":
            yield from _segments(source, line, media, time, time, label, subject)
        elif status == "START" and key not in open_:
            open_[key] = (line, time, media)
        elif status == "STOP" and key in open_:
            begun, start, media = open_.pop(key)
            yield from _segments(source, begun, media, start, time, label, subject)
        else:
            source.notes.drop(line, _UNPAIRED, "".join(media.names[:1]), label)
    for key, (begun, _, media) in open_.items():
        source.notes.drop(begun, _UNPAIRED, "".join(media.names[:1]), key[2])


# --- projects -----------------------------------------------------------------------------------


def is_project(source: Source) -> bool:
    if not source.is_json or not isinstance(source.document, dict):
        return False
    return {"observations", "behaviors_conf"} <= source.document.keys()


def read_project(source: Source) -> Iterator[Segment]:
    """A project (.boris): its observations' events, of which two in turn are start and stop."""
    project = source.document
    kinds = source.mapping(project["behaviors_conf"], "behaviors_conf", "ethogram")
    states = {
        str(entry.get("code")): str(entry.get("type", "")).casefold().startswith("state")
        for entry in source.objects([*kinds.values()], "behaviors_conf", "ethogram")
    }
    observations = source.mapping(project["observations"], "observations", "project")
    for name, value in observations.items():
        where = f"observation {name!r}"
        yield from _observation(source, where, source.mapping(value, "it", where), states)


def _observation(
    source: Source, name: str, observation: dict[str, Any], states: dict[str, bool]
) -> Iterator[Segment]:
    media = _project_media(source, name, observation)
    open_: dict[tuple[str, str, str], float] = {}
    events = source.listed(observation.get("events"), "events", name)
    timed = [event for event in events if isinstance(event, list) and len(event) >= 3
             and finite(event[0]) is not None]  # fmt: skip
    for event in sorted(timed, key=lambda event: float(event[0])):
        time, (subject, label) = float(event[0]), map(str, event[1:3])
        where = f"{name}, {time:.3f} s"
        if label not in states:
            source.notes.drop(where, "its behavior is not in the ethogram", "", label)
            continue
        key = (subject, label, str(event[3]) if len(event) > 3 else "")
        if not states[label]:
            yield from _segments(source, where, media, time, time, label, subject)
        elif key in open_:
            yield from _segments(source, where, media, open_.pop(key), time, label, subject)
        else:
            open_[key] = time
    for (_, label, _), time in open_.items():
        source.notes.drop(f"{name}, {time:.3f} s", _UNPAIRED, "".join(media.names[:1]), label)
    for _ in range(len(events) - len(timed)):
        source.notes.drop(name, "it is an event without a time")


def _project_media(source: Source, name: str, observation: dict[str, Any]) -> _Media:
    if observation.get("media_creation_date_as_offset"):
        raise source.wrong(
            "its times are those of the day (media creation date as offset); export the "
            "observation with times from the start of the media", name
        )  # fmt: skip
    players = observation.get("file")
    if observation.get("type") not in ("MEDIA", "VIDEO", None) or not players:
        return _Media([], [])
    if isinstance(players, dict):
        if any(files for player, files in players.items() if player != "1"):
            source.notes.say(_OTHER_PLAYERS)
        files = source.listed(players.get("1"), "file", name)
    else:  # before version 1: a file a player
        files = source.listed(players, "file", name)[:1]
    info = source.mapping(observation.get("media_info"), "media_info", name)
    lengths = source.mapping(info.get("length"), "length", name)
    names = [str(file) for file in files]
    return _Media(names, [finite(lengths.get(file)) for file in names])


def write_project(video: VideoSegments, creator: str = "slowfast_dist") -> str:
    """A project with one observation of the video, its classes as states of the ethogram."""
    keys = "abcdefghijklmnopqrstuvwxyz0123456789"
    events: list[list[Any]] = []
    for segment in video.segments:
        comment = f"confidence {segment.confidence:.4f}"
        events.append([round(segment.start, 3), "", segment.label, "", comment, "NA"])
        events.append([round(segment.end, 3), "", segment.label, "", "", "NA"])
    behaviors = {
        str(place): {
            "type": "State event", "key": keys[place] if place < len(keys) else "",
            "code": label, "description": "", "color": "", "category": "", "modifiers": {},
            "excluded": "", "coding map": "",
        }
        for place, label in enumerate(video.classes)
    }  # fmt: skip
    path = video.path
    media = {
        "length": {path: round(video.seconds, 3)}, "fps": {path: video.fps},
        "hasVideo": {path: True}, "hasAudio": {path: False}, "offset": {"1": 0.0},
    }  # fmt: skip
    observation = {
        "file": {str(player): [path] if player == 1 else [] for player in range(1, 9)},
        "type": "MEDIA", "date": "1970-01-01T00:00:00", "description": f"by {creator}",
        "time offset": 0.0, "events": sorted(events, key=lambda event: event[0]),
        "observation time interval": [0, 0], "independent_variables": {},
        "visualize_spectrogram": False, "visualize_waveform": False,
        "media_creation_date_as_offset": False, "media_scan_sampling_duration": 0,
        "image_display_duration": 1, "close_behaviors_between_videos": False, "media_info": media,
    }  # fmt: skip
    return as_json({
        "time_format": "hh:mm:ss", "project_date": "1970-01-01T00:00:00",
        "project_name": video.name, "project_description": f"segments found by {creator}",
        "project_format_version": "7.0", "subjects_conf": {}, "behaviors_conf": behaviors,
        "observations": {video.name: observation}, "behavioral_categories": [],
        "behavioral_categories_conf": {}, "independent_variables": {}, "coding_map": {},
        "behaviors_coding_map": [], "converters": {},
    })  # fmt: skip

