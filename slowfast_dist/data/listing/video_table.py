"""The videos of a dataset as one table, in columns: a million of them are a few arrays."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from math import isnan, nan
from pathlib import Path
from statistics import median
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slowfast_dist.annotations.segments import NO_BOX, box_cells, sample_name, seconds_text
from slowfast_dist.data.listing.columns import Categorical, InfoColumns, Texts
from slowfast_dist.data.listing.segments import Segments, Spans
from slowfast_dist.metrics.cells import joined
from slowfast_dist.system.messages import sendable
from slowfast_dist.video.container import WORTH_KEEPING
from slowfast_dist.video.pictures import PictureCounts
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.views import Box, Region, region_of


def count_pictures(infos: InfoColumns) -> PictureCounts:
    """Of how many of (N,) videos the pictures are of which kind."""
    columns, names = infos.columns, infos.texts["light"]

    def counted(name: str) -> Iterator[tuple[Any, int]]:
        values, counts = np.unique(columns[name], return_counts=True)
        return zip(values.tolist(), counts.tolist(), strict=True)

    return PictureCounts(
        len(infos),
        {names[code]: count for code, count in counted("light")},
        dict(counted("stated_aspect")),
        int(columns["interlaced"].sum()), int(columns["alpha"].sum()),
    )  # fmt: skip


@dataclass(frozen=True)
class VideoRecord:
    """A video, or a part of one: where it is, its POSIX path below the root, its class's index (as
    `VideoTable.labels`), its group, the seconds from its ``start`` to its ``end``, NaN for all of
    it, and its region of interest."""

    path: Path
    name: str
    label: int
    group: str
    start: float = nan
    end: float = nan
    box: tuple[float, float, float, float] = NO_BOX

    @property
    def sample(self) -> str:
        """What it is called where its path is not enough: path@start-end."""
        return sample_name(self.name, self.start, self.end, self.box)

    def __eq__(self, other: object) -> bool:
        """Also of whole videos: NaN is unlike itself, and in Python 3.13 so were their records."""
        if not isinstance(other, VideoRecord):
            return NotImplemented
        mine, its = (self.start, self.end), (other.start, other.end)
        return self._names == other._names and np.array_equal(mine, its, equal_nan=True)

    def __hash__(self) -> int:
        return hash(self._names)

    @property
    def _names(self) -> tuple[Path, str, int, str]:
        return self.path, self.name, self.label, self.group


@sendable
@dataclass(frozen=True, eq=False)
class VideoTable(Sequence[VideoRecord]):
    """(N,) videos, or parts of some, below one folder; a VideoRecord is made when it is asked for.

    Immutable. Pickled it is a few buffers, about 90 bytes a video, and about one more for each
    frame of those that are shown at uneven times, unless `without_times`. Processes forked from one
    that has it share its memory, and looking at a video in them changes none of it.
    """

    root: Path
    names: Texts
    labels: NDArray[np.int32]
    groups: Categorical | None = None
    """(N,), or None: each video is its own."""
    stamps: NDArray[np.int64] | None = None
    """(N, 2): size and mtime_ns as it was listed, -1 where there is no file; None where nobody
    looked."""
    infos: InfoColumns | None = None
    """(N,): what the probe found, once it has run."""
    segments: Segments | None = None
    """(N,): which parts they are; None where each is a file of its own, and all of it."""
    sets: NDArray[np.bool_] | None = None
    """(D, K), with several labels a clip: the different sets of classes; ``labels`` are places in
    them. None: each video has one class, and ``labels`` are these."""
    weights: NDArray[np.float32] | None = None
    """(N,): in the loss of a training; None where all are 1."""

    @classmethod
    def of_paths(cls, paths: Sequence[Path]) -> "VideoTable":
        """Files of any folders, all with label 0; their names are below the deepest common one."""
        if len({path.is_absolute() for path in paths}) > 1:
            paths = [path.absolute() for path in paths]
        root = Path(os.path.commonpath([path.parent for path in paths])) if len(paths) else Path()
        names = [path.relative_to(root).as_posix() for path in paths]
        return cls(root, Texts.of(names), np.zeros(len(names), np.int32))

    def __len__(self) -> int:
        return len(self.names)

    def targets(self, rows: ArrayLike) -> NDArray[Any]:
        """What a loss takes of ``rows`` (R,), or of one (): classes int64 (R,), or, of several
        labels a clip, whether it has each, bool (R, K)."""
        labels = self.labels[np.asarray(rows, np.int64)]
        return labels.astype(np.int64) if self.sets is None else self.sets[labels]

    def class_counts(self, classes: int) -> NDArray[np.int64]:
        """How many videos each class has, (K,)."""
        if self.sets is None:
            return np.bincount(self.labels, minlength=classes)
        return np.bincount(self.labels, minlength=len(self.sets)) @ self.sets.astype(np.int64)

    def strata(self) -> NDArray[np.int32]:
        """(N,): what a split balances: the classes; of several labels a clip the rarest one, and K
        for none."""
        if self.sets is None:
            return self.labels
        counts = self.class_counts(self.sets.shape[1])
        most = len(self) + 1
        found = np.where(self.sets, counts, most)
        rarest = np.where(self.sets.any(axis=1), found.argmin(axis=1), self.sets.shape[1])
        return rarest.astype(np.int32)[self.labels]

    def label_cells(self, classes: Sequence[str]) -> list[str]:
        """The label of each video in words, (N,); several as waving|walking, "" for none."""
        if self.sets is None:
            return [classes[label] for label in self.labels]
        cells = [joined(flags, classes) for flags in self.sets.tolist()]
        return [cells[label] for label in self.labels]

    @overload
    def __getitem__(self, index: int) -> VideoRecord: ...
    @overload
    def __getitem__(self, index: slice) -> "VideoTable": ...
    def __getitem__(self, index: int | slice) -> "VideoRecord | VideoTable":
        rows = range(len(self))[index]
        if isinstance(rows, range):
            return self.select(rows)
        return self._record(rows, self.names[rows])

    def __iter__(self) -> Iterator[VideoRecord]:
        for row, name in enumerate(self.names):
            yield self._record(row, name)

    def _record(self, row: int, name: str) -> VideoRecord:
        group = name if self.groups is None else self.groups[row]
        bounds = (nan, nan) if self.segments is None else self.segments.seconds(row)
        box = NO_BOX if self.segments is None else self.segments.box(row)
        return VideoRecord(self._path(name), name, int(self.labels[row]), group, *bounds, box)

    def _path(self, name: str) -> Path:
        return Path(os.path.join(self.root, name))

    def path(self, row: int) -> Path:
        return self._path(self.names[row])

    def sample(self, row: int) -> str:
        """What a row is called: the path below the root, and which part of it that is."""
        name, parts = self.names[row], self.segments
        return name if parts is None else sample_name(name, *parts.seconds(row), parts.box(row))

    def samples(self) -> Iterator[str]:
        """What each row is called, in order."""
        if self.segments is None:
            return iter(self.names)
        bounds, boxes = self.segments.bounds.tolist(), self._boxes()
        return (
            sample_name(name, start, end, box)
            for name, (start, end), box in zip(self.names, bounds, boxes, strict=False)
        )

    def _boxes(self) -> Iterable[Sequence[float]]:
        """Of each part, and then on without end where none has any."""
        told = None if self.segments is None else self.segments.boxes
        return repeat(NO_BOX) if told is None else told.tolist()

    def extra(self) -> list[tuple[str, ...]] | None:
        """Start, end and subject of each row as a list has them, "" where there is none, and behind
        them x, y, w and h where any row has a region of interest; None where each row is all of a
        file of its own."""
        if self.segments is None:
            return None
        told = self.segments.subjects
        subjects = iter(told) if told is not None else repeat("")
        bounds, has_boxes = self.segments.bounds.tolist(), self.segments.boxes is not None
        return [
            (seconds_text(start), seconds_text(end), subject, *(box_cells(box) * has_boxes))
            for (start, end), subject, box in zip(bounds, subjects, self._boxes(), strict=False)
        ]

    def weight_texts(self) -> list[str] | None:
        """The weight of each row as a list has it, "" for 1; None where all are 1."""
        if self.weights is None:
            return None
        return [
            "" if weight == 1 else np.format_float_positional(weight, trim="-")
            for weight in self.weights
        ]

    def span(self, row: int) -> tuple[int, int] | None:
        """The first frame of a part and the one behind its last; None for all of a video."""
        if self.segments is None or np.isnan(self.segments.bounds[row, 0]):
            return None
        assert self.segments.spans is not None
        first, end = self.segments.spans[row].tolist()
        return first, end

    def region(self, row: int, crop_box: Box | None) -> Region | None:
        """What of a video's displayed frame is looked at: its own region of interest, else
        ``crop_box``; None for all of it. Raises ValueError where it holds no pixel."""
        own = NO_BOX if self.segments is None else self.segments.box(row)
        box = crop_box if isnan(own[0]) else own
        if box is None:
            return None
        info = self.info(row)
        return region_of(box, info.height, info.width, info.pixel_aspect)[0]

    def place_in_files(self, row: int) -> tuple[int, int]:
        """By which rows sort that are read one after the other: by file, and by time in each; the
        same for all where each is a file of its own."""
        if self.segments is None:
            return 0, 0
        spans = self.segments.spans
        return int(self.segments.files[row]), 0 if spans is None else int(spans[row, 0])

    def info(self, row: int) -> VideoInfo:
        """What the probe found of a video, which it must have looked at."""
        assert self.infos is not None
        return self.infos[row]

    def rates(self) -> NDArray[np.float64]:
        """Frames a second of each video, on average over it, (N,); 0 where it does not tell."""
        assert self.infos is not None
        told, uneven = (self.infos.columns[name] for name in ("fps", "uneven_rate"))
        return np.where(uneven > 0, uneven, told)

    def median_seconds(self) -> float | None:
        """How long a video, or a part of one, is, by the files that say how fast they play; of
        many, by a thousand: more change it little, and a million take long."""
        seconds = []
        for row in range(0, len(self), max(1, len(self) // 1000)):
            info, span = self.info(row), self.span(row)
            first, end = (0, info.frames) if span is None else span
            seconds += [(end - first) / info.fps] * (info.fps > 0)
        return round(median(seconds), 3) if seconds else None

    def kinds(self) -> "Counter[tuple[str, bool]]":
        """How many files there are of each codec in which Decord is right (True), or is not."""
        infos = self.per_file().infos
        assert infos is not None
        columns, codecs = infos.columns, infos.texts["codec"]
        pairs = np.stack([columns["codec"], columns["decord_exact"]])
        found, counts = np.unique(pairs, axis=1, return_counts=True)
        kinds = zip(*found.tolist(), counts.tolist(), strict=True)
        return Counter({(codecs[codec], bool(exact)): count for codec, exact, count in kinds})

    def pictures(self) -> PictureCounts:
        """Of how many files the pictures are of which kind."""
        infos = self.per_file().infos
        assert infos is not None
        return count_pictures(infos)

    def file_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """One row of each of F files (F,), the first; and of each row the place of its file's
        (N,)."""
        if self.segments is None:
            rows = np.arange(len(self))
            return rows, rows
        _, first, places = np.unique(
            self.segments.files, return_index=True, return_inverse=True
        )
        # In the order of the rows, as a list of whole videos would be.
        order = np.argsort(first)
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order))
        return first[order], ranks[places]

    def per_file(self) -> "VideoTable":
        """Each file once, as all of it; itself where that is so."""
        if self.segments is None:
            return self
        return replace(self.select(self.file_rows()[0]), segments=None)

    def counted(self, what: str = "") -> str:
        """How many there are, in words, as 300 training segments of 2 files; ``what`` they are, as
        training."""
        what = f"{what} " * bool(what)
        if self.segments is None or not (
            self.segments.any_part or self.segments.boxes is not None
        ):
            return f"{len(self)} {what}videos"
        files = len(np.unique(self.segments.files))
        if not self.segments.any_part:
            return f"{len(self)} {what}regions of {files} file{'s' * (files != 1)}"
        return f"{len(self)} {what}segments of {files} file{'s' * (files != 1)}"

    def group_names(self) -> Iterator[str]:
        """The group of each video, in order."""
        return iter(self.names if self.groups is None else self.groups)

    def select(self, rows: ArrayLike | range) -> "VideoTable":
        """The videos of ``rows``, in their order, in columns of their own."""
        chosen = np.asarray(rows, np.int64)
        return VideoTable(
            self.root,
            self.names.take(chosen),
            self.labels[chosen],
            None if self.groups is None else self.groups.take(chosen),
            None if self.stamps is None else self.stamps[chosen],
            None if self.infos is None else self.infos.take(chosen),
            None if self.segments is None else self.segments.take(chosen),
            self.sets,
            None if self.weights is None else self.weights[chosen],
        )

    def probed(self, infos: InfoColumns) -> "VideoTable":
        """The same videos with what the probe found; the stamps, by which it asked, are let go."""
        assert len(infos) == len(self)
        return replace(self, infos=infos, stamps=None)

    def located(self, spans: Spans) -> "VideoTable":
        """The same parts with the frames that lie in them."""
        assert self.segments is not None and len(spans) == len(self)
        return replace(self, segments=self.segments.located(spans))

    def without_times(self) -> "VideoTable":
        """The same videos, for clips that count frames: when each is shown is let go, how many
        there are a second on average is not. Long files keep it where it tells how to seek in them.
        """
        assert self.infos is not None
        columns = self.infos.columns
        sought = columns["seekable"] & (columns["frames"] >= WORTH_KEEPING)
        return replace(self, infos=self.infos.without("uneven_times", sought))
