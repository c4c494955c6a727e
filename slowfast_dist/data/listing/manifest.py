"""Which videos there are and what each shows: class folders, or an annotation file."""

import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.labels import Remark, sort_labels
from slowfast_dist.annotations.table import SUFFIXES, Table, names_columns
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.background.gaps import Annotated
from slowfast_dist.data.listing.columns import Categorical, Texts
from slowfast_dist.data.listing.group_pattern import compile_pattern, groups_by_pattern
from slowfast_dist.data.listing.label_sets import LabelSets, several_remark, with_sets
from slowfast_dist.data.listing.listing import (
    Listing,
    for_final,
    for_training,
    labelled_as_trained,
    of_side,
    require_classes,
)
from slowfast_dist.data.listing.rows import list_rows
from slowfast_dist.data.listing.scan import Files, Skipped, is_video, list_below, list_folders
from slowfast_dist.data.listing.segments import Segments
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.metrics.cells import SEPARATOR, parted
from slowfast_dist.system.text import unwritable

if TYPE_CHECKING:
    from slowfast_dist.data.listing.imported import ImportedRows


def list_videos(
    root: Path, flag: str, group_pattern: str | None = None, *, start: Path | None = None,
    single_class: bool = False, may_be_empty: bool = False, order: Sequence[str] | None = None,
    several: bool | None = False, image_fps: float | None = None, labelled: bool = True,
) -> Listing:  # fmt: skip
    """The videos of class folders or of an annotation file; ``flag`` is what named ``root``.

    ``start``: where relative paths of a CSV start, if not from its folder. ``order``: that of the
    classes where these are they, as in a run that goes on. For an evaluation, videos of a
    ``single_class`` are enough, and class folders ``may_be_empty``. ``several``: whether a video
    may have several labels, or none; None: where a list gives some so. ``labelled``: False for all
    videos below a folder, which are then of one class.
    Raises UserError, naming the flag, where there is nothing that could be trained on.
    """
    pattern = compile_pattern(group_pattern) if group_pattern else None
    found, below, remarks, table = _found(
        root, flag, start, may_be_empty, several, image_fps, labelled
    )
    several = bool(several) or (table is not None and table.has_several)
    imported = None if table is None or isinstance(table, Table) else table.imported
    classes = sort_labels(found)
    if several:
        classes = sort_labels({name for cell in found for name in parted(cell)})
    if order is not None and sorted(order) == sorted(classes):
        classes = tuple(order)
    require_classes(classes, flag, root, single_class)
    columns = [found[name] for name in (sorted(found) if several else classes)]
    names = Texts.concatenated([part.names for part in columns])
    for text in (*classes, names.data.tobytes().decode("utf-8", "surrogateescape")):
        if unwritable(text) is not None:
            wrong = next(name for name in (*classes, *names) if unwritable(name) is not None)
            raise UserError(f"--{flag} {root}: the name {wrong!r} {unwritable(wrong)}; rename it")
    groups: Categorical | None = None
    given = [group for part in columns for group in part.groups]
    # split.csv of a run has each video's own name where there was no grouping.
    if any(group not in ("", name) for name, group in zip(names, given, strict=True)):
        if pattern:
            raise UserError(
                f"--data.group-pattern {group_pattern}: {root} has a column group already: "
                "give --data.group-pattern none, or leave the column out"
            )
        groups = Categorical.of(own or name for name, own in zip(names, given, strict=True))
    elif pattern:
        groups = groups_by_pattern(names, pattern, root)
    sides = np.concatenate([part.sides for part in columns])
    segments = _segments(columns)
    if segments is not None and groups is None and (
        segments.any_part or segments.boxes is not None
    ):
        groups = _by_file(segments, names)
    labels = np.repeat(np.arange(len(columns), dtype=np.int32), [len(c.names) for c in columns])
    videos = VideoTable(
        below, names, labels, groups, np.concatenate([part.stamps for part in columns]),
        segments=segments, weights=_weights(columns),
    )  # fmt: skip
    annotated = None
    if segments is not None and segments.any_part and not several:
        of_run = isinstance(table, Table) and table.follows_links
        annotated = Annotated(videos, classes, of_run, imported.hidden() if imported else {})
    listing = Listing(
        classes, videos, sides if (sides >= 0).any() else None, remarks, imported, annotated,
        _folds(columns),
    )
    if not several:
        return listing
    cells = sorted(found)
    if table is None and (odd := next((name for name in cells if SEPARATOR in name), None)):
        what = f"class {odd!r} has a {SEPARATOR}, which parts several labels; rename the folder"
        raise UserError(f"--{flag} {root}: {what}")
    sets = LabelSets.of_cells([cells[label] for label in labels], classes)
    listing = with_sets(listing, sets, columns, table)
    assert listing.videos.sets is not None
    said = several_remark(root, listing.videos.labels, listing.videos.sets)
    return replace(listing, remarks=(*listing.remarks, said))


