"""The command ``check-data``: what is wrong with a dataset, before hours are spent on it."""

import contextlib
import hashlib
import os
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist import signals
from slowfast_dist.check import files
from slowfast_dist.check.findings import Dataset, Finding, Side
from slowfast_dist.check.moving import move, require_place
from slowfast_dist.check.report import facts, report, shown, text
from slowfast_dist.check.sides import copies, shared_recordings
from slowfast_dist.commands import CheckData
from slowfast_dist.config import RunError, UserError
from slowfast_dist.cpus import available_cpus
from slowfast_dist.data import likeness, look
from slowfast_dist.data.clip_cost import clip_costs
from slowfast_dist.data.guard import HANGS
from slowfast_dist.data.manifest import Listing, list_videos, require_same_classes, usable
from slowfast_dist.data.probe_all import (
    BYTES_PER_SECOND,
    FILES_WORTH_A_WORKER,
    TIME_LIMIT,
    probe_videos,
)
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.data.probe_pool import ask_apart
from slowfast_dist.data.recordings import numbered
from slowfast_dist.data.split import Split, split_videos
from slowfast_dist.data.video import VideoInfo
from slowfast_dist.files import write_json
from slowfast_dist.progress import over_files

PIXELS_PER_SECOND = 2e7
"""Of all frames together: a tenth of what one CPU decodes."""

SAMPLE = 20
"""Videos of which a clip is read, to estimate the loader's speed."""

READERS = 4
"""Threads that compare files byte by byte: the disk sets the pace."""


def run_check(root: Path, command: CheckData) -> None:
    """Print the report on the videos of ``root``, class folders or a CSV.

    Exits with code 1 where something would spoil a training. Raises UserError for mistakes of the
    user's.
    """
    roots = [root, command.val_dir] if command.val_dir else [root]
    if command.move_bad:
        require_place(command.move_bad, roots)
    if command.json:
        _require_writable(command.json)
    with _in_words_of_this_command():
        data, paths = _look(root, command)
    found = _findings(data, command)
    readable = [paths[row] for row, _ in data.readable()]
    seconds = _read_cost(readable, command)
    told = facts(data, command, seconds, _cpus(command))
    print(text(root, data, found, told), flush=True)
    moved = _move_bad(data, paths, command.move_bad, roots) if command.move_bad else []
    if command.json:
        try:
            write_json(command.json, report(root, data, found, told, moved))
        except OSError as error:
            raise RunError(f"--json {command.json}: {error.strerror or error}") from None
    if any(finding.level == "error" for finding in found):
        raise SystemExit(1)


def _findings(data: Dataset, command: CheckData) -> list[Finding]:
    """All that is wrong, the worst first."""
    found = [
        *shared_recordings(data),
        *copies(data),
        *files.unreadable(data),
        *files.refused(data),
        *files.short_clips(data, command),
        *files.class_sizes(data),
        *files.frame_rates(data),
        *files.frame_sizes(data, command),
    ]
    return sorted(found, key=lambda finding: finding.level != "error")


# --- reading -------------------------------------------------------------------------------------


def _look(root: Path, command: CheckData) -> tuple[Dataset, list[Path]]:
    """All that is to be known of the dataset, and the videos' paths."""
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
    workers = _cpus(command)
    probed: list[VideoInfo | str] = []
    for listing in listings:
        probed += probe_videos(listing.videos, workers, default_cache(), show_progress=True)
    infos = [found if isinstance(found, VideoInfo) else None for found in probed]
    reasons = {row: found for row, found in enumerate(probed) if isinstance(found, str)}
    sides: list[Side | None]
    refused: str | None = None
    notes: tuple[str, ...] = ()
    if command.val_dir:
        sides = [side if info else None for (side, _), info in zip(videos, infos, strict=True)]
    else:
        readable = np.array([info is not None for info in infos])
        split, refused = _try_split(listings[0], readable, root, command)
        val = {video.name for video in split.val} if split else set()
        sides = [
            None if not info or not split else "val" if video.name in val else "train"
            for (_, video), info in zip(videos, infos, strict=True)
        ]
        notes = split.warnings if split else ()

    def try_pattern(pattern: str) -> str | None:
        if command.val_dir:
            return None
        try:
            listing = list_videos(root, "data.root", pattern)
        except UserError as error:
            return str(error)
        return _try_split(listing, readable, root, command)[1]

    answers = _look_at(paths, infos, reasons, command.full, workers)
    looks = likeness.Looks.of(answers)
    groups = [f"{side}/{video.group}" for side, video in videos]  # nothing binds two roots
    return Dataset(
        classes=listings[0].classes,
        names=[video.name for _, video in videos],
        labels=np.array([video.label for _, video in videos], np.int64),
        groups=numbered(groups if command.val_dir else [video.group for _, video in videos]),
        sides=sides,
        infos=infos,
        reasons=reasons,
        looks=looks,
        near_copies=likeness.near_copies(looks),
        same_bytes=_same_bytes(paths, reasons),
        roots=[side for side, _ in videos] if command.val_dir else None,
        refused=refused,
        notes=notes,
        try_pattern=try_pattern,
    ), paths


