"""What was found out about a dataset, and what a finding on it is."""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.labels import Remark, label_remarks
from slowfast_dist.annotations.table import Side
from slowfast_dist.commands.check.near_copies import (
    FINGERPRINT,
    Fingerprints,
    Pairs,
    find_near_copies,
    fingerprint_or_reason,
)
from slowfast_dist.commands.check.recordings import Codes, numbered
from slowfast_dist.config.commands import CheckData
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.background.gaps import Annotated
from slowfast_dist.data.image_folders import gap_remarks
from slowfast_dist.data.listing.imported import Imported
from slowfast_dist.data.listing.listing import (
    Listing,
    for_training,
    labelled_as_trained,
    of_side,
    require_classes,
    usable,
)
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.split import Split, split_videos, unscored
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.locating import Placed, place_segments
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.data.probing import (
    BYTES_PER_SECOND,
    FILES_WORTH_A_WORKER,
    TIME_LIMIT,
    probe_videos,
)
from slowfast_dist.metrics.cells import parted
from slowfast_dist.runs.videos import start_of_paths
from slowfast_dist.system import signals
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.system.progress import over_files
from slowfast_dist.system.workers.pool import map_in_children
from slowfast_dist.video.reader import VideoInfo

PIXELS_PER_SECOND = 2e7
"""Pixels that a file's time limit grants a second for: a tenth of what one CPU decodes."""


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


# --- reading -------------------------------------------------------------------------------------


def read_dataset(root: Path, command: CheckData) -> Dataset:
    """All that is to be known of the dataset."""
    listings = _listings(root, command)
    both: tuple[Side, Side] = ("train", "val")
    videos = [
        (side, video)
        for side, listing in zip(both, listings, strict=False)
        for video in listing.videos
    ]
    paths = [video.path for _, video in videos]
    workers = worker_count(command)
    probed: list[VideoInfo | str] = []
    placed: list[Placed] = []
    outside: dict[int, str] = {}
    gaps: list[Remark] = []
    known = listings[0].classes
    background = known.index(command.background) if command.background in known else -1
    flags = ("--data.train-dir", "--data.val-dir") if command.val_dir else ("--data.root",)
    for flag, listing, place in zip(flags, listings, (root, command.val_dir), strict=False):
        found = probe_videos(
            listing.videos, workers, default_cache(), True, command.image_fps
        )
        parts = place_segments(
            listing.videos.probed(found.infos), found.readable, f"{flag} {place}",
            command.crop_box, background,
        )
        placed.append(parts)
        gaps += gap_remarks(parts.videos)
        outside |= {len(probed) + row: reason for row, reason in parts.reasons.items()}
        probed += found
    file_infos = [found if isinstance(found, VideoInfo) else None for found in probed]
    file_reasons = {row: found for row, found in enumerate(probed) if isinstance(found, str)}
    infos = [None if row in outside else info for row, info in enumerate(file_infos)]
    readable = np.array([info is not None for info in infos])
    first_rows = _first_rows(placed)
    sides: list[Side | None] = [
        side if info else None for (side, _), info in zip(videos, infos, strict=True)
    ]
    refused, by_column = None, False
    remarks: tuple[Remark, ...] = tuple(said for one in listings for said in one.remarks)
    if command.val_dir:
        val_rows = np.flatnonzero(readable[len(listings[0].videos) :])
        scored = listings[1].videos.select(val_rows)
        remedy = f"add some to --val-dir {command.val_dir}"
        remarks += tuple(unscored(scored, listings[1].classes, remedy))
    else:
        split, refused = _try_split(listings[0], readable, root, command)
        remarks = split.remarks if split else remarks
        by_column = split is not None and not split.drawn
        found_sides: list[tuple[Side, VideoTable]] = []
        if split:
            found_sides = [("train", split.train), ("val", split.val)]
        by_name: dict[str, Side] = {name: s for s, table in found_sides for name in table.samples()}
        test = set(listings[0].rows_of("test").tolist()) if listings[0].sides is not None else set()
        for row in np.flatnonzero(readable).tolist():
            sides[row] = "test" if row in test else by_name.get(videos[row][1].sample)

    def try_pattern(pattern: str) -> str | None:
        if command.val_dir:
            return None
        try:
            listing = list_videos(
                root, "data.root", pattern, start=start_of_paths(root, command.videos),
                several=None, image_fps=command.image_fps,
                single_class=command.background is not None,
            )  # fmt: skip
        except UserError as error:
            return str(error)
        return _try_split(listing, readable, root, command)[1]

    single = listings[0].classes
    counts = np.sum([listing.counts() for listing in listings], axis=0)
    named = dict(zip(single, counts.tolist(), strict=True))
    remarks += (*gaps, *label_remarks(named, command.flip, command.flip_pairs))

    fingerprints = _fingerprints(paths, file_infos, file_reasons, command.full, workers)
    if len(first_rows) < len(paths):  # parts of one file are no copies of each other
        others = np.setdiff1d(np.arange(len(paths)), first_rows)
        fingerprints[others] = np.zeros(1, FINGERPRINT)
    classes, labels = single, [video.label for _, video in videos]
    if any(listing.videos.sets is not None for listing in listings):
        cells = [cell for one in listings for cell in one.videos.label_cells(single)]
        classes = tuple(sorted(set(cells)))
        labels = [classes.index(cell) for cell in cells]
    groups = [f"{side}/{video.group}" for side, video in videos]  # nothing binds two roots
    return Dataset(
        classes=classes,
        single_classes=single,
        paths=paths,
        names=[video.sample for _, video in videos],
        labels=np.array(labels, np.int64),
        groups=numbered(groups if command.val_dir else [video.group for _, video in videos]),
        sides=sides,
        infos=infos,
        reasons=file_reasons | outside,
        file_infos=file_infos,
        file_reasons=file_reasons,
        fingerprints=fingerprints,
        near_copies=find_near_copies(fingerprints),
        same_bytes=_same_bytes(file_infos, file_reasons, first_rows),
        roots=[side for side, _ in videos] if command.val_dir else None,
        by_column=by_column,
        refused=refused,
        remarks=remarks,
        try_pattern=try_pattern,
        placed=placed,
        spans=[one.videos.span(row) if one.inside[row] else None
               for one in placed for row in range(len(one.videos))],
        first_rows=first_rows,
        annotated=[listing.annotated for listing in listings],
        background=background,
        imported=[one.imported for one in listings if one.imported is not None],
    )  # fmt: skip


