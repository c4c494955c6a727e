"""One set of videos into training and validation: class by class, groups whole, by a seed."""

import csv
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.labels import Remark
from slowfast_dist.annotations.segments import EXTRA, WEIGHT, extra_columns
from slowfast_dist.annotations.table import OF_RUN, OF_RUN_SEVERAL
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.columns import CHUNK
from slowfast_dist.data.listing.listing import Listing
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.system.files import atomic_write
from slowfast_dist.system.text import few

MOST_FOLDS = 20
"""A validation fraction is taken as p of q folds of groups, with q up to this."""

CANDIDATES = 10
"""Groupwise splits that scikit-learn deals out, of which the best balanced is taken."""

DRAWS = 50
"""Groupwise splits that are drawn at random, of which the best balanced is taken: a draw costs less
than a deal, and is balanced worse."""

MOST_GROUPS = 2_000
"""Groups up to which scikit-learn deals them out, at up to a millisecond a group. More of them are
drawn at random: their number balances them."""

MOST_VIDEOS = 100_000
"""Videos up to which scikit-learn deals their groups out, at a second a million videos."""

Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]
Groups = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """The two sides, each in the order of the listing, what the user should know, and whether the
    sides were ``drawn`` here, and not given by a column split."""

    train: VideoTable
    val: VideoTable
    remarks: tuple[Remark, ...]
    drawn: bool = True


def split_videos(
    listing: Listing, val_fraction: float, seed: int, may_lack: str | None = None,
    fold: int | None = None,
) -> Split:  # fmt: skip
    """The sides that a CSV's column split says; without one, keep ``val_fraction`` of each class
    for validation, and every group on one side. ``fold``: of a cross-validation, whose sides the
    listing then has.

    It depends on the names, labels, groups and sides alone. Raises UserError where a side or a
    class's training part would be empty, but for that of the one that it ``may_lack``.
    """
    if len(given := listing.rows_of("val")) and listing.sides is not None:
        return _given_split(listing, given, may_lack, fold)
    videos, remarks = listing.videos, listing.remarks
    if listing.sides is not None:
        what = f"no row has split val, so {val_fraction:g} of each class is kept for validation"
        remarks += (Remark("info", "split-val", f"{what} (--data.val-fraction)"),)
    groups = group_codes(videos)
    if groups is None:
        chosen = _by_class(videos.strata(), val_fraction, seed)
    else:
        chosen = _by_group(videos, groups, val_fraction, seed)
    train = videos.select(np.flatnonzero(~chosen))
    val = videos.select(np.flatnonzero(chosen))
    if not len(val):
        raise UserError(
            f"--data.val-fraction {val_fraction}: leaves no video for validation; give more "
            "videos, or a larger fraction"
        )
    if untrained := _absent(train, listing.classes, may_lack):
        raise UserError(
            f"--data.val-fraction {val_fraction}: leaves no training video of class "
            f"{few(untrained, quoted=True)}; give it more videos or groups, a smaller fraction, or "
            "another --seed"
        )
    remedy = "give it more videos or groups, or another --data.val-fraction"
    return Split(train, val, (*remarks, *unscored(val, listing.classes, remedy, may_lack)))


def _given_split(
    listing: Listing, val_rows: Groups, may_lack: str | None, fold: int | None
) -> Split:
    train = listing.videos.select(listing.rows_of("train"))
    val = listing.videos.select(val_rows)
    untrained = _absent(train, listing.classes, may_lack)
    if untrained and fold is not None:  # the folds are dealt before it is known what can be read
        raise UserError(
            f"--fold {fold}: of class {few(untrained, quoted=True)} no video outside of the fold "
            "can be read: replace them, or leave the class out and begin anew in another "
            "--output-dir, as the folds are then others"
        )
    if untrained:
        raise UserError(
            "--data.root: its column split gives no training video of class "
            f"{few(untrained, quoted=True)}; correct it, or delete those rows"
        )
    remedy = "give it rows of split val" if fold is None else "another fold may have some"
    remarks = [*listing.remarks, *unscored(val, listing.classes, remedy, may_lack)]
    train_groups, val_groups = set(train.group_names()), list(val.group_names())
    if train.groups is not None and (both := train_groups.intersection(val_groups)):
        seen = sum(group in both for group in val_groups)
        remarks.append(Remark(
            "warning", "groups-cross-split",
            f"{seen} of {len(val)} validation videos are of a group that is among the training "
            f"videos too, as {min(both)!r}, so validation is too good",
            "correct the column split, or delete it: a split drawn here keeps groups whole",
        ))  # fmt: skip
    return Split(train, val, tuple(remarks), drawn=False)


