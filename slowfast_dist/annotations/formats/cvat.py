"""CVAT: "CVAT for video 1.1" (tracks) and "CVAT for images 1.1" (tags of frames), from the XML.

Frames count from 0 in the video itself, whatever the task's step. In a track, outside="1" at a
frame says that the object is gone from it on; a shape of one frame is a track of two boxes.
"""

from collections import defaultdict
from collections.abc import Iterator
from xml.etree import ElementTree

from slowfast_dist.annotations.importing.rows import Segment
from slowfast_dist.annotations.importing.source import Source
from slowfast_dist.system.text import clean

_SHAPES = frozenset({
    "box", "polygon", "polyline", "points", "ellipse", "cuboid", "skeleton", "mask",
})  # fmt: skip

NO_TAG = "it has shapes and no tag of the whole frame"


def is_xml(source: Source) -> bool:
    return source.first == "<" and source.root_tag == "annotations"


def read_xml(source: Source) -> Iterator[Segment]:
    tasks = _Tasks(source)
    tags: dict[tuple[str, str, int], set[int]] = defaultdict(set)
    for element in source.elements("meta", "track", "image"):
        if element.tag == "meta":
            tasks.read(element)
        elif element.tag == "track":
            yield from _track(source, tasks, element)
        else:
            _image(source, tasks, element, tags)
    for (video, label, step), frames in tags.items():
        for first, last in _runs(sorted(frames), step):
            where = f"frames {first} to {last}"
            yield Segment(where, video, label, first, last + step, frames=True)


class _Tasks:
    """The video and the step between two annotated frames of each task in a file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._tasks: dict[str, tuple[str, int]] = {}

    def read(self, meta: ElementTree.Element) -> None:
        for tag in ("task", "job"):
            for task in meta.iter(tag):
                name = task.findtext("source") or task.findtext("name") or ""
                if not name:  # an export of a job names nothing
                    name = self._source.path.stem
                    self._source.notes.say(f"{self._source.path.name}: names no video (a job's "
                                           f"export); taken for one of {clean(name)}")  # fmt: skip
                step = (task.findtext("frame_filter") or "").partition("step=")[2]
                self._tasks[task.findtext("id") or ""] = (name, int(step) if step.isdigit() else 1)
        source = meta.findtext("source")
        if source and len(self._tasks) == 1:  # beside the task, in files of old versions
            [(key, (_, frames))] = self._tasks.items()
            self._tasks[key] = (source, frames)

    def of(self, element: ElementTree.Element) -> tuple[str, int]:
        task = self._tasks.get(element.get("task_id", ""))
        if task is None and len(self._tasks) == 1:
            return next(iter(self._tasks.values()))
        if task is None:
            raise self._source.wrong("does not tell of which task its tracks are: export the tasks "
                                     "one by one")  # fmt: skip
        return task


def _attributes(element: ElementTree.Element) -> dict[str, str]:
    return {child.get("name", ""): (child.text or "").strip()
            for child in element if child.tag == "attribute"}  # fmt: skip


def _label(source: Source, element: ElementTree.Element, values: dict[str, str]) -> str:
    """The label, or with --tier the value of an attribute."""
    named = [values[name] for name in source.options.tier if values.get(name)]
    return " ".join(named) if source.options.tier else element.get("label", "")


def _track(source: Source, tasks: _Tasks, track: ElementTree.Element) -> Iterator[Segment]:
    """Where the object is there, parted where its label (an attribute) becomes another."""
    video, step = tasks.of(track)
    where = f"track {track.get('id', '?')}"
    fixed = _attributes(track)
    current: tuple[str, int] | None = None
    last = 0
    for shape in track:
        if shape.tag not in _SHAPES:
            continue
        frame = _frame(source, shape, where)
        gone = shape.get("outside") == "1"
        label = "" if gone else _label(source, track, fixed | _attributes(shape))
        if current is not None and (gone or label != current[0]):
            yield Segment(where, video, current[0], current[1], frame, frames=True)
            current = None
        if not gone and current is None:
            current = (label, frame)
        last = frame
    if current is not None:  # to the end: the last box is of the last frame
        yield Segment(where, video, current[0], current[1], last + step, frames=True)


def _image(
    source: Source, tasks: _Tasks, image: ElementTree.Element,
    tags: dict[tuple[str, str, int], set[int]],
) -> None:  # fmt: skip
    name = image.get("name", "")
    where = f"image {clean(name)[:80]}"
    found = [child for child in image if child.tag == "tag"]
    if not found:
        if any(child.tag in _SHAPES for child in image):
            source.notes.drop(where, NO_TAG)
        return
    video, step = tasks.of(image)
    folder, _, stem = name.rpartition("/")
    digits = stem.rpartition("_")[2].partition(".")[0]
    if not stem.startswith("frame_") or not digits.isdigit():
        source.notes.drop(where, "it is a picture and no frame of a video", folder)
        return
    for tag in found:
        label = _label(source, tag, _attributes(tag))
        tags[video, label, step].add(int(digits))


def _frame(source: Source, shape: ElementTree.Element, where: str) -> int:
    text = shape.get("frame", "")
    if not text.isdigit():
        raise source.wrong(f"frame {clean(text)[:40]!r} is no number", where)
    return int(text)


def _runs(frames: list[int], step: int) -> Iterator[tuple[int, int]]:
    """First and last of the frames that follow each other by the step."""
    first = last = frames[0]
    for frame in frames[1:]:
        if frame > last + step:
            yield first, last
            first = frame
        last = frame
    yield first, last