def _first_rows(placed: Sequence[Placed]) -> NDArray[np.int64]:
    """One row of each file, of all roots one after the other; one inside of it where there is."""
    first, rows = 0, list[NDArray[np.int64]]()
    for one in placed:
        _, files = one.videos.file_rows()
        order = np.argsort(~one.inside, kind="stable")
        rows.append(first + np.sort(order[np.unique(files[order], return_index=True)[1]]))
        first += len(one.videos)
    return np.concatenate(rows)


def _listings(root: Path, command: CheckData) -> list[Listing]:
    """The videos of the root, or of both with the labels of the first."""
    flag = "data.train-dir" if command.val_dir else "data.root"
    start = None if root.is_dir() and command.val_dir else start_of_paths(root, command.videos)
    fps, alone = command.image_fps, command.background is not None  # which is the second class
    train = list_videos(
        root, flag, command.group_pattern, start=start, several=None, image_fps=fps,
        single_class=alone,
    )  # fmt: skip
    if command.val_dir is None:
        return [train]
    train = of_side(train, "train", flag, root)
    require_classes(train.classes, flag, root, alone)
    start = None if command.val_dir.is_dir() else command.videos
    val = list_videos(
        command.val_dir, "data.val-dir", command.group_pattern, start=start, single_class=True,
        may_be_empty=True, several=train.videos.sets is not None, image_fps=fps,
    )  # fmt: skip
    val = of_side(val, "val", "data.val-dir", command.val_dir)
    if command.background in val.classes:
        train = train.with_class(command.background)
    return [train, labelled_as_trained(val, train, command.val_dir)]


def _try_split(
    listing: Listing, readable: NDArray[np.bool_], root: Path, command: CheckData
) -> tuple[Split | None, str | None]:
    """The split of a training with these videos, or why there is none."""
    try:
        name = command.background
        listed = for_training(listing, "data.root", root, name is not None)
        readable = readable[listing.rows_of("train", "val")]
        listed = usable(listed, readable, "data.root", root, name)
        return split_videos(listed, command.val_fraction, command.seed, name), None
    except UserError as error:
        return None, str(error)


def _fingerprints(
    paths: Sequence[Path], infos: Sequence[VideoInfo | None], reasons: dict[int, str], full: bool,
    workers: int,
) -> Fingerprints:  # fmt: skip
    """(N,) of the readable files, zeros for others; adds reasons for damage that is met."""
    known = {path: info for path, info in zip(paths, infos, strict=True) if info}
    workers = min(workers, 1 + len(known) // FILES_WORTH_A_WORKER)

    def limit(path: Path) -> float:
        info = known[path]
        pixels = info.frames * info.width * info.height
        return TIME_LIMIT + info.file_size / BYTES_PER_SECOND + pixels / PIXELS_PER_SECOND

    def about(path: Path) -> dict[str, Any]:
        info = known[path]
        return {"order": info.moved_frames if info.by_packets else None}

    asked = map_in_children(fingerprint_or_reason, known, workers, limit, about, full=full)
    title = "decoding every frame" if full else "looking at the videos"
    answers: dict[Path, str | bytes] = {}
    with contextlib.closing(asked):
        for path, answer in over_files(asked, len(known), title):
            whole = not isinstance(answer, str)
            answers[path] = bytes.fromhex(answer["fingerprint"]) if whole else answer
            signals.raise_if_received()
    found = np.zeros(len(paths), FINGERPRINT)
    for row, path in enumerate(paths):
        given = answers.get(path)
        if isinstance(given, str):
            reasons[row] = given
        elif given is not None:
            found[row] = np.frombuffer(given, FINGERPRINT)[0]
    return found


def _same_bytes(
    infos: Sequence[VideoInfo | None], reasons: dict[int, str], rows: NDArray[np.int64]
) -> list[list[int]]:
    """Those of ``rows``, of readable files, that are equal, by the digest that the probe took."""
    equal: dict[int, list[int]] = defaultdict(list)
    for row in rows.tolist():
        info = infos[row]
        if info is not None and row not in reasons:
            equal[info.digest].append(row)
    return [same for same in equal.values() if len(same) > 1]


def worker_count(command: CheckData) -> int:
    return available_cpus() if command.num_workers == "auto" else command.num_workers


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
