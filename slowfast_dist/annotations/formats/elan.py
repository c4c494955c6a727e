"""ELAN: .eaf files, read and written.

With the standard library, not pympi-ling: that one takes the times of annotations which have none
of their own in a tuple of another length, and keeps entities of strangers' XML. The layout is the
schema EAFv3.0; pympi-ling reads what is written here in a test.
"""

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from slowfast_dist.annotations.formats.writing import VideoSegments
from slowfast_dist.annotations.importing.rows import Segment
from slowfast_dist.annotations.importing.source import Source
from slowfast_dist.system.text import clean, few

_SOUND = ("audio/",)
"""Beginnings of the media types that are no videos."""

NO_TIMES = "its time slots have no times (ELAN spreads such annotations between their neighbours)"


def is_eaf(source: Source) -> bool:
    return source.first == "<" and source.root_tag == "ANNOTATION_DOCUMENT"


def read_eaf(source: Source) -> Iterator[Segment]:
    """The annotations of the tiers of --tier, or of the only one that has any."""
    media, offset = "", 0.0
    slots: dict[str, float | None] = {}
    tiers: dict[str, list[tuple[str, str, tuple[str, str] | str]]] = {}
    participants: dict[str, str] = {}
    for element in source.elements("HEADER", "TIME_ORDER", "TIER"):
        if element.tag == "HEADER":
            media, offset = _media(source, element)
        elif element.tag == "TIME_ORDER":
            for slot in element:
                value = slot.get("TIME_VALUE")
                name = slot.get("TIME_SLOT_ID", "")
                slots[name] = source.number(value or "", f"time slot {name}", "TIME_VALUE")
        else:
            name = element.get("TIER_ID", "")
            tiers[name] = list(_annotations(element))
            participants[name] = element.get("PARTICIPANT", "")
    times = {identity: place for rows in tiers.values() for identity, _, place in rows}
    chosen = _chosen(source, {name: len(rows) for name, rows in tiers.items() if rows})
    for name in chosen:
        for identity, value, _ in tiers[name]:
            where = f"tier {name}, annotation {identity}"
            span = _span(identity, times, slots)
            if span is None:
                source.notes.drop(where, NO_TIMES, media, value)
                continue
            start, end = (round((time + offset) / 1000, 6) for time in span)
            yield Segment(where, media, value, start, end, subject=participants[name])


def _media(source: Source, header: ElementTree.Element) -> tuple[str, float]:
    """The name of the video, and the milliseconds from its start to that of the annotations."""
    units = header.get("TIME_UNITS", "milliseconds")
    if units != "milliseconds":
        raise source.wrong(f"its TIME_UNITS are {clean(units)!r}; only milliseconds can be read")
    found: list[tuple[str, float]] = []
    for entry in header:
        if entry.tag == "MEDIA_DESCRIPTOR" and not entry.get("MIME_TYPE", "").startswith(_SOUND):
            name = entry.get("MEDIA_URL") or entry.get("RELATIVE_MEDIA_URL") or ""
            origin = source.number(entry.get("TIME_ORIGIN") or "0", "header", "TIME_ORIGIN")
            found.append((name, origin or 0.0))
    if not found:
        name = header.get("MEDIA_FILE") or source.path.stem
        source.notes.say(f"{source.path.name}: names no video; taken for one of {clean(name)}")
        return name, 0.0
    if len(found) > 1:
        others = few([clean(name) for name, _ in found], 4)
        source.notes.say(f"{source.path.name}: of several videos the first is taken: {others}")
    name, origin = found[0]
    if origin:
        source.notes.say(f"{source.path.name}: the offset of its video, {origin:g} ms, is added")
    return name, origin


def _annotations(tier: ElementTree.Element) -> Iterator[tuple[str, str, tuple[str, str] | str]]:
    """Identity, text, and the two time slots or the annotation from which it has its times."""
    for wrapper in tier:
        for annotation in wrapper:
            identity = annotation.get("ANNOTATION_ID", "")
            value = (annotation.findtext("ANNOTATION_VALUE") or "").strip()
            if annotation.tag == "ALIGNABLE_ANNOTATION":
                first = annotation.get("TIME_SLOT_REF1", "")
                yield identity, value, (first, annotation.get("TIME_SLOT_REF2", ""))
            elif annotation.tag == "REF_ANNOTATION":
                yield identity, value, annotation.get("ANNOTATION_REF", "")


def _span(
    identity: str, times: dict[str, tuple[str, str] | str], slots: dict[str, float | None]
) -> tuple[float, float] | None:
    """Milliseconds of an annotation, its parent's where it has none of its own."""
    seen: set[str] = set()
    place: Any = times.get(identity)
    while isinstance(place, str):
        if place in seen:  # in a circle
            return None
        seen.add(place)
        place = times.get(place)
    if place is None:
        return None
    start, end = (slots.get(slot) for slot in place)
    return None if start is None or end is None else (start, end)


def _chosen(source: Source, counts: dict[str, int]) -> list[str]:
    listed = few([f"{name} ({count})" for name, count in counts.items()], 12)
    if source.options.tier:
        chosen = [name for name in source.options.tier if name in counts]
        if not chosen:
            named = few(list(source.options.tier), quoted=True)
            raise source.wrong(f"--tier {named}: no tier of that name has annotations: {listed}")
        return chosen
    if len(counts) > 1:
        raise source.wrong(
            f"has several tiers with annotations: {listed}: choose those that hold the labels with "
            "--tier NAME"
        )
    return list(counts)


def write_eaf(video: VideoSegments, tier: str = "slowfast_dist") -> str:
    """A document with one tier; times to a millisecond, as ELAN keeps them."""
    slots, annotations = [], []
    for number, segment in enumerate(video.segments, start=1):
        first, last = f"ts{2 * number - 1}", f"ts{2 * number}"
        for name, time in ((first, segment.start), (last, segment.end)):
            slots.append(f'<TIME_SLOT TIME_SLOT_ID="{name}" TIME_VALUE="{round(time * 1000)}"/>')
        annotations.append(
            f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" '
            f'TIME_SLOT_REF1="{first}" TIME_SLOT_REF2="{last}">'
            f"<ANNOTATION_VALUE>{escape(segment.label)}</ANNOTATION_VALUE>"
            "</ALIGNABLE_ANNOTATION></ANNOTATION>"
        )
    url = quoteattr(f"file://{video.path}")
    near = quoteattr(f"./{video.name}")
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="slowfast_dist" DATE="1970-01-01T00:00:00+00:00" FORMAT="3.0" \
VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
<MEDIA_DESCRIPTOR MEDIA_URL={url} MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL={near}/>
<PROPERTY NAME="lastUsedAnnotationId">{len(annotations)}</PROPERTY>
</HEADER>
<TIME_ORDER>
{chr(10).join(slots)}
</TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID={quoteattr(tier)}>
{chr(10).join(annotations)}
</TIER>
<LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" \
TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""
