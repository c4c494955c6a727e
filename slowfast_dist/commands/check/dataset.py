"""What was found out about a dataset, and what a finding on it is."""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

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
from slowfast_dist.data.manifest import Listing, list_videos, require_same_classes, usable
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.data.probing import (
    BYTES_PER_SECOND,
    FILES_WORTH_A_WORKER,
    TIME_LIMIT,
    probe_videos,
)
from slowfast_dist.data.split import Split, split_videos
from slowfast_dist.system import signals
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.system.pool import map_in_children
from slowfast_dist.system.progress import over_files
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.transcode import sha256_or_nothing

PIXELS_PER_SECOND = 2e7
"""Pixels that a file's time limit grants a second for: a tenth of what one CPU decodes."""

Side = Literal["train", "val"]


@dataclass(frozen=True)
class Dataset:
    """N videos in columns, as they were listed."""

    classes: tuple[str, ...]
    paths: list[Path]
    names: list[str]
    """Paths below the root, or, of two roots, below each."""
    labels: Codes
    groups: Codes
    sides: list[Side | None]
    """None for what the probe rejected, and where the split is refused."""
    infos: list[VideoInfo | None]
    """None for what the probe rejected."""
    reasons: dict[int, str]
    """Why videos cannot be read, also those in which the damage was met later."""
    fingerprints: Fingerprints
    near_copies: Pairs
    """Pairs that look the same."""
    same_bytes: list[list[int]]
    """Videos that are equal, two or more each."""
    roots: list[Side] | None
    """Which of two roots each is from, where the split was made by the user."""
    refused: str | None
    """Why training would not start with these videos."""
    notes: tuple[str, ...]
    """What training would warn of."""
    try_pattern: Callable[[str], str | None]
    """Why training would refuse a group_pattern, None if it would not."""

    def readable(self) -> list[tuple[int, VideoInfo]]:
        """The videos that can be read, as far as that was looked at, and what they hold."""
        return [
            (row, info)
            for row, info in enumerate(self.infos)
            if info is not None and row not in self.reasons
        ]

    def video(self, row: int) -> dict[str, Any]:
        """A video as the JSON report has it."""
        return {
            "path": self.names[row],
            "class": self.classes[self.labels[row]],
            "split": self.sides[row],
        }


# --- reading -------------------------------------------------------------------------------------


def read_dataset(root: Path, command: CheckData) -> Dataset:
    """All that is to be known of the dataset."""
    flag = "data.train-dir" if command.val_dir else "data.root"
    listings = [list_videos(root, flag, command.group_pattern)]
    if command.val_dir:
        listings.append(list_videos(command.val_dir, "data.val-dir", command.group_pattern))
        require_same_classes(*listings)
    both: tuple[Side, Side] = ("train", "val")
    videos = [
        (side, video)
        for side, listing in zip(both, listings, strict=False)
        for video in listing.videos
    ]
    paths = [video.path for _, video in videos]
    workers = worker_count(command)
    probed: list[VideoInfo | str] = []
    for listing in listings:
        probed += probe_videos(listing.videos, workers, default_cache(), show_progress=True)
    infos = [found if isinstance(found, VideoInfo) else None for found in probed]
    reasons = {row: found for row, found in enumerate(probed) if isinstance(found, str)}
    readable = np.array([info is not None for info in infos])
    sides: list[Side | None] = [
        side if info else None for (side, _), info in zip(videos, infos, strict=True)
    ]
    split, refused = None, None
    if not command.val_dir:
        split, refused = _try_split(listings[0], readable, root, command)
        val = set(split.val.names) if split else set()
        for row in np.flatnonzero(readable).tolist():
            sides[row] = None if not split else "val" if videos[row][1].name in val else "train"

    def try_pattern(pattern: str) -> str | None:
        if command.val_dir:
            return None
        try:
            listing = list_videos(root, "data.root", pattern)
        except UserError as error:
            return str(error)
        return _try_split(listing, readable, root, command)[1]

    fingerprints = _fingerprints(paths, infos, reasons, command.full, workers)
    groups = [f"{side}/{video.group}" for side, video in videos]  # nothing binds two roots
    return Dataset(
        classes=listings[0].classes,
        paths=paths,
        names=[video.name for _, video in videos],
        labels=np.array([video.label for _, video in videos], np.int64),
        groups=numbered(groups if command.val_dir else [video.group for _, video in videos]),
        sides=sides,
        infos=infos,
        reasons=reasons,
        fingerprints=fingerprints,
        near_copies=find_near_copies(fingerprints),
        same_bytes=_same_bytes(paths, reasons),
        roots=[side for side, _ in videos] if command.val_dir else None,
        refused=refused,
        notes=split.warnings if split else (),
        try_pattern=try_pattern,
    )


def _try_split(
    listing: Listing, readable: NDArray[np.bool_], root: Path, command: CheckData
) -> tuple[Split | None, str | None]:
    """The split of a training with these videos, or why there is none."""
    try:
        listed = usable(listing, readable, "data.root", root)
        return split_videos(listed, command.val_fraction, command.seed), None
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

    orders = {
        str(path): info.moved_frames if info.by_packets else None
        for path, info in known.items()
        if info.moved_frames or not info.by_packets
    }
    asked = map_in_children(fingerprint_or_reason, known, workers, limit, full=full, orders=orders)
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


def _same_bytes(paths: Sequence[Path], reasons: dict[int, str]) -> list[list[int]]:
    """Rows of readable files that are equal: of those of one size, a hash of the content."""
    sizes: dict[int, list[int]] = defaultdict(list)
    for row, path in enumerate(paths):
        if row not in reasons:
            with contextlib.suppress(OSError):
                sizes[path.stat().st_size].append(row)
    rows = [row for same in sizes.values() if len(same) > 1 for row in same]
    equal: dict[str, list[int]] = defaultdict(list)
    with ThreadPoolExecutor(4) as pool:  # more would not help, as the disk sets the pace
        digests = pool.map(sha256_or_nothing, [paths[row] for row in rows])
        for row, digest in zip(rows, digests, strict=True):
            if digest is not None:
                equal[digest].append(row)
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
