"""What was found out about a dataset, and what a finding on it is."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.labels import Remark
from slowfast_dist.annotations.table import Side
from slowfast_dist.commands.check.near_copies import Fingerprints, Pairs
from slowfast_dist.commands.check.recordings import Codes
from slowfast_dist.data.background.gaps import Annotated
from slowfast_dist.data.listing.imported import Imported
from slowfast_dist.data.locating import Placed
from slowfast_dist.metrics.cells import parted
from slowfast_dist.video.reader import VideoInfo


@dataclass(frozen=True)
class Dataset:
    """N videos, or parts of videos, in columns, as they were listed."""

    classes: tuple[str, ...]
    """What ``labels`` are places in; of several labels a video each combination, as a|b."""
    single_classes: tuple[str, ...]
    """The names of the classes, whether a video has one or several."""
    paths: list[Path]
    names: list[str]
    """Paths below the root, or, of two roots, below each; path@start-end for a part of a video."""
    labels: Codes
    groups: Codes
    sides: list[Side | None]
    """None for what the probe rejected, and where the split is refused. Only a CSV says test."""
    infos: list[VideoInfo | None]
    """None for what the probe rejected, and for parts that lie outside of their files."""
    reasons: dict[int, str]
    """Why videos cannot be read, also those in which the damage was met later."""
    file_infos: list[VideoInfo | None]
    """What the probe found of each row's file, wherever in it the row lies."""
    file_reasons: dict[int, str]
    """As ``reasons``, of the rows' files."""
    fingerprints: Fingerprints
    near_copies: Pairs
    """Pairs that look the same."""
    same_bytes: list[list[int]]
    """Videos that are equal, two or more each."""
    roots: list[Side] | None
    """Which of two roots each is from, where the split was made by the user."""
    by_column: bool
    """Whether a CSV's column split parts them."""
    refused: str | None
    """Why training would not start with these videos."""
    remarks: tuple[Remark, ...]
    """What training would say of the list and the split, copies across it left out."""
    try_pattern: Callable[[str], str | None]
    """Why training would refuse a group_pattern, None if it would not."""
    placed: list[Placed]
    """The samples of each root with their frames."""
    spans: list[tuple[int, int] | None]
    """The frames of a part of a video, the first and the one behind the last; None: all of it."""
    first_rows: NDArray[np.int64]
    """One row of each file, in rising order; where a file has any, a row that lies inside of it."""
    annotated: list[Annotated | None] = field(default_factory=list)
    """All rows of each root's list, where that names parts of videos."""
    background: int = -1
    """The label of rows that say where background is."""
    imported: list[Imported] = field(default_factory=list)
    """What came of the files of other tools, of each root that is one."""
    of_files: bool = False
    """Whether the rows are files, whatever parts of them the list names."""

    def classes_of(self, row: int) -> list[str]:
        """The classes of a video."""
        name = self.classes[self.labels[row]]
        return [name] if self.classes is self.single_classes else parted(name)

    @property
    def has_segments(self) -> bool:
        return any(placed.videos.segments is not None for placed in self.placed)

    def files(self) -> "Dataset":
        """Each file once; itself where the list names no parts."""
        if not self.has_segments:
            return self
        rows = self.first_rows.tolist()
        paths = [name for placed in self.placed for name in placed.videos.names]
        return replace(
            self, paths=[self.paths[row] for row in rows], names=[paths[row] for row in rows],
            labels=np.zeros(len(rows), np.int64), groups=self.groups[rows],
            sides=[self.sides[row] for row in rows],
            infos=[self.file_infos[row] for row in rows],
            reasons={n: self.file_reasons[row] for n, row in enumerate(rows)
                     if row in self.file_reasons},
            fingerprints=self.fingerprints[rows],
            near_copies=np.searchsorted(self.first_rows, self.near_copies),
            same_bytes=[np.searchsorted(self.first_rows, same).tolist()
                        for same in self.same_bytes],
            roots=None if self.roots is None else [self.roots[row] for row in rows],
            spans=[None] * len(rows), first_rows=np.arange(len(rows)), of_files=True,
        )  # fmt: skip

    @property
    def outside(self) -> set[int]:
        """Rows without any frame in their file."""
        found, first = set[int](), 0
        for placed in self.placed:
            found |= {first + row for row in placed.reasons}
            first += len(placed.videos)
        return found

    def readable(self) -> list[tuple[int, VideoInfo]]:
        """The videos that can be read, as far as that was looked at, and what they hold."""
        return [
            (row, info)
            for row, info in enumerate(self.infos)
            if info is not None and row not in self.reasons
        ]

    def video(self, row: int) -> dict[str, Any]:
        """A video as the JSON report has it."""
        if self.of_files:
            return {"path": self.names[row], "split": self.sides[row]}
        return {
            "path": self.names[row],
            "class": self.classes[self.labels[row]],
            "split": self.sides[row],
        }


Level = Literal["error", "warning"]
"""An error would spoil a training: what it says would not be so, or some of the videos would be
missing. A warning is worth knowing."""


@dataclass(frozen=True)
class Finding:
    kind: str
    """A fixed word, for programs."""
    level: Level
    summary: str
    remedy: str
    examples: list[str] = field(default_factory=list)
    """For people; all of them."""
    items: list[dict[str, Any]] = field(default_factory=list)
    """For programs; all of them."""
