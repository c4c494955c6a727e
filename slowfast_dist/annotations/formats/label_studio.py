"""Label Studio: JSON and JSON-MIN exports, timeline segments and classes of whole videos.

A timeline's ranges count frames of the Video tag's own frameRate, which the export does not tell
and which need not be the file's; the tool's own default is 24. The first frame is 1 and a range's
end belongs to it, as Label Studio's own example of a backend has it (timeline_labels of
label-studio-ml-backend); its documentation says neither.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from slowfast_dist.annotations.formats.writing import VideoSegments, as_json
from slowfast_dist.annotations.importing.rows import ONE_END, Segment
from slowfast_dist.annotations.importing.source import Source, finite
from slowfast_dist.system.text import clean, few

DEFAULT_RATE = 24.0
"""Frames a second of the tag <Video> where its frameRate is not given (Label Studio 1.20)."""

_RATES = ("fps", "framerate", "frame_rate", "frameRate")
"""Names of a task's data that say in which rate its frames count."""

_VIDEO_KEYS = ("video", "video_url", "video_path", "url", "path", "file_upload")

_TIMED = ("timelinelabels", "labels")
_CHOSEN = ("choices", "taxonomy", "rating")


def is_export(source: Source) -> bool:
    if not source.is_json:
        return False
    tasks = _tasks(source)
    if not tasks or not isinstance(tasks[0], dict):
        return False
    task = tasks[0]
    kinds = {"annotations", "completions", "predictions"}
    if isinstance(task.get("data"), dict) and kinds & task.keys():
        return True
    return {"annotation_id", "annotator"} <= task.keys() or any(
        _is_list_of_objects(value) and "ranges" in value[0]
        for value in task.values()
    )


def _tasks(source: Source) -> list[Any]:
    document = source.document
    return document if isinstance(document, list) else [document]


def read_export(source: Source) -> Iterator[Segment]:
    _ask_for_control(source)
    several = 0
    for number, task in enumerate(_tasks(source), start=1):
        where = f"task {task.get('id', number)}"
        if isinstance(task.get("data"), dict):
            annotations = task.get("annotations") or task.get("completions")
            taken = source.objects(annotations, "annotations", where)
            cancelled = [one for one in taken if one.get("was_cancelled")]
            for _ in cancelled:
                source.notes.drop(where, "its annotation was skipped (was_cancelled)")
            taken = [one for one in taken if not one.get("was_cancelled")]
            several += len(taken) > 1
            if not {"annotations", "completions"} & task.keys():  # a file to import, no export
                taken = source.objects(task.get("predictions"), "predictions", where)
                source.notes.say(f"{source.path.name}: predictions are taken, as it has no "
                                 "annotations")  # fmt: skip
            elif task.get("predictions"):
                source.notes.say(f"{source.path.name}: predictions of models are not taken")
            for annotation in taken:
                results = source.objects(annotation.get("result"), "result", where)
                yield from _results(source, where, task, task["data"], results)
        else:
            yield from _minimal(source, where, task)
    if several:
        source.notes.say(
            f"{source.path.name}: {several} tasks have several annotations: all of them are taken, "
            "and what is there twice once"
        )


def _ask_for_control(source: Source) -> None:
    """Raise UserError where labels come from several controls and --tier chooses none."""
    counts: Counter[str] = Counter()
    for number, task in enumerate(source.objects(_tasks(source), "it", "tasks"), start=1):
        where = f"task {task.get('id', number)}"
        if not isinstance(task.get("data"), dict):
            counts.update(name for name, value in task.items() if _is_list_of_objects(value))
            continue
        for kind in ("annotations", "completions"):
            for annotation in source.objects(task.get(kind), kind, where):
                for result in source.objects(annotation.get("result"), "result", where):
                    if str(result.get("type")) in (*_TIMED, *_CHOSEN):
                        counts[str(result.get("from_name"))] += 1
    if len(counts) > 1 and not source.options.tier:
        listed = few([f"{name} ({count})" for name, count in counts.most_common()], 8)
        raise source.wrong(f"labels come from several controls: {listed}: choose with --tier NAME")


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _video(task: dict[str, Any], data: dict[str, Any]) -> str:
    """The value of a task's data that names the video."""
    for key in _VIDEO_KEYS:
        if isinstance(data.get(key), str):
            return str(data[key])
    texts = [value for value in data.values() if isinstance(value, str)]
    paths = [text for text in texts if "/" in text or "." in text[-6:]]
    return next(iter(paths), str(task.get("file_upload") or ""))


def _rate(source: Source, data: dict[str, Any], results: list[dict[str, Any]]) -> float:
    """Frames a second in which the ranges of a task count."""
    if source.options.frame_rate is not None:
        return source.options.frame_rate
    for key in _RATES:
        if (rate := finite(data.get(key))) and rate > 0:
            return rate
    for result in results:  # regions with boxes tell it
        value = result.get("value")
        if isinstance(value, dict):
            count, seconds = finite(value.get("framesCount")), finite(value.get("duration"))
            if count and seconds and count > 0 and seconds > 0:
                return count / seconds
    source.notes.say(
        f"{source.path.name}: frames are counted at {DEFAULT_RATE:g} a second, the default of "
        "Label Studio's <Video>: if your labelling setup gives another frameRate, give --frame-rate"
    )
    return DEFAULT_RATE


