"""Annotations of other tools and datasets as rows of a list, with the videos that they name."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PureWindowsPath

import numpy as np

from slowfast_dist.annotations.formats.boris import UNPAIRED
from slowfast_dist.annotations.formats.elan import NO_TIMES
from slowfast_dist.annotations.formats.registry import Format, find_format
from slowfast_dist.annotations.importing.columns import Columns
from slowfast_dist.annotations.importing.conversion import (
    BACKWARDS,
    ENDLESS,
    NO_FRAME_TIMES,
    NO_SPLIT,
    POINT,
    Facts,
    Table,
    convert,
)
from slowfast_dist.annotations.importing.reading import (
    NO_LABEL,
    Reader,
    Subjects,
    read_rows,
    side_of_name,
)
from slowfast_dist.annotations.importing.rows import ONE_END, Notes, Segment
from slowfast_dist.annotations.importing.source import Source
from slowfast_dist.annotations.importing.videos import VideoFinder
from slowfast_dist.annotations.labels import Remark
from slowfast_dist.annotations.table import SIDES, Row
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.scan import is_video, walk_folders
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.system.text import few
from slowfast_dist.video.images.listing import is_image_folder
from slowfast_dist.video.reader import VideoInfo

_FLAG = re.compile(
    r"--(?:tier|times|frame-base|frame-end|frame-rate|point-seconds|decimal-comma|classes|subject"
    r"|format)\b"
)
"""What only the command ``import`` takes, or takes otherwise than a training."""


_HIDING = (
    BACKWARDS, ENDLESS, NO_FRAME_TIMES, NO_LABEL, NO_SPLIT, NO_TIMES, ONE_END, POINT, UNPAIRED,
)  # fmt: skip
"""Why a row is left out although something is seen in its video, when or what being unknown."""


@dataclass(frozen=True)
class Imported:
    """What came of annotation files: the ``columns`` of all rows whose videos are there, below
    ``root``; the ``table`` of those that are left, N; and ``notes`` of what was not."""

    root: Path
    columns: Columns
    table: Table
    notes: Notes

    def counts(self) -> str:
        """In words."""
        rows = self.table.rows
        videos = len(np.unique(self.columns.codes("video")[rows]))
        labels = len(np.unique(self.columns.codes("label")[rows]))
        return f"{_count(len(rows), 'row')} of {_count(videos, 'video')} and {labels} classes"

    def hidden(self) -> dict[str, int]:
        """How many rows were left out that show something in videos which are used, by why."""
        named = self.columns.videos.texts
        used = {named[code] for code in np.unique(self.columns.codes("video")[self.table.rows])}
        # What a reader left out names its video as the file does, maybe of another machine.
        known, stems = set(named), {_stem(name) for name in used}
        found: Counter[str] = Counter()
        for one in self.notes.entries() if self.notes.dropped() else ():
            video = one["video"]
            is_used = video in used if video in known else _stem(video) in stems
            if one["what"] == "dropped" and is_used:
                found.update(why for why in _HIDING if one["why"].startswith(why))
        return dict(found)


def _stem(video: str) -> str:
    return PureWindowsPath(video).stem


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def import_files(
    sources: Sequence[tuple[Source, Format]], root: Path, subjects: Subjects, notes: Notes,
    point_seconds: float | None = None, frame_rate: float | None = None,
    image_fps: float | None = None, several: bool = False,
) -> Imported:  # fmt: skip
    """The rows of all ``sources``, whose videos lie anywhere below ``root``; ``image_fps``: of
    folders of images that do not tell; ``several``: whether a whole video may be of several
    classes, a row each.

    Looks at each video that is named. Raises UserError for what the readers refuse, and where no
    row is left.
    """
    finder = _list_videos(root)
    readers = [(source, _reader(found)) for source, found in sources]
    columns = read_rows(readers, finder, subjects, notes)
    if any(found.name == "videofolder" for _, found in sources):
        _say_rowless(finder, columns, notes)
    facts = _facts(root, columns, image_fps)
    table = convert(columns, facts, notes, point_seconds, frame_rate, several)
    if not len(table.rows):
        reasons = "; ".join(notes.lines())
        named = few([str(source.path) for source, _ in sources])
        raise UserError(f"{named}: no row is left: {reasons}")
    return Imported(root, columns, table, notes)


def _list_videos(root: Path) -> VideoFinder:
    if not root.is_dir():
        raise UserError(f"--videos {root}: there is no such folder")
    files: list[str] = []
    folders: list[str] = []
    top = os.fspath(root)
    for here, names in walk_folders(top):
        below = os.path.relpath(here, top).replace(os.sep, "/")
        start = "" if below == "." else f"{below}/"
        videos = [start + name for name in names if is_video(os.fsencode(name))]
        if start and not videos and is_image_folder(names):
            folders.append(below)
        files += videos
    return VideoFinder(root, files, folders, lambda name: is_video(os.fsencode(name)))


def _reader(found: Format) -> Reader:
    """The format's reader, with the side of the split that the file's name tells."""
    def read(source: Source) -> Iterator[Segment]:
        side = side_of_name(source.path.stem) if found.side_in_name else ""
        if side:
            source.notes.say(f"{source.path.name}: rows without a split are {side}, as its name "
                             "says")  # fmt: skip
        for segment in found.read(source):
            yield segment if segment.split or not side else segment._replace(split=side)

    return read


def _facts(root: Path, columns: Columns, image_fps: float | None) -> list[Facts | str]:
    """What each video tells, by its code; those that earlier commands looked at are remembered."""
    names = columns.videos.texts[1:]
    table = VideoTable.of_paths([root / name for name in names])
    probed = probe_videos(table, available_cpus(), default_cache(), True, image_fps)
    return ["", *(info if isinstance(info, str) else _facts_of(info) for info in probed)]


def _facts_of(info: VideoInfo) -> Facts:
    return Facts(info.duration() or float("nan"), info.times)


def _say_rowless(finder: VideoFinder, columns: Columns, notes: Notes) -> None:
    rowless = sorted(set(finder.videos).difference(columns.videos.texts))
    if rowless:
        notes.say(f"{len(rowless)} videos have no row and are left out, as {few(rowless)}")


# --- on the way, in place of a list --------------------------------------------------------------


class ImportedRows:
    """The annotation file that --``flag`` names, of another tool or dataset: as a
    `annotations.table.Table`, iterating reads its rows, and `remarks` tells what is to be said once
    that is done. The videos lie below ``root``.

    Raises UserError while it is read.
    """

    follows_links = True  # the videos were found by walking below the root

    names_all = False  # of no row is it known that it names all of its classes

    def __init__(
        self, path: Path, flag: str, root: Path, several: bool | None = False,
        image_fps: float | None = None,
    ) -> None:  # fmt: skip
        """``several``: as of `annotations.table.Table`."""
        self.path, self.flag, self._root = path, flag, root
        self.several, self.has_several, self._image_fps = several, bool(several), image_fps
        self._source = Source(path)
        try:
            self.format = find_format(self._source, None)
        except UserError as error:
            raise self._named(error) from None

    @cached_property
    def imported(self) -> Imported:
        notes = self._source.notes
        try:
            return import_files(
                [(self._source, self.format)], self._root, Subjects(), notes,
                image_fps=self._image_fps, several=self.several is not False,
            )  # fmt: skip
        except UserError as error:
            raise self._named(error) from None

    def __iter__(self) -> Iterator[Row]:
        columns, table = self.imported.columns, self.imported.table
        videos, labels, splits = columns.videos.texts, columns.labels.texts, columns.splits.texts
        groups, subjects = columns.groups.texts, columns.subjects.texts
        names = ("video", "label", "split", "group", "subject")
        codes = np.stack([columns.codes(name)[table.rows] for name in names], axis=1)
        sides = {side: side for side in SIDES}
        for number, (video, label, split, group, subject), start, end in zip(
            table.rows.tolist(), codes.tolist(), table.start.tolist(), table.end.tolist(),
            strict=True,
        ):  # fmt: skip
            where = columns.where(number)
            whole = start != start
            yield Row(
                where if isinstance(where, int) else 0, videos[video], labels[label],
                sides[splits[split]] if table.split else None, groups[group],
                None if whole else start, None if whole else end, subjects[subject],
            )  # fmt: skip

    def remarks(self) -> Iterator[Remark]:
        imported = self.imported
        notes = imported.notes
        what = f"{self.path}: {self.format.title}, imported on the way: {imported.counts()}"
        reasons = [self._in_words(line) for line in notes.lines()]
        if reasons:
            what += f"; left out: {notes.dropped()}, changed: {notes.changed()}"
        yield Remark("info", "imported", what)
        for line in notes.said:
            yield Remark("info", "imported-as", self._in_words(line))
        for line in reasons:
            yield Remark("warning", "rows-left-out", line)

    def wrong(self, what: str, line: int | None = None) -> UserError:
        """The mistake ``what``, in a line of the file, as the user reads it."""
        at = f", line {line}" if line else ""
        return UserError(f"--{self.flag} {self.path}{at}: {what}")

    def _named(self, error: UserError) -> UserError:
        """With the flag that named the file in front."""
        return UserError(f"--{self.flag} {self._in_words(str(error))}")

    def _in_words(self, text: str) -> str:
        """In a command whose flags are not those of ``import``."""
        if self.flag.startswith("data."):
            text = text.replace("--videos", "--data.videos")
        if _FLAG.search(text):
            text += " (a flag of python -m slowfast_dist import, which writes a list to give here)"
        return text
