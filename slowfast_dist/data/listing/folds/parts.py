"""What a training of a cross-validation holds out, and how much of the rest it sees."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.labels import Remark
from slowfast_dist.annotations.table import SIDES
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.folds.column import Folds, given_folds, group_counts
from slowfast_dist.data.listing.folds.dealing import count_folds, deal
from slowfast_dist.data.listing.listing import Listing
from slowfast_dist.data.listing.split import (
    Split,
    group_codes,
)
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.system.text import few


@dataclass(frozen=True)
class Part:
    """The ``fold``, counted from 1, of a cross-validation that is held out of a training; "final":
    none is, and the rows of split test take its place."""

    folds: Folds
    fold: int | Literal["final"]


def hold_out(listing: Listing, part: Part, background: str | None = None) -> Listing:
    """``listing`` with the fold's videos as validation and all others as training; ``background``
    as of `count_folds`.

    The folds depend on names, labels and groups alone, so that trainings of other settings and
    seeds, and each process of an array, have the same ones. Raises UserError as `count_folds`, and
    for a fold that there is not.
    """
    count = count_folds(listing, part.folds, background)
    assert isinstance(part.fold, int)  # the final training holds nothing out
    if part.fold > count:
        raise UserError(f"--fold {part.fold}: there are {count} folds; give one of 1 to {count}")
    folds = deal(listing, part.folds, background)
    inside = folds == part.fold - 1
    sides = np.where(inside, SIDES.index("val"), SIDES.index("train")).astype(np.int8)
    remarks = list(listing.remarks)
    if (given := given_folds(listing, part.folds)) is not None:
        names = [f"{number} is {name!r}" for number, name in enumerate(given.names, 1)
                 if name != str(number)]  # fmt: skip
        what = f"the column fold says the folds: {count} of {len(listing.videos)} videos"
        said = f"; fold {few(names, 6)}" if names else ""
        remarks.append(Remark("info", "folds-given", what + said))
    elif listing.folds is not None:
        remarks.append(Remark(
            "info", "folds-unused", "the column fold is not used, as --folds group holds each "
            "group out"
        ))  # fmt: skip
    if listing.sides is not None:
        remarks.append(Remark(
            "info", "folds-split", "the rows of split train and val are dealt out to the folds "
            "alike"
        ))  # fmt: skip
    remarks += _lacking(listing, folds, count, background)
    return replace(listing, sides=sides, remarks=tuple(remarks))


def _lacking(
    listing: Listing, folds: NDArray[np.int64], count: int, background: str | None
) -> Iterator[Remark]:
    """Whether classes are in no video of some folds."""
    counts = group_counts(listing, folds, background)
    lacking = [name for name, some in zip(listing.classes, (counts > 0).sum(axis=0), strict=True)
               if some < count and name != background]  # fmt: skip
    if lacking:
        names = few(lacking, quoted=True)
        yield Remark(
            "info", "folds-lack-class",
            f"{len(lacking)} of {len(listing.classes)} classes are not in each of the {count} "
            f"folds, as their videos are of too few groups: {names}; scores over all folds count "
            "them rightly",
        )  # fmt: skip


def with_fewer(split: Split, share: float) -> Split:
    """``split`` with that share of the groups of its training videos, and says so.

    A smaller share keeps a part of what a larger one keeps. Each class keeps a video at least.
    """
    train = split.train
    codes = group_codes(train)
    if codes is None:  # class by class, so that none loses more than its share
        kept, ranks = np.zeros(len(train), np.bool_), np.zeros(len(train))
        strata = train.strata()
        for label in np.unique(strata).tolist():
            members = np.flatnonzero(strata == label)
            order = np.random.default_rng([1, label]).permutation(len(members))
            kept[members[order[: max(1, round(share * len(members)))]]] = True
            ranks[members[order]] = (np.arange(len(members)) + 0.5) / len(members)
    else:
        ranks = np.random.default_rng(1).permutation(int(codes.max()) + 1)[codes].astype(np.float64)
        kept = ranks < max(1, round(share * len(np.unique(codes))))
    for has in _of_each_class(train):
        if not kept[has].any():
            kept[has & (ranks == ranks[has].min())] = True
    what = ""
    if codes is not None:
        what = f", of {len(np.unique(codes[kept]))} of {len(np.unique(codes))} groups,"
    said = Remark(
        "info", "train-fraction", f"{kept.sum()} of {len(train)} training videos{what} are trained "
        f"on (--data.train-fraction {share:g})"
    )  # fmt: skip
    return replace(split, train=train.select(np.flatnonzero(kept)), remarks=(*split.remarks, said))


def _of_each_class(videos: VideoTable) -> Iterator[NDArray[np.bool_]]:
    """(N,) for each class that there is: which videos have it."""
    if videos.sets is None:
        yield from (videos.labels == label for label in np.unique(videos.labels))
        return
    for has in videos.sets.T:
        if (rows := has[videos.labels]).any():
            yield rows
