"""The parts of a cross-validation: each group in one of them, the classes spread over all."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.labels import Remark
from slowfast_dist.annotations.table import SIDES
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.listing import Listing
from slowfast_dist.data.listing.split import (
    MOST_GROUPS,
    MOST_VIDEOS,
    Groups,
    Labels,
    Split,
    group_codes,
)
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.system.text import few

Folds = int | Literal["group"]

DEALS = 20
"""Deals of scikit-learn's StratifiedGroupKFold of which the best is taken: they differ in the order
of the groups, and cost up to a millisecond a group."""

DRAWS = 60
"""Random deals that are looked at, too, where some class is in fewer folds than it has groups: by
moving groups each leads to a deal that no single move betters, and the best of these is taken."""

MOST_MOVES = 200
"""Groups that are moved at most to bring a class into a fold that lacks it: each move brings one,
so that more are needed only for more classes than a page of results can show."""


@dataclass(frozen=True)
class Part:
    """The ``fold``, counted from 1, of a cross-validation that is held out of a training."""

    folds: Folds
    fold: int


def count_folds(listing: Listing, folds: Folds, background: str | None = None) -> int:
    """``background``: of a class whose rows only say where background is, which others have, too.
    Raises UserError where there are fewer groups than folds, or a class has but one group."""
    _, groups, what = _grouped(listing)
    total = int(groups.max()) + 1
    wanted = total if folds == "group" else folds
    if wanted < 2 or wanted > total:
        remedy = "give at least two groups" if total < 2 else f"give --folds {total} or fewer"
        raise UserError(f"--folds {folds}: there are {total} {what} to be dealt out; {remedy}")
    counts = _counts(listing, groups, background)
    if lone := np.flatnonzero((counts > 0).sum(axis=0) == 1).tolist():
        names = few([listing.classes[label] for label in lone], quoted=True)
        raise UserError(
            f"--folds {folds}: all videos of class {names} are of one of the {what}, so that the "
            "model that predicts them would never have seen the class: give the class another "
            "recording, or leave it out"
        )
    return wanted


def hold_out(listing: Listing, part: Part, background: str | None = None) -> Listing:
    """``listing`` with the fold's videos as validation and all others as training; ``background``
    as of `count_folds`.

    The folds depend on names, labels and groups alone, so that trainings of other settings and
    seeds, and each process of an array, have the same ones. Raises UserError as `count_folds`, and
    for a fold that there is not.
    """
    count = count_folds(listing, part.folds, background)
    if part.fold > count:
        raise UserError(f"--fold {part.fold}: there are {count} folds; give one of 1 to {count}")
    folds = deal(listing, part.folds, background)
    inside = folds == part.fold - 1
    sides = np.where(inside, SIDES.index("val"), SIDES.index("train")).astype(np.int8)
    remarks = list(listing.remarks)
    if listing.sides is not None:
        remarks.append(Remark(
            "info", "folds-split", "the rows of split train and val are dealt out to the folds "
            "alike"
        ))  # fmt: skip
    remarks += _lacking(listing, folds, count, background)
    return replace(listing, sides=sides, remarks=tuple(remarks))


def deal(listing: Listing, folds: Folds, background: str | None = None) -> NDArray[np.int64]:
    """(N,): the fold of each video, counted from 0; no group is in two.

    Each class is in the training side of every fold, and in as many folds as it has groups where
    moving groups can bring that about. Raises UserError as `count_folds`.
    """
    count = count_folds(listing, folds, background)
    labels, groups, _ = _grouped(listing)
    if folds == "group":
        return groups
    total = int(groups.max()) + 1
    if total == len(labels):
        return _deal_videos(labels, count)
    counts = _counts(listing, groups, background)
    if total <= MOST_GROUPS and len(labels) <= MOST_VIDEOS:
        starts = chain(
            (_deal_groups(labels, groups, count, state) for state in range(DEALS)),
            (_drawn(total, count, state) for state in range(DRAWS)),
        )
        best = _best(starts, counts, count)
    else:
        best = _drawn(total, count, 0)
    if _untrained(best, counts, count):
        raise UserError(
            f"--folds {folds}: whatever is held out, a class would be without a training video; "
            "give --folds group, fewer folds, or more groups"
        )
    return best[groups]


def _best(
    starts: Iterable[NDArray[np.int64]], counts: NDArray[np.int64], folds: int
) -> NDArray[np.int64]:
    """The best of what becomes of them; at least DEALS are looked at, and no more than are needed
    for one in which each class is in as many folds as it can be."""
    fewest = int(np.maximum(folds - (counts > 0).sum(axis=0), 0).sum())
    found = []
    for number, start in enumerate(starts, 1):
        dealt = _improved(start, counts, folds)
        found.append((_cost(dealt, counts, folds), number, dealt))
        if number >= DEALS and min(found)[0][:3] == (0, 0, fewest):
            break
    return min(found)[-1]


def _drawn(groups: int, folds: int, state: int) -> NDArray[np.int64]:
    """(G,): folds in turn to the groups in random order."""
    dealt = np.empty(groups, np.int64)
    dealt[np.random.default_rng([2, state]).permutation(groups)] = np.arange(groups) % folds
    return dealt


def _grouped(listing: Listing) -> tuple[Labels, Groups, str]:
    """Labels and groups (N,), and what a group is called."""
    codes = group_codes(listing.videos)
    labels = listing.videos.labels
    if codes is None:
        return labels, np.arange(len(labels)), "videos"
    return labels, codes, "groups"


def _counts(listing: Listing, groups: Groups, background: str | None) -> NDArray[np.int64]:
    """(G, K): videos of each class in each group; of the ``background`` none."""
    counts = np.zeros((int(groups.max()) + 1, len(listing.classes)), np.int64)
    np.add.at(counts, (groups, listing.videos.labels), 1)
    if background in listing.classes:
        counts[:, listing.classes.index(background)] = 0
    return counts


def _deal_videos(labels: Labels, folds: int) -> NDArray[np.int64]:
    """Each class's videos in turn to the folds, each class beginning where the one before ended."""
    dealt, begin = np.empty(len(labels), np.int64), 0
    for label in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == label)
        order = np.random.default_rng([0, label]).permutation(len(members))
        dealt[members[order]] = (begin + np.arange(len(members))) % folds
        begin += len(members)
    return dealt