def _try_split(
    listing: Listing, readable: NDArray[np.bool_], root: Path, command: CheckData
) -> tuple[Split | None, str | None]:
    """The split of a training with these videos, or why there is none."""
    try:
        kept = usable(listing, readable, "data.root", root)
        return split_videos(kept, command.val_fraction, command.seed), None
    except UserError as error:
        return None, str(error)


def _look_at(
    paths: Sequence[Path],
    infos: Sequence[VideoInfo | None],
    reasons: dict[int, str],
    full: bool,
    workers: int,
) -> list[dict[str, Any] | None]:
    """What `look.look_at` gives of every readable file; adds reasons for damage it meets."""
    todo = list(dict.fromkeys(path for path, info in zip(paths, infos, strict=True) if info))
    workers = min(workers, 1 + len(todo) // FILES_WORTH_A_WORKER)
    known = {path: info for path, info in zip(paths, infos, strict=True) if info}

    def limit(path: Path) -> float:
        info = known[path]
        pixels = info.frames * info.width * info.height
        return TIME_LIMIT + info.file_size / BYTES_PER_SECOND + pixels / PIXELS_PER_SECOND

    asked = ask_apart(look.worker(full), todo, workers, limit)
    title = "decoding every frame" if full else "looking at the videos"
    answers: dict[Path, dict[str, Any] | str] = {}
    with contextlib.closing(asked):
        for path, answer in over_files(asked, len(todo), title):
            answers[path] = answer
            signals.raise_if_received()
    looks: list[dict[str, Any] | None] = []
    for row, path in enumerate(paths):
        found = answers.get(path)
        if isinstance(found, str):
            reasons[row] = found
        looks.append(found if isinstance(found, dict) else None)
    return looks


def _same_bytes(paths: Sequence[Path], reasons: dict[int, str]) -> list[list[int]]:
    """Rows of readable files that are equal: of those of one size, a hash of the content."""
    sizes: dict[int, list[int]] = defaultdict(list)
    for row, path in enumerate(paths):
        if row not in reasons:
            with contextlib.suppress(OSError):
                sizes[path.stat().st_size].append(row)
    rows = [row for same in sizes.values() if len(same) > 1 for row in same]
    equal: dict[bytes, list[int]] = defaultdict(list)
    with ThreadPoolExecutor(READERS) as pool:
        for row, digest in zip(rows, pool.map(_digest, [paths[row] for row in rows]), strict=True):
            if digest is not None:
                equal[digest].append(row)
    return [same for same in equal.values() if len(same) > 1]


def _digest(path: Path) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return None


def _cpus(command: CheckData) -> int:
    return available_cpus() if command.num_workers == "auto" else command.num_workers


def _read_cost(readable: Sequence[Path], command: CheckData) -> float | None:
    """Mean CPU seconds to read a clip of a few videos, spread evenly over all; None without any."""
    step = max(1, len(readable) // SAMPLE)
    chosen = readable[step // 2 :: step][:SAMPLE]
    costs = clip_costs(
        chosen, 1, command.num_frames, command.sampling_rate, command.crop_size
    )
    return statistics.mean(costs.values()) if costs else None


# --- the user's wishes ---------------------------------------------------------------------------


@contextlib.contextmanager
def _in_words_of_this_command() -> Iterator[None]:
    """Training's messages name its flags; here DIR is given bare, and the others without data."""
    try:
        yield
    except UserError as error:
        message = str(error)
        message = message.removeprefix("--data.root ").removeprefix("--data.train-dir ")
        message = message.replace("--data.train-dir", "DIR").replace("--data.", "--")
        raise UserError(message) from None


def _require_writable(path: Path) -> None:
    """Raise UserError now, and not after hours, where the report cannot be written."""
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--json {path}: cannot be written; give another file")


def _move_bad(
    data: Dataset, paths: Sequence[Path], target: Path, roots: Sequence[Path]
) -> list[dict[str, str]]:
    """Move the unreadable videos to where they were, below ``target``; say what was done."""
    moved: list[dict[str, str]] = []
    kept: list[str] = []
    for row in sorted(data.reasons):
        # Two videos of the same path below their roots are not the same.
        place = (target / data.roots[row] if data.roots else target) / data.names[row]
        # A long video on a busy machine is no bad one.
        slow = data.reasons[row].startswith(HANGS)
        problem = "perhaps it is only slow: see for yourself" if slow else move(paths[row], place)
        if problem:
            kept.append(f"{data.names[row]}: {problem}")
        else:
            moved.append({"from": shown(str(paths[row])), "to": shown(str(place))})
    if moved or kept:
        print(f"\n{len(moved)} unreadable videos moved to {target}")
    for line in kept:
        print(f"  not moved: {shown(line)}")
    for table in roots if moved else ():
        if not table.is_dir():
            print(f"  {table} still lists them: delete their lines there")
    return moved