def _segments(columns: Sequence[Files]) -> Segments | None:
    """None where every row is all of a file that no other row names, and of its picture."""
    rows = [part.rows for part in columns if part.rows is not None]
    if not rows:
        return None
    numbers = np.concatenate([part.numbers for part in rows])
    bounds = np.concatenate([part.bounds for part in rows])
    subjects = [subject for part in rows for subject in part.subjects]
    told = Categorical.of(subjects) if any(subjects) else None
    boxes = np.concatenate([part.boxes for part in rows])
    known = None if np.isnan(boxes).all() else boxes
    if np.isnan(bounds).all() and told is None and known is None:
        return None
    lines = np.concatenate([part.lines for part in rows])
    return Segments(numbers, bounds, lines, told, boxes=known)


def _weights(columns: Sequence[Files]) -> NDArray[np.float32] | None:
    """(N,); None where all are 1."""
    rows = [part.rows for part in columns if part.rows is not None]
    weights = np.concatenate([part.weights for part in rows]) if rows else None
    return None if weights is None or (weights == 1).all() else weights


def _folds(columns: Sequence[Files]) -> Categorical | None:
    """(N,), "" for an empty cell; None without a column fold."""
    rows = [part.rows for part in columns if part.rows is not None]
    told = [fold for part in rows for fold in part.folds]
    if all(fold is None for fold in told):
        return None
    return Categorical.of(fold or "" for fold in told)


def _by_file(segments: Segments, names: Texts) -> Categorical:
    """(N,): all parts of a file are one group, so that none is on both sides of a split."""
    _, first, codes = np.unique(segments.files, return_index=True, return_inverse=True)
    return Categorical(codes.astype(np.int32), names.take(first))


def list_root(
    data: DataConfig, order: Sequence[str] | None = None, several: bool = False,
    final: bool = False, of_fold: bool = False,
) -> Listing:  # fmt: skip
    """The videos of ``data.root``, for training and validation; ``final``: see `for_final`;
    ``of_fold``: see `for_training`. Raises UserError."""
    assert data.root is not None
    alone = data.background is not None  # which is the second class
    listing = list_videos(
        data.root, "data.root", data.group_pattern, start=data.videos, order=order,
        several=several, image_fps=data.image_fps, single_class=alone,
    )  # fmt: skip
    if final:
        return for_final(listing, "data.root", data.root)
    return for_training(listing, "data.root", data.root, alone, of_fold)


def list_unlabelled(data: DataConfig) -> Listing:
    """All videos below the folder ``data.root``, of one class. Raises UserError."""
    assert data.root is not None
    return list_videos(
        data.root, "data.root", data.group_pattern, start=data.videos, image_fps=data.image_fps,
        single_class=True, labelled=False,
    )  # fmt: skip


