"""BORIS: aggregated and tabular exports of events, of any version.

The columns were read off real exports of BORIS 3 to 9 and its code (export_observation.py).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from slowfast_dist.annotations.formats.boris import (
    LIVE,
    OTHER_PLAYERS,
    UNPAIRED,
    Media,
    segments_of,
)
from slowfast_dist.annotations.importing.rows import ONE_END, Segment
from slowfast_dist.annotations.importing.source import Source, optional_column

_MEDIA = ("media file name", "media file path", "media file", "source", "media file(s)")
_SOURCES = ("source", "media file(s)", "media file path", "media file")
_LENGTHS = ("media duration (s)", "media duration", "total length")
_STATUS = ("behavior type", "status", "type")
_NOWHERE = ("", "NA", "Not found", "LIVE", "Live observation")


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
        self._media: dict[tuple[str, str, str], Media] = {}
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

    def media(self, cells: Sequence[str], line: int) -> Media:
        name = "" if self._name is None else cells[self._name].strip()
        source = "" if self._source is None else cells[self._source].strip()
        lengths = "" if self._lengths is None else cells[self._lengths].strip()
        if self.observation(cells) in self._running:
            return Media([name or source, ""], [])
        key = (name, source, lengths)
        if key not in self._media:
            self._media[key] = self._read_media(name, source, lengths, line)
        return self._media[key]

    def _read_media(self, name: str, source: str, lengths: str, line: int) -> Media:
        first, *others = source.split("|")
        if others and any(player.partition(":")[2].strip() for player in others):
            self.source.notes.say(OTHER_PLAYERS)
        head, colon, tail = first.partition(":")
        listed = tail if colon and head.strip().casefold().startswith("player #") else first
        names = [part.strip() for part in listed.split(";")]
        names = [part for part in names if part not in _NOWHERE]
        if len(names) <= 1:
            single = name if name not in _NOWHERE else "".join(names)
            alone = lengths.split("|")[0]
            length = None if ";" in alone else self._seconds(alone, line)
            return Media([single] if single else [], [length])
        texts = lengths.split("|")[0].split(";")
        found: list[float | None] = []
        for text in texts if len(texts) == len(names) else []:
            found.append(self._seconds(text, line))
        return Media(names, found)

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
            why = LIVE if not media.names else ONE_END
            source.notes.drop(line, why, "".join(media.names[:1]), label)
            continue
        yield from segments_of(source, line, media, first, last, label, table.subject(cells))


def _tabular(source: Source, table: _Table, rows: Iterator[Any]) -> Iterator[Segment]:
    place = source.column(table.header, ["time", "time (s)", "start"], "the time")
    open_: dict[tuple[Any, ...], tuple[int, float, Media]] = {}
    for line, cells in rows:
        if len(cells) < len(table.header):
            cells = [*cells, *[""] * (len(table.header) - len(cells))]
        label, subject = cells[table.behavior].strip(), table.subject(cells)
        status, media = cells[table.status].strip().upper(), table.media(cells, line)
        time = source.number(cells[place], line, "Time")
        if time is None:
            source.notes.drop(line, LIVE, "".join(media.names[:1]), label)
            continue
        # Without a name of the observation, its file tells it from others in the table.
        observation = table.observation(cells) or "".join(media.names)
        key = (observation, subject, label, table.modifiers(cells))
        if status == "POINT":
            yield from segments_of(source, line, media, time, time, label, subject)
        elif status == "START" and key not in open_:
            open_[key] = (line, time, media)
        elif status == "STOP" and key in open_:
            begun, start, media = open_.pop(key)
            yield from segments_of(source, begun, media, start, time, label, subject)
        else:
            source.notes.drop(line, UNPAIRED, "".join(media.names[:1]), label)
    for key, (begun, _, media) in open_.items():
        source.notes.drop(begun, UNPAIRED, "".join(media.names[:1]), key[2])