def unscored(
    val: VideoTable, classes: Sequence[str], remedy: str, may_lack: str | None = None
) -> Iterator[Remark]:
    """Whether classes, other than the one that it ``may_lack``, have no validation video."""
    if unseen := _absent(val, classes, may_lack):
        what = f"class {unseen[0]!r}: it is"
        if len(unseen) > 1:
            what = f"{len(unseen)} of {len(classes)} classes, {few(unseen, quoted=True)}: they are"
        yield Remark(
            "warning", "unscored-class", f"no validation video of {what} scored with support 0",
            remedy,
        )  # fmt: skip


def identical(train: VideoTable, val: VideoTable) -> Iterator[Remark]:
    """Whether validation videos are byte for byte training videos, by what the probe found. Parts
    of one file are no copies: see `shared_files`."""
    shared = shared_rows(train, val)
    train, val = train.per_file(), val.per_file()
    assert train.infos is not None and val.infos is not None
    first, second = train.infos.columns["digest"], val.infos.columns["digest"]
    rows = np.flatnonzero(np.isin(second, first) & (second != 0))
    rows = rows[~np.isin(rows, shared)]
    if len(rows):
        row = int(rows[0])
        twin = int(np.flatnonzero(first == second[row])[0])
        yield Remark(
            "warning", "duplicates-across-split",
            f"{len(rows)} of {len(val)} validation videos are training videos too, byte for byte, "
            f"as {val.names[row]} = {train.names[twin]}, so validation is too good",
            "check-data lists them all",
        )  # fmt: skip


def shared_files(train: VideoTable, val: VideoTable) -> Iterator[Remark]:
    """Whether files have parts on both sides, of two lists that nothing else holds together."""
    if len(rows := shared_rows(train, val)):
        yield Remark(
            "warning", "files-cross-split",
            f"{len(rows)} of {len(val.file_rows()[0])} validation files have training segments, "
            f"too, as {val.per_file().names[int(rows[0])]}, so validation is too good",
            "give each list files of its own",
        )  # fmt: skip


def shared_rows(train: VideoTable, val: VideoTable) -> Groups:
    """Which of the files of val, one after the other, have parts in train, too."""
    if train.segments is None or val.segments is None:
        return np.empty(0, np.int64)
    first, second = train.per_file(), val.per_file()
    known = {os.path.join(first.root, name) for name in first.names}
    return np.array(
        [row for row, name in enumerate(second.names) if os.path.join(second.root, name) in known],
        np.int64,
    )


def _absent(videos: VideoTable, classes: Sequence[str], but: str | None) -> list[str]:
    """The classes of which there is no video, ``but`` for one."""
    counts = videos.class_counts(len(classes))
    absent = (classes[label] for label in np.flatnonzero(counts == 0).tolist())
    return [name for name in absent if name != but]


def group_codes(videos: VideoTable) -> Groups | None:
    """(N,): of each video the place of its group among the sorted ones; None: each has its own."""
    if videos.groups is None:
        return None
    used, codes = np.unique(videos.groups.codes, return_inverse=True)
    if len(used) == len(videos):
        return None
    names = list(videos.groups.texts.take(used))
    ranks = np.empty(len(used), np.int64)
    ranks[sorted(range(len(used)), key=names.__getitem__)] = np.arange(len(used))
    return ranks[codes]


def _by_class(labels: Labels, val_fraction: float, seed: int) -> Mask:
    """round(n * val_fraction) of each class's n videos; one at least of two, never all."""
    chosen = np.zeros(len(labels), np.bool_)
    by_label = np.argsort(labels, kind="stable")
    first = 0
    for label, size in enumerate(np.bincount(labels).tolist()):
        members = by_label[first : first + size]
        first += size
        if size:
            count = min(max(round(size * val_fraction), 1), size - 1)
            order = np.random.default_rng([seed, label]).permutation(size)
            chosen[members[order[:count]]] = True
    return chosen


