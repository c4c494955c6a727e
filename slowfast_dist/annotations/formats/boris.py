"""BORIS: its projects, read and written; and how its time counts through media files."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from slowfast_dist.annotations.formats.writing import VideoSegments, as_json
from slowfast_dist.annotations.importing.rows import Segment, Where
from slowfast_dist.annotations.importing.source import Source, finite

NO_SUBJECT = "No focal subject"
"""What BORIS writes where nobody in particular is observed."""

LIVE = "its observation has no media file (live, or of pictures)"
UNPAIRED = "START without STOP, or STOP without START"
_RUNS_ON = "times run on over the files of its observation, whose lengths are not in the table: " \
           "import the project (.boris)"  # fmt: skip
_NEXT_FILE = "it goes on into the next media file of its observation, and is parted there"
OTHER_PLAYERS = "observations have several players: the video of player #1 is taken"

_FOREVER = 1e12
"""Seconds: the length of an observation's last file where the export does not tell it."""


class Media:
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


def segments_of(
    source: Source, where: Where, media: Media, start: float, end: float, label: str, subject: str
) -> Iterator[Segment]:
    subject = "" if subject == NO_SUBJECT else subject
    if not media.names:
        source.notes.drop(where, LIVE, "", label)
    elif not media.known:
        source.notes.drop(where, _RUNS_ON, media.names[0], label)
    else:
        parts = media.parts(start, end)
        if len(parts) > 1:
            source.notes.change(where, _NEXT_FILE, media.names[0], label)
        for name, first, last in parts:
            yield Segment(where, name, label, first, last, subject=subject, length=media.length)


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
            yield from segments_of(source, where, media, time, time, label, subject)
        elif key in open_:
            yield from segments_of(source, where, media, open_.pop(key), time, label, subject)
        else:
            open_[key] = time
    for (_, label, _), time in open_.items():
        source.notes.drop(f"{name}, {time:.3f} s", UNPAIRED, "".join(media.names[:1]), label)
    for _ in range(len(events) - len(timed)):
        source.notes.drop(name, "it is an event without a time")


def _project_media(source: Source, name: str, observation: dict[str, Any]) -> Media:
    if observation.get("media_creation_date_as_offset"):
        raise source.wrong(
            "its times are those of the day (media creation date as offset); export the "
            "observation with times from the start of the media", name
        )  # fmt: skip
    players = observation.get("file")
    if observation.get("type") not in ("MEDIA", "VIDEO", None) or not players:
        return Media([], [])
    if isinstance(players, dict):
        if any(files for player, files in players.items() if player != "1"):
            source.notes.say(OTHER_PLAYERS)
        files = source.listed(players.get("1"), "file", name)
    else:  # before version 1: a file a player
        files = source.listed(players, "file", name)[:1]
    info = source.mapping(observation.get("media_info"), "media_info", name)
    lengths = source.mapping(info.get("length"), "length", name)
    names = [str(file) for file in files]
    return Media(names, [finite(lengths.get(file)) for file in names])


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
