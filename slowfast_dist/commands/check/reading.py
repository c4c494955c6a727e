"""All that is to be known of a dataset, read: its list, its files, its split, what looks alike."""

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.labels import Remark, label_remarks
from slowfast_dist.annotations.table import Side
from slowfast_dist.commands.check.dataset import Dataset
from slowfast_dist.commands.check.near_copies import (
    FINGERPRINT,
    Fingerprints,
    find_near_copies,
    fingerprint_or_reason,
)
from slowfast_dist.commands.check.recordings import numbered
from slowfast_dist.config.commands.dataset import CheckData
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.image_folders import gap_remarks
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
from slowfast_dist.runs.videos import start_of_paths
from slowfast_dist.system import signals
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.system.progress import over_files
from slowfast_dist.system.workers.pool import map_in_children
from slowfast_dist.video.reader import VideoInfo

PIXELS_PER_SECOND = 2e7
"""Pixels that a file's time limit grants a second for: a tenth of what one CPU decodes."""


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
