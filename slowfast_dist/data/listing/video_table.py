"""The videos of a dataset as one table, in columns: a million of them are a few arrays."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slowfast_dist.data.listing.columns import Categorical, InfoColumns, Texts
from slowfast_dist.system.messages import sendable
from slowfast_dist.video.pictures import PictureCounts
from slowfast_dist.video.reader import VideoInfo


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
    """A video: where it is, its POSIX path below the root, its class's index, and its group."""

    path: Path
    name: str
    label: int
    group: str


@sendable
@dataclass(frozen=True, eq=False)
class VideoTable(Sequence[VideoRecord]):
    """(N,) videos below one folder; a VideoRecord is made when it is asked for.

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
        return VideoRecord(self._path(name), name, int(self.labels[row]), group)

    def _path(self, name: str) -> Path:
        return Path(os.path.join(self.root, name))

    def path(self, row: int) -> Path:
        return self._path(self.names[row])

    def info(self, row: int) -> VideoInfo:
        """What the probe found of a video, which it must have looked at."""
        assert self.infos is not None
        return self.infos[row]

    def rates(self) -> NDArray[np.float64]:
        """Frames a second of each video, on average over it, (N,); 0 where it does not tell."""
        assert self.infos is not None
        told, uneven = (self.infos.columns[name] for name in ("fps", "uneven_rate"))
        return np.where(uneven > 0, uneven, told)

    def kinds(self) -> "Counter[tuple[str, bool]]":
        """How many videos there are of each codec in which Decord is right (True), or is not."""
        assert self.infos is not None
        columns, codecs = self.infos.columns, self.infos.texts["codec"]
        pairs = np.stack([columns["codec"], columns["decord_exact"]])
        found, counts = np.unique(pairs, axis=1, return_counts=True)
        kinds = zip(*found.tolist(), counts.tolist(), strict=True)
        return Counter({(codecs[codec], bool(exact)): count for codec, exact, count in kinds})

    def pictures(self) -> PictureCounts:
        """Of how many the pictures are of which kind."""
        assert self.infos is not None
        return count_pictures(self.infos)

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
        )

    def probed(self, infos: InfoColumns) -> "VideoTable":
        """The same videos with what the probe found; the stamps, by which it asked, are let go."""
        assert len(infos) == len(self)
        return replace(self, infos=infos, stamps=None)

    def without_times(self) -> "VideoTable":
        """The same videos, for clips that count frames: when each is shown is let go, how many
        there are a second on average is not."""
        assert self.infos is not None
        return replace(self, infos=self.infos.without("uneven_times"))
