"""Read annotation files: each row with its video, its class, its subject, its side of the split."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from slowfast_dist.annotations.importing.columns import Columns
from slowfast_dist.annotations.importing.rows import Notes, Segment
from slowfast_dist.annotations.importing.source import Source
from slowfast_dist.annotations.importing.videos import Missing, VideoFinder
from slowfast_dist.annotations.table import SPELLINGS
from slowfast_dist.config.errors import UserError
from slowfast_dist.system.text import clean, few

Reader = Callable[[Source], Iterator[Segment]]

NO_LABEL = "it has no label"
OTHER_SUBJECT = "its subject is none of --subject"


@dataclass(frozen=True)
class Subjects:
    """Which ``names`` are taken, all where there are none; and what becomes of them."""

    names: tuple[str, ...] = ()
    use: Literal["column", "label"] = "column"


def read_rows(
    sources: Iterable[tuple[Source, Reader]], finder: VideoFinder, subjects: Subjects, notes: Notes
) -> Columns:
    """All rows whose videos are there. Raises UserError where no video is."""
    columns = Columns()
    missing: dict[str, str] = {}  # by the name, where it was met first
    count = 0
    names = _Names()
    for source, reader in sources:
        file = notes.file = str(source.path)
        before = count
        for segment in reader(source):
            count += 1
            label = segment.label.strip()
            if not label:
                notes.drop(segment.where, NO_LABEL, segment.video)
                continue
            label = names.of(label, source.options.classes)
            subject = segment.subject
            if subjects.names and subject not in subjects.names:
                notes.drop(segment.where, OTHER_SUBJECT, segment.video, label, subject)
                continue
            if subject and subjects.use == "label":
                label, segment = f"{subject} {label}", segment._replace(subject="")
            columns.seen_labels.add(label)
            if segment.clip and isinstance(clip := finder.find(segment.clip), str):
                segment = segment._replace(start=None, end=None, frames=False)
                video: str | Missing = clip
            else:
                video = finder.find(segment.video)
            if isinstance(video, Missing):
                missing.setdefault(segment.video, f"{file}, {_place(segment)}")
                notes.drop(segment.where, video.reason, segment.video, label, video.detail)
                continue
            if segment.split not in ("", "train", "val", "test"):
                segment = _with_known_split(segment, notes, label)
            columns.add(segment, file, video, label)
        if count == before:
            notes.say(f"{source.path}: no row with a label is in it")
    names.check(notes)
    if not len(columns):
        raise _nothing(finder, missing, count, notes)
    if missing:
        shown = few([clean(name)[:80] for name in missing], 3)
        notes.say(f"videos that are missing, with all their rows: {len(missing)}: {shown}")
    for how, found in finder.how.most_common():
        notes.say(f"videos found {how}: {found}")
    return columns


class _Names:
    """The names that --classes gives to numbers and codes, and which it does not give."""

    def __init__(self) -> None:
        self._classes: Mapping[str, str] = {}
        self._without: dict[str, None] = {}
        self._found = False

    def of(self, label: str, classes: Mapping[str, str]) -> str:
        name = classes.get(label)
        if name is None:
            if classes:
                self._classes = classes
                self._without[label] = None
            return label
        self._found = True
        return name

    def check(self, notes: Notes) -> None:
        """Say which have none. Raises UserError where that is so of all."""
        names = set(self._classes.values())
        if without := [clean(label)[:40] for label in self._without if label not in names]:
            if not self._found:
                raise UserError(
                    f"--classes: names none of the classes in the files, as {few(without, 3)}; it "
                    f"has names for {few([*self._classes], 3)}: give the right file, or none"
                )
            notes.say(f"classes that --classes has no name for, and that stay as they are: "
                      f"{len(without)}: {few(without, 6)}")  # fmt: skip


def _place(segment: Segment) -> str:
    where = segment.where
    return f"line {where}" if isinstance(where, int) else where


def _with_known_split(segment: Segment, notes: Notes, label: str) -> Segment:
    word = segment.split.strip().casefold()
    side = SPELLINGS.get(word)
    if side is None:
        why = f"its split {clean(word)[:40]!r} is neither train, val nor test, and is left out"
        notes.change(segment.where, why, segment.video, label)
    return segment._replace(split=side or "")


def _nothing(
    finder: VideoFinder, missing: dict[str, str], count: int, notes: Notes
) -> UserError:
    if not missing:
        reasons = few(list(notes.lines()), 3, "; ")
        return UserError(f"{notes.file}: nothing to import{f': {reasons}' if reasons else ''}")
    name, where = next(iter(missing.items()))
    held = finder.videos
    there = f"which holds {len(held)} videos, as {few(held, 1)}" if held else "which holds none"
    return UserError(
        f"{where}: video {clean(name)[:120]!r} is not below --videos {finder.root}, {there}, and "
        f"nor is any other of the {len(missing)} named: give --videos the folder of the videos"
    )


def side_of_name(name: str) -> str:
    """train, val or test where a file's name has one such word, else nothing."""
    words = re.findall(r"[a-z]+", name.casefold())
    found = {side for word in words if (side := SPELLINGS.get(word.removesuffix("list")))}
    return found.pop() if len(found) == 1 else ""