def list_sides(
    data: DataConfig, order: Sequence[str] | None = None, several: bool = False
) -> tuple[Listing, Listing]:
    """The videos of ``data.train_dir`` and of ``data.val_dir``, both with the classes of the first.
    Raises UserError."""
    assert data.train_dir is not None and data.val_dir is not None
    alone = data.background is not None  # which is the second class
    train = list_videos(
        data.train_dir, "data.train-dir", start=_start(data, data.train_dir), order=order,
        several=several, image_fps=data.image_fps, single_class=alone,
    )  # fmt: skip
    train = of_side(train, "train", "data.train-dir", data.train_dir)
    require_classes(train.classes, "data.train-dir", data.train_dir, alone)
    val = list_videos(
        data.val_dir, "data.val-dir", start=_start(data, data.val_dir), single_class=True,
        may_be_empty=True, several=several, image_fps=data.image_fps,
    )  # fmt: skip
    val = of_side(val, "val", "data.val-dir", data.val_dir)
    if data.background in val.classes:  # of which the other list may say nothing
        train = train.with_class(data.background)
    return train, labelled_as_trained(val, train, data.val_dir)


def _start(data: DataConfig, root: Path) -> Path | None:
    """Of two roots, one may be a CSV and the other a folder, which --data.videos is not for."""
    both = (data.train_dir, data.val_dir)
    lists = any(other is not None and not other.is_dir() for other in both)
    return None if root.is_dir() and lists else data.videos


def _found(
    root: Path, flag: str, start: Path | None, may_be_empty: bool, several: bool | None,
    image_fps: float | None, labelled: bool = True,
) -> "tuple[dict[str, Files], Path, tuple[Remark, ...], Table | ImportedRows | None]":
    """The files by class, the folder below which their names lie, what is to be said, and the list
    that was read, if one was."""
    if start is not None:
        name = "data.videos" if flag.startswith("data.") else "videos"
        if root.is_dir():
            raise UserError(f"--{name} {start}: is for a CSV, and {root} is a folder; leave it out")
        if not start.is_dir():
            raise UserError(f"--{name} {start}: there is no such folder")
    if root.is_dir():
        skipped = Skipped()
        try:
            if labelled:
                found = list_folders(root, flag, may_be_empty, skipped, image_fps is not None)
            else:
                found = list_below(root, flag, skipped, image_fps is not None)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                why = "its folders lie too deep in each other; move the videos up"
            else:
                why = f"{os.fsdecode(error.filename)} cannot be read ({error.strerror}); change "
                why += "its permissions, or move it away"
            raise UserError(f"--{flag} {root}: {why}") from None
        said = [Remark("info", "skipped", f"{root}: {skipped}")] * bool(skipped)
        return found, root, tuple(said), None
    if not labelled:
        what = "a file" if root.exists() else "no folder"
        raise UserError(f"--{flag} {root}: is {what}: give a folder of videos")
    below = root.parent if start is None else start
    table = open_list(root, flag, below, several, image_fps)
    return list_rows(table, below), below, tuple(table.remarks()), table


def open_list(
    root: Path, flag: str, below: Path, several: bool | None = False,
    image_fps: float | None = None,
) -> "Table | ImportedRows":  # fmt: skip
    """The annotation file that ``flag`` names, its format found, its rows not read; ``below``:
    where its videos are; ``several``: as of `Table`. Raises UserError for what is none."""
    if not root.exists():
        raise UserError(f"--{flag} {root}: there is no such folder or CSV")
    listed = root.suffix.lower() in SUFFIXES
    text = root.is_file() and root.stat().st_size and not is_video(os.fsencode(root.name))
    if not (root.is_file() if listed else text):
        raise UserError(
            f"--{flag} {root}: give a folder of class folders, or a .csv or .jsonl "
            "of path,label"
        )
    if listed and names_columns(root):
        return Table(root, flag, several)
    # Imported late: class folders and lists start without the readers of formats.
    from slowfast_dist.data.listing.imported import ImportedRows

    try:
        return ImportedRows(root, flag, below, several, image_fps)
    except UserError:
        if listed:  # what is wrong with it as a list, it says itself
            return Table(root, flag, several)
        raise


def list_folder(
    root: Path, start: Path | None = None, image_fps: float | None = None
) -> Listing:
    """As `list_videos`, of one class or more, for what was given without a flag."""
    try:
        return list_videos(
            root, "DIR", start=start, single_class=True, several=None, image_fps=image_fps
        )
    except UserError as error:
        raise UserError(str(error).removeprefix("--DIR ")) from None