def _is_chosen(source: Source, name: Any) -> bool:
    return not source.options.tier or str(name) in source.options.tier


def _results(
    source: Source, where: str, task: dict[str, Any], data: dict[str, Any],
    results: list[dict[str, Any]],
) -> Iterator[Segment]:
    video = _video(task, data)
    for result in results:
        kind, value = str(result.get("type")), result.get("value")
        if not isinstance(value, dict):
            continue
        if not _is_chosen(source, result.get("from_name")):
            source.notes.drop(where, "its from_name is none of --tier", video, "",
                              str(result.get("from_name")))  # fmt: skip
        elif kind in _TIMED and ("ranges" in value or "start" in value):
            yield from _timed(source, where, video, value, data, results)
        elif kind in _CHOSEN and not result.get("parentID"):
            chosen = value.get(kind) if kind != "rating" else [value.get(kind)]
            labels = [part[-1] if isinstance(part, list) and part else part
                      for part in source.listed(chosen, kind, where)]  # fmt: skip
            if len(labels) > 1:
                source.notes.say(f"{source.path.name}: videos with several classes become as many "
                                 "rows")  # fmt: skip
            for label in labels:
                yield Segment(where, video, str(label))
        elif kind != "relation":
            source.notes.drop(where, f"regions of type {clean(kind)} are neither segments nor "
                              "classes of videos", video)  # fmt: skip


def _timed(
    source: Source, where: str, video: str, value: dict[str, Any], data: dict[str, Any],
    results: list[Any],
) -> Iterator[Segment]:  # fmt: skip
    labels = value.get("timelinelabels") or value.get("labels") or []
    labels = [str(label) for label in labels] if isinstance(labels, list) else [str(labels)]
    if not labels:
        source.notes.drop(where, "it has no label", video)
        return
    ranges = value.get("ranges")
    if ranges is None:  # of an Audio tag beside the video, in seconds
        spans = [(finite(value.get("start")), finite(value.get("end")))]
    else:
        rate = _rate(source, data, results)
        spans = []
        for span in source.objects(ranges, "ranges", where):
            first, last = finite(span.get("start")), finite(span.get("end"))
            if first is None or last is None:
                spans.append((None, None))
                continue
            begin, behind = source.options.span(first, last, base=1, inclusive=True)
            spans.append((begin / rate, behind / rate))
        if source.options.frame_base is None and source.options.frame_end is None:
            source.notes.say(
                f"{source.path.name}: its ranges are taken as from frame 1, their ends included: "
                "--frame-base and --frame-end take them otherwise"
            )
    for start, end in spans:
        if start is None or end is None:
            source.notes.drop(where, ONE_END, video, labels[0])
            continue
        for label in labels:
            yield Segment(where, video, label, start, end)


def _minimal(source: Source, where: str, task: dict[str, Any]) -> Iterator[Segment]:
    """A task of JSON-MIN: results beside the data, without their types."""
    video = _video(task, task)
    names = [key for key, value in task.items() if _is_list_of_objects(value)]
    for name in names if not source.options.tier else source.options.tier:
        found = task.get(name)
        for value in found if isinstance(found, list) else ():
            if isinstance(value, dict) and ("ranges" in value or "start" in value):
                yield from _timed(source, where, video, value, task, [])
    if names and not source.options.tier:
        source.notes.say(f"{source.path.name}: labels are those of the timelines; a class of whole "
                         "videos beside them: --tier NAME")  # fmt: skip
    else:
        known = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time",
                 *_VIDEO_KEYS, *_RATES}  # fmt: skip
        left = [key for key, value in task.items()
                if isinstance(value, (str, dict)) and key not in known
                and not key.startswith("_") and value != video]  # fmt: skip
        tier = source.options.tier
        chosen = [key for key in left if key in tier or not tier]
        if not chosen and not names:
            source.notes.drop(where, "it has no label", video)
        if len(chosen) > 1 and not tier:
            raise source.wrong(f"has several fields that may be the class: {few(chosen, 8)}: "
                               "choose one with --tier", where)  # fmt: skip
        for key in chosen:
            value = task[key]
            several = value.get("choices") if isinstance(value, dict) else [value]
            for label in source.listed(several, "choices", where):
                yield Segment(where, video, str(label))


def write_tasks(video: VideoSegments, version: str = "slowfast_dist") -> str:
    """Tasks to import, the segments as predictions, for <Video name="video" value="$video"
    frameRate="$fps"/> and <TimelineLabels name="timelineLabels" toName="video">."""
    rate = video.fps or DEFAULT_RATE
    results = []
    for number, segment in enumerate(video.segments, start=1):
        first, last = round(segment.start * rate) + 1, round(segment.end * rate)
        results.append({
            "id": f"segment{number}", "from_name": "timelineLabels", "to_name": "video",
            "type": "timelinelabels", "score": round(segment.confidence, 4),
            "value": {"ranges": [{"start": first, "end": max(first, last)}],
                      "timelinelabels": [segment.label]},
        })  # fmt: skip
    scores = [segment.confidence for segment in video.segments]
    mean = sum(scores) / len(scores) if scores else 0.0
    url = f"/data/local-files/?d={quote(video.path.lstrip('/'))}"
    prediction = {"model_version": version, "score": round(mean, 4), "result": results}
    return as_json([{"data": {"video": url, "fps": rate}, "predictions": [prediction]}])