def _by_group(videos: VideoTable, groups: Groups, val_fraction: float, seed: int) -> Mask:
    """Whole groups (N,): numbers from 0 on, in the order of their names.

    The candidate that misses fewest classes on either side, and then comes nearest the fraction,
    is taken.
    """
    labels, count = videos.strata(), int(groups.max()) + 1
    if count < 2 and videos.segments is not None:
        raise UserError(
            f"--data.root: all {len(videos)} rows are of one group, {videos[0].group!r}, which "
            "stands on one side of a split: add another recording, or a column split that says "
            "which rows are train and which val"
        )
    if count < 2:
        raise UserError(
            f"--data.group-pattern: all {len(videos)} videos are in one group, "
            f"{videos[0].group!r}; give a pattern that tells the recordings apart"
        )
    is_small = count <= MOST_GROUPS and len(labels) <= MOST_VIDEOS
    draw, candidates = (_deal_out, CANDIDATES) if is_small else (_draw, DRAWS)
    splits = []
    for candidate in range(candidates):
        state = int(np.random.SeedSequence([seed, candidate]).generate_state(1)[0])
        inside, distance = draw(labels, groups, val_fraction, state)
        seen = sum(np.count_nonzero(np.bincount(labels[side])) for side in (inside, ~inside))
        splits.append((-seen, distance, candidate, inside))
    return min(splits, key=lambda split: split[:3])[-1]


def _deal_out(
    labels: Labels, groups: Groups, val_fraction: float, state: int
) -> tuple[Mask, float]:
    """Groups by scikit-learn's StratifiedGroupKFold with p of q folds for validation, and how far
    their share of the videos is from the fraction."""
    from sklearn.model_selection import StratifiedGroupKFold

    # scikit-learn wants a class of at least q videos for q folds.
    most_folds = min(MOST_FOLDS, int(groups.max()) + 1, int(np.bincount(labels).max()))
    if most_folds < 2:
        raise UserError(f"--data.root has {len(labels)} videos, one a class; give more")
    share = Fraction(val_fraction).limit_denominator(most_folds)
    share = min(max(share, Fraction(1, most_folds)), 1 - Fraction(1, most_folds))
    folds = StratifiedGroupKFold(share.denominator, shuffle=True, random_state=state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes smaller than q
        parts = [part for _, part in folds.split(labels, labels, groups)]
    inside = np.zeros(len(labels), np.bool_)
    inside[np.concatenate(parts[: share.numerator])] = True
    return inside, abs(float(inside.mean()) - val_fraction)


def _draw(labels: Labels, groups: Groups, val_fraction: float, state: int) -> tuple[Mask, float]:
    """Groups in random order, up to the fraction, and how far the classes' shares are from it on
    average."""
    order = np.random.default_rng(state).permutation(int(groups.max()) + 1)
    filled = np.cumsum(np.bincount(groups)[order])
    count = 1 + int(np.argmin(np.abs(filled[:-1] - val_fraction * len(labels))))
    taken = np.zeros(len(order), np.bool_)
    taken[order[:count]] = True
    inside = taken[groups]
    sizes = np.bincount(labels)
    shares = np.bincount(labels, inside, len(sizes))[sizes > 0] / sizes[sizes > 0]
    return inside, float(np.abs(shares - val_fraction).mean())


def write_split(path: Path, classes: Sequence[str], train: VideoTable, val: VideoTable) -> None:
    """Write split.csv, path,class,split,group and, of parts of videos, start,end,subject, x,y,w,h
    where any has a region of interest, and weight where rows have one, atomically. With several
    labels a clip the column is called classes, and holds all of them."""
    columns = OF_RUN if train.sets is None else OF_RUN_SEVERAL
    parts = train.segments is not None
    weighted = train.weights is not None or val.weights is not None
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        if parts or weighted:
            sides = [("train", train, train.extra() or []), ("val", val, val.extra() or [])]
            more = extra_columns([cells for _, _, some in sides for cells in some[:1]])
            more = (more or EXTRA) if parts else ()
            writer.writerow((*columns, *more, *((WEIGHT,) if weighted else ())))
            for side, videos, extra in sides:
                known = zip(
                    videos.names, videos.label_cells(classes), videos.group_names(),
                    extra if parts else repeat(()),
                    (videos.weight_texts() or repeat("")) if weighted else repeat(None),
                    strict=False,
                )  # fmt: skip
                for name, cell, group, cells, weight in known:
                    row = (name, cell, side, group, *cells)
                    writer.writerow(row if weight is None else (*row, weight))
            return
        writer.writerow(columns)
        for side, videos in (("train", train), ("val", val)):
            for first in range(0, len(videos), CHUNK):
                part = videos[first : first + CHUNK]
                names, groups = list(part.names), list(part.group_names())
                shown = part.label_cells(classes)
                rows = zip(names, shown, repeat(side), groups)
                joined = "".join([*names, *shown, *groups])
                if any(mark in joined for mark in '",\r\n'):  # a CSV has these in quotes
                    writer.writerows(rows)
                else:  # what the writer would write, but faster
                    file.writelines(f"{a},{b},{c},{d}\r\n" for a, b, c, d in rows)