def _deal_groups(labels: Labels, groups: Groups, folds: int, state: int) -> NDArray[np.int64]:
    """(G,): the fold of each group, by scikit-learn."""
    from sklearn.model_selection import StratifiedGroupKFold

    dealt = np.zeros(int(groups.max()) + 1, np.int64)
    most = int(np.bincount(labels).max())
    if most < folds:  # scikit-learn refuses; `_improved` mends what chance leaves
        return _drawn(len(dealt), folds, state)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes smaller than the folds are many
        for fold, (_, inside) in enumerate(splitter.split(labels, labels, groups)):
            dealt[groups[inside]] = fold
    return dealt


def _by_fold(dealt: NDArray[np.int64], counts: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """(folds, K): videos of each class in each fold."""
    sums = np.zeros((folds, counts.shape[1]), np.int64)
    np.add.at(sums, dealt, counts)
    return sums


def _untrained(dealt: NDArray[np.int64], counts: NDArray[np.int64], folds: int) -> int:
    """How often a fold holds all videos of a class."""
    sums = _by_fold(dealt, counts, folds)
    return int(((sums == sums.sum(axis=0)) & (sums > 0)).sum())


def _cost(
    dealt: NDArray[np.int64], counts: NDArray[np.int64], folds: int
) -> tuple[int, int, int, float]:
    """What is to be least, most important first: empty folds, classes that a training lacks,
    classes that a fold lacks, and how unevenly classes are spread."""
    sums = _by_fold(dealt, counts, folds)
    shares = sums / np.maximum(sums.sum(axis=0), 1)
    return (
        int((sums.sum(axis=1) == 0).sum()), _untrained(dealt, counts, folds),
        int((sums == 0).sum()), float(np.square(shares - 1 / folds).sum()),
    )  # fmt: skip


def _improved(
    dealt: NDArray[np.int64], counts: NDArray[np.int64], folds: int
) -> NDArray[np.int64]:
    """Move and exchange groups as long as that brings a class into a fold that lacks it."""
    dealt, cost = dealt.copy(), _cost(dealt, counts, folds)
    for _ in range(MOST_MOVES):
        found = next(_better(dealt, counts, folds, cost), None)
        if found is None:
            break
        dealt, cost = found
    return dealt


def _better(
    dealt: NDArray[np.int64], counts: NDArray[np.int64], folds: int,
    cost: tuple[int, int, int, float],
) -> Iterator[tuple[NDArray[np.int64], tuple[int, int, int, float]]]:  # fmt: skip
    """Deals with one group moved, or two exchanged, that lack fewer classes."""
    sums = _by_fold(dealt, counts, folds)
    for fold, label in np.argwhere(sums == 0):
        for group in np.flatnonzero((counts[:, label] > 0) & (dealt != fold)):
            for other in (None, *np.flatnonzero(dealt == fold)):
                tried = dealt.copy()
                tried[group] = fold
                if other is not None:
                    tried[other] = dealt[group]
                found = _cost(tried, counts, folds)
                if found[:3] < cost[:3]:
                    yield tried, found


def _lacking(
    listing: Listing, folds: NDArray[np.int64], count: int, background: str | None
) -> Iterator[Remark]:
    """Whether classes are in no video of some folds."""
    counts = _counts(listing, folds, background)
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
