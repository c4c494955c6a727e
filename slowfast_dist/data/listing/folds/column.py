"""The folds that a list's column fold says, and what of it cannot be."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.fields import MOST_FOLDS
from slowfast_dist.data.listing.listing import Listing
from slowfast_dist.data.listing.split import (
    Groups,
    Labels,
    group_codes,
)
from slowfast_dist.system.text import few

Folds = int | Literal["group", "column"]


def grouped(listing: Listing) -> tuple[Labels, Groups, str]:
    """Labels and groups (N,), and what a group is called."""
    codes = group_codes(listing.videos)
    labels = listing.videos.labels
    if codes is None:
        return labels, np.arange(len(labels)), "videos"
    return labels, codes, "groups"


def group_counts(listing: Listing, groups: Groups, background: str | None) -> NDArray[np.int64]:
    """(G, K): videos of each class in each group; of the ``background`` none."""
    counts = np.zeros((int(groups.max()) + 1, len(listing.classes)), np.int64)
    np.add.at(counts, (groups, listing.videos.labels), 1)
    if background in listing.classes:
        counts[:, listing.classes.index(background)] = 0
    return counts


@dataclass(frozen=True)
class GivenFolds:
    """The folds of a column: ``codes`` (N,), places in ``names``, which are in the order of their
    numbers, and behind them of their letters."""

    names: list[str]
    codes: NDArray[np.int64]


def given_folds(listing: Listing, folds: Folds) -> GivenFolds | None:
    """None where the folds are dealt out here. Raises UserError for a column that is missing, or
    has empty cells."""
    if listing.folds is None or folds == "group":
        if folds == "column":
            raise UserError(
                "--folds column: the list has no column fold: add one, or give a number, by which "
                "the groups are dealt out"
            )
        return None
    texts = list(listing.folds)
    if empty := [row for row, text in enumerate(texts) if not text]:
        raise UserError(
            f"--folds {folds}: the column fold is empty for {len(empty)} of {len(texts)} videos, "
            f"as {listing.videos.sample(empty[0])}: fill it in, or give --folds group"
        )
    names = sorted(set(texts), key=lambda name: (
        not name.isdecimal(), int(name) if name.isdecimal() else 0, name
    ))  # fmt: skip
    place = {name: number for number, name in enumerate(names)}
    return GivenFolds(names, np.array([place[text] for text in texts], np.int64))


def check_given(
    listing: Listing, given: GivenFolds, folds: Folds, background: str | None
) -> None:
    """Raise UserError for a column that says other folds than ``folds``, or none that hold."""
    count = len(given.names)
    if not 2 <= count <= MOST_FOLDS:
        values = f"has {count} value{'s' * (count != 1)}"
        raise UserError(
            f"--folds {folds}: the column fold {values}; give it 2 to {MOST_FOLDS}, or delete it"
        )
    if folds not in ("column", count):
        raise UserError(
            f"--folds {folds}: the column fold has {count} values, "
            f"{few(given.names, quoted=True)}: give --folds column, which takes them, or delete "
            "the column"
        )
    _, groups, _ = grouped(listing)
    pairs = np.unique(np.stack([groups, given.codes], axis=1), axis=0)
    if len(both := np.flatnonzero(pairs[1:, 0] == pairs[:-1, 0])):
        names = list(listing.videos.group_names())
        first = names[int(np.flatnonzero(groups == pairs[both[0], 0])[0])]
        one, other = (given.names[pairs[both[0] + more, 1]] for more in (0, 1))
        several = len(np.unique(pairs[both, 0]))
        raise UserError(
            f"--folds {folds}: the column fold has group {first!r} in {one!r} and in {other!r} "
            f"({several} such group{'s' * (several > 1)}): a model would be scored on recordings "
            "that it was trained on; correct the column"
        )
    spread = (group_counts(listing, given.codes, background) > 0).sum(axis=0)
    if lone := np.flatnonzero(spread == 1).tolist():
        classes = few([listing.classes[label] for label in lone], quoted=True)
        raise UserError(
            f"--folds {folds}: the column fold has all videos of class {classes} in one fold, so "
            "that the model that predicts them would never have seen the class: correct the column"
        )
