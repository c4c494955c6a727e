"""Groups dealt out to folds, so that each class is in as many of them as can be."""

import warnings
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.folds.column import (
    Folds,
    check_given,
    given_folds,
    group_counts,
    grouped,
)
from slowfast_dist.data.listing.listing import Listing
from slowfast_dist.data.listing.split import (
    MOST_GROUPS,
    MOST_VIDEOS,
    Groups,
    Labels,
)
from slowfast_dist.system.text import few

DEALS = 20
"""Deals of scikit-learn's StratifiedGroupKFold of which the best is taken: they differ in the order
of the groups, and cost up to a millisecond a group."""

DRAWS = 60
"""Random deals that are looked at, too, where some class is in fewer folds than it has groups: by
moving groups each leads to a deal that no single move betters, and the best of these is taken."""

MOST_MOVES = 200
"""Groups that are moved at most to bring a class into a fold that lacks it: each move brings one,
so that more are needed only for more classes than a page of results can show."""


def count_folds(listing: Listing, folds: Folds, background: str | None = None) -> int:
    """``background``: of a class whose rows only say where background is, which others have, too.
    Raises UserError where there are fewer groups than folds, or a class has but one group, and for
    a column fold that is not so many folds, or no folds."""
    if (given := given_folds(listing, folds)) is not None:
        check_given(listing, given, folds, background)
        return len(given.names)
    _, groups, what = grouped(listing)
    total = int(groups.max()) + 1
    wanted = folds if isinstance(folds, int) else total
    if wanted < 2 or wanted > total:
        remedy = "give at least two groups" if total < 2 else f"give --folds {total} or fewer"
        raise UserError(f"--folds {folds}: there are {total} {what} to be dealt out; {remedy}")
    counts = group_counts(listing, groups, background)
    if lone := np.flatnonzero((counts > 0).sum(axis=0) == 1).tolist():
        names = few([listing.classes[label] for label in lone], quoted=True)
        raise UserError(
            f"--folds {folds}: all videos of class {names} are of one of the {what}, so that the "
            "model that predicts them would never have seen the class: give the class another "
            "recording, or leave it out"
        )
    return wanted


def deal(listing: Listing, folds: Folds, background: str | None = None) -> NDArray[np.int64]:
    """(N,): the fold of each video, counted from 0; no group is in two.

    Each class is in the training side of every fold, and in as many folds as it has groups where
    moving groups can bring that about. Raises UserError as `count_folds`.
    """
    count = count_folds(listing, folds, background)
    if (given := given_folds(listing, folds)) is not None:
        return given.codes
    labels, groups, _ = grouped(listing)
    if folds == "group":
        return groups
    total = int(groups.max()) + 1
    if total == len(labels):
        return _deal_videos(labels, count)
    counts = group_counts(listing, groups, background)
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
