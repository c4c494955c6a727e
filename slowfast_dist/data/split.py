"""One set of videos into training and validation: class by class, groups whole, by a seed."""

import csv
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from slowfast_dist.config import UserError
from slowfast_dist.data.manifest import Listing, VideoRecord
from slowfast_dist.files import atomic_write

MOST_FOLDS = 20
"""A validation fraction is taken as p of q folds of groups, with q up to this."""

CANDIDATES = 10
"""Groupwise splits drawn, of which the best balanced is taken."""


@dataclass(frozen=True)
class Split:
    """The two sides, each in the order of the listing, and lines to warn the user with."""

    train: tuple[VideoRecord, ...]
    val: tuple[VideoRecord, ...]
    warnings: tuple[str, ...]


def split_videos(listing: Listing, val_fraction: float, seed: int) -> Split:
    """Keep ``val_fraction`` of each class for validation, and every group on one side.

    It depends on the names, labels and groups alone. Raises UserError where a side or a class's
    training part would be empty.
    """
    videos = listing.videos
    grouped = len({video.group for video in videos}) < len(videos)
    chosen = (_by_group if grouped else _by_class)(videos, val_fraction, seed)
    train = tuple(video for video in videos if video not in chosen)
    val = tuple(video for video in videos if video in chosen)
    if not val:
        raise UserError(
            f"--data.val-fraction {val_fraction}: leaves no video for validation; give more "
            "videos, or a larger fraction"
        )
    left = {video.label for video in train}
    untrained = [name for label, name in enumerate(listing.classes) if label not in left]
    if untrained:
        raise UserError(
            f"--data.val-fraction {val_fraction}: leaves no training video of class "
            f"{', '.join(map(repr, untrained))}; give it more videos or groups, a smaller "
            "fraction, or another --seed"
        )
    shown = {video.label for video in val}
    unseen = [name for label, name in enumerate(listing.classes) if label not in shown]
    if not unseen:
        return Split(train, val, ())
    warning = (
        f"no validation video of class {', '.join(map(repr, unseen))}: it is scored with support "
        "0; give it more videos or groups, or another --data.val-fraction"
    )
    return Split(train, val, (warning,))


def _by_class(videos: Sequence[VideoRecord], val_fraction: float, seed: int) -> set[VideoRecord]:
    """round(n * val_fraction) of each class's n videos; one at least of two, never all."""
    chosen: set[VideoRecord] = set()
    classes: dict[int, list[VideoRecord]] = defaultdict(list)
    for video in videos:
        classes[video.label].append(video)
    for label, members in classes.items():
        count = min(max(round(len(members) * val_fraction), 1), len(members) - 1)
        order = np.random.default_rng([seed, label]).permutation(len(members))
        chosen.update(members[index] for index in order[:count])
    return chosen


def _by_group(videos: Sequence[VideoRecord], val_fraction: float, seed: int) -> set[VideoRecord]:
    """Whole groups, by scikit-learn's StratifiedGroupKFold with p of q folds for validation.

    The candidate that misses fewest classes on either side, and then comes nearest the fraction,
    is taken.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = [video.group for video in videos]
    count = len(set(groups))
    if count < 2:
        raise UserError(
            f"--data.group-pattern: all {len(videos)} videos are in one group, {groups[0]!r}; "
            "give a pattern that tells the recordings apart"
        )
    labels = np.array([video.label for video in videos])
    # scikit-learn wants a class of at least q videos for q folds.
    most_folds = min(MOST_FOLDS, count, int(np.bincount(labels).max()))
    if most_folds < 2:
        raise UserError(f"--data.root has {len(videos)} videos, one a class; give more")
    share = Fraction(val_fraction).limit_denominator(most_folds)
    share = min(max(share, Fraction(1, most_folds)), 1 - Fraction(1, most_folds))
    splits = []
    for candidate in range(CANDIDATES):
        state = int(np.random.SeedSequence([seed, candidate]).generate_state(1)[0])
        folds = StratifiedGroupKFold(share.denominator, shuffle=True, random_state=state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes smaller than q: tried below
            parts = [part for _, part in folds.split(labels, labels, groups)]
        inside = np.zeros(len(videos), dtype=bool)
        inside[np.concatenate(parts[: share.numerator])] = True
        classes = len(set(labels))
        missing = 2 * classes - len(set(labels[inside])) - len(set(labels[~inside]))
        splits.append((missing, abs(inside.mean() - val_fraction), candidate, inside))
    best = min(splits, key=lambda split: split[:3])[-1]
    return {video for video, chosen in zip(videos, best, strict=True) if chosen}


def write_split(
    path: Path, classes: Sequence[str], train: Sequence[VideoRecord], val: Sequence[VideoRecord]
) -> None:
    """Write split.csv, path,class,split,group, atomically."""
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "class", "split", "group"))
        for name, side in (("train", train), ("val", val)):
            for video in side:
                writer.writerow((video.name, classes[video.label], name, video.group))
