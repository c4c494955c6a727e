"""Tables of public datasets: Kinetics, EPIC-KITCHENS-100, Charades."""

from collections.abc import Iterator, Sequence

from slowfast_dist.annotations.importing.rows import Segment
from slowfast_dist.annotations.importing.source import Source, finite, optional_column

_KINETICS = ("label", "youtube_id", "time_start", "time_end")
_EPIC = ("video_id", "start_timestamp", "stop_timestamp", "verb", "noun")
_CHARADES = ("id", "actions", "length")


def _has(source: Source, names: Sequence[str], needed: int) -> bool:
    if source.is_json or source.first == "<":
        return False
    row = next(source.table(), None)
    found = [name for name in names if row and optional_column(row.cells, (name,)) is not None]
    return len(found) >= needed


def _cell(cells: Sequence[str], place: int | None) -> str:
    return cells[place].strip() if place is not None and place < len(cells) else ""


def is_kinetics(source: Source) -> bool:
    return _has(source, _KINETICS[1:], 3)


def read_kinetics(source: Source) -> Iterator[Segment]:
    """label,youtube_id,time_start,time_end,split in whole seconds. The usual crawlers cut the
    segments out, as LABEL/ID_000010_000020.mp4; else ID is the name of the uncut video."""
    rows = source.table()
    line, header = next(rows)
    name = source.column(header, ["youtube_id"], "the video", line)
    start = source.column(header, ["time_start"], "the start", line)
    stop = source.column(header, ["time_end"], "the end", line)
    label, split = (optional_column(header, [word]) for word in ("label", "split"))
    for line, cells in rows:
        video, first = _cell(cells, name), source.number(_cell(cells, start), line, "time_start")
        last = source.number(_cell(cells, stop), line, "time_end")
        clip = ""
        if first is not None and last is not None:
            clip = f"{video}_{int(first):06d}_{int(last):06d}"
        yield Segment(line, video, _cell(cells, label), first, last, split=_cell(cells, split),
                      clip=clip)  # fmt: skip


def is_epic(source: Source) -> bool:
    return _has(source, _EPIC, 5)


def read_epic(source: Source) -> Iterator[Segment]:
    """The verb is the label, or what --tier names (verb, noun, narration; several are joined).
    Timestamps are taken: frames count at 60 or 50 a second, which the videos need not have."""
    rows = source.table()
    line, header = next(rows)
    places = [source.column(header, [word], f"the {word}", line) for word in _EPIC[:3]]
    tiers = source.options.tier or ("verb",)
    labels = [source.column(header, [tier.casefold()], "--tier", line) for tier in tiers]
    person = optional_column(header, ["participant_id"])
    if not source.options.tier:
        source.notes.say(f"{source.path.name}: the verb is the label: --tier noun, or --tier verb "
                         "noun, takes another")  # fmt: skip
    for line, cells in rows:
        video, *times = (_cell(cells, place) for place in places)
        start, end = (source.number(time, line, name)
                      for time, name in zip(times, _EPIC[1:3], strict=True))  # fmt: skip
        label = " ".join(_cell(cells, place) for place in labels)
        yield Segment(line, video, label, start, end, subject=_cell(cells, person))


def is_charades(source: Source) -> bool:
    return _has(source, _CHARADES, 3)


def read_charades(source: Source) -> Iterator[Segment]:
    """A row a video, all its actions in one cell, "c092 11.90 21.20;c147 0.00 12.60"."""
    rows = source.table()
    line, header = next(rows)
    name, actions, person = (optional_column(header, [word])
                             for word in ("id", "actions", "subject"))  # fmt: skip
    for line, cells in rows:
        video, listed = _cell(cells, name), _cell(cells, actions)
        if not listed:
            source.notes.drop(line, "its cell actions is empty", video)
            continue
        for action in listed.split(";"):
            parts = action.split()
            times = [finite(part) for part in parts[1:]]
            if len(times) != 2 or None in times:
                raise source.wrong(f"column 'actions' holds {action[:40]!r} in place of a class, "
                                   "its start and its end in seconds", line)  # fmt: skip
            yield Segment(line, video, parts[0], times[0], times[1],
                          subject=_cell(cells, person))  # fmt: skip
