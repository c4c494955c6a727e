"""JSON of public datasets and of FiftyOne: ActivityNet, Something-Something v2, FiftyOne."""

import re
from collections.abc import Iterator
from typing import Any

from slowfast_dist.annotations.importing.rows import Segment
from slowfast_dist.annotations.importing.source import Source, finite
from slowfast_dist.config.errors import UserError
from slowfast_dist.system.text import few


def is_activitynet(source: Source) -> bool:
    if not source.is_json or not isinstance(source.document, dict):
        return False
    return isinstance(source.document.get("database"), dict)


def read_activitynet(source: Source) -> Iterator[Segment]:
    """database -> id -> annotations of label and segment [s, e], subset. Videos are called ID or
    v_ID."""
    for video, entry in source.document["database"].items():
        where = f"video {video}"
        if not isinstance(entry, dict):
            raise source.wrong("is no object with annotations", where)
        annotations = source.objects(entry.get("annotations"), "annotations", where)
        if not annotations:
            source.notes.drop(where, "it has no annotations (as those of the test set)", video)
        for annotation in annotations:
            span = annotation.get("segment")
            times = [finite(time) for time in span] if isinstance(span, list) else []
            if len(times) != 2 or None in times:
                raise source.wrong("an annotation has no segment [start, end] in seconds", where)
            yield Segment(where, video, str(annotation.get("label") or ""), times[0], times[1],
                          split=str(entry.get("subset") or ""))  # fmt: skip


def is_ssv2(source: Source) -> bool:
    if not source.is_json or not isinstance(source.document, list) or not source.document:
        return False
    entry = source.document[0]
    return isinstance(entry, dict) and "id" in entry and entry.keys() <= {
        "id", "label", "template", "placeholders", "answer",
    }  # fmt: skip


def read_ssv2(source: Source) -> Iterator[Segment]:
    """The template is the label, without the brackets, as labels.json spells it."""
    for number, entry in enumerate(source.document, start=1):
        if not isinstance(entry, dict):
            raise source.wrong("is no object with an id", f"entry {number}")
        where = f"id {entry.get('id')}"
        template = str(entry.get("template") or "")
        yield Segment(where, str(entry.get("id") or ""), re.sub(r"[\[\]]", "", template))


# --- FiftyOne -----------------------------------------------------------------------------------


def is_fiftyone(source: Source) -> bool:
    if not source.is_json or not isinstance(source.document, dict):
        return False
    document = source.document
    if isinstance(document.get("samples"), list):
        return True
    return isinstance(document.get("labels"), dict) and "classes" in document


def read_fiftyone(source: Source) -> Iterator[Segment]:
    """FiftyOneTemporalDetectionDataset's labels.json, or the samples.json of FiftyOneDataset.

    ``support`` counts the file's frames from 1, its end included.
    """
    document = source.document
    if isinstance(document.get("samples"), list):
        yield from _samples(source, document["samples"])
        return
    classes = document.get("classes")
    classes = classes if isinstance(classes, list) else []
    for video, detections in document["labels"].items():
        where = f"video {video}"
        if not detections:
            source.notes.drop(where, "it has no detections", video)
        for detection in source.objects(detections, "labels", where):
            yield _detection(source, video, where, detection, classes)


def _samples(source: Source, samples: list[Any]) -> Iterator[Segment]:
    for number, sample in enumerate(samples, start=1):
        where = f"sample {number}"
        if not isinstance(sample, dict):
            raise source.wrong("is no object with a filepath", where)
        video = str(sample.get("filepath") or "")
        fields = {
            name: value for name, value in sample.items() if isinstance(value, dict)
            and value.get("_cls") in ("TemporalDetections", "TemporalDetection", "Classification")
        }  # fmt: skip
        tier = source.options.tier
        chosen = [name for name in fields if not tier or name in tier]
        if len(chosen) > 1 and not tier:
            raise source.wrong(f"has several fields with labels: {few(chosen, 8)}: choose with "
                               "--tier NAME", where)  # fmt: skip
        if not chosen:
            source.notes.drop(where, "it has no detections", video)
        for name in chosen:
            value = fields[name]
            if value["_cls"] == "Classification":
                yield Segment(where, video, str(value.get("label") or ""))
                continue
            several = value["_cls"] == "TemporalDetections"
            found = value.get("detections") if several else [value]
            for detection in source.objects(found, "detections", where):
                yield _detection(source, video, where, detection, [])


def _detection(
    source: Source, video: str, where: str, detection: dict[str, Any], classes: list[Any]
) -> Segment:
    label = detection.get("label")
    if isinstance(label, int) and 0 <= label < len(classes):
        label = classes[label]
    label = "" if label is None else str(label)
    seconds = _pair(source, where, detection.get("timestamps"))
    if seconds is not None:
        source.notes.say(
            f"{source.path.name}: timestamps are taken as they are: those that FiftyOne makes of "
            "frames (use_timestamps) end up to a frame early, so export frames where you can"
        )
        return Segment(where, video, label, *seconds)
    frames = _pair(source, where, detection.get("support"))
    if frames is None:
        return Segment(where, video, label)
    start, end = source.options.span(*frames, base=1, inclusive=True)
    return Segment(where, video, label, start, end, frames=True)


def _pair(source: Source, where: str, value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    times = [finite(time) for time in value] if isinstance(value, list) else []
    if len(times) != 2 or times[0] is None or times[1] is None:
        raise _no_pair(source, where)
    return times[0], times[1]


def _no_pair(source: Source, where: str) -> UserError:
    return source.wrong("a detection has no support or timestamps of two numbers", where)
