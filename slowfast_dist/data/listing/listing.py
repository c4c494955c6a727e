"""Which videos there are, of which class and side; and the part of them that is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slowfast_dist.annotations.labels import Remark, sort_labels
from slowfast_dist.annotations.table import SIDES, Side
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.background.gaps import Annotated
from slowfast_dist.data.listing.columns import Categorical
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.system.text import few

if TYPE_CHECKING:
    from slowfast_dist.data.listing.imported import Imported


@dataclass(frozen=True)
class Listing:
    """Class names in their order, and the videos by class and name.

    ``sides`` (N,): places in SIDES, where a column split says them; ``folds`` (N,): those of a
    cross-validation, where a column fold names them ("" for an empty cell). ``remarks``: what the
    user should know.
    """

    classes: tuple[str, ...]
    videos: VideoTable
    sides: NDArray[np.int8] | None = None
    remarks: tuple[Remark, ...] = ()
    imported: "Imported | None" = None
    """What came of a file of another tool; None where there was nothing to import."""
    annotated: Annotated | None = None
    """All that an annotation file with parts of videos names, whatever was selected since."""
    folds: Categorical | None = None
    tested: "Listing | None" = None
    """The rows of split test that are of its classes, where it is of a training; None: no such."""

    def counts(self) -> NDArray[np.int64]:
        """(K,): videos of each class."""
        return self.videos.class_counts(len(self.classes))

    def select(self, rows: ArrayLike) -> "Listing":
        """With the videos of ``rows`` alone; the classes stay."""
        chosen = np.asarray(rows, np.int64)
        sides = None if self.sides is None else self.sides[chosen]
        folds = None if self.folds is None else self.folds.take(chosen)
        return replace(self, videos=self.videos.select(chosen), sides=sides, folds=folds)

    def without_empty_classes(self) -> "Listing":
        has_some = self.counts() > 0
        if (sets := self.videos.sets) is not None:
            kept = tuple(compress(self.classes, has_some))
            return replace(self, classes=kept, videos=replace(self.videos, sets=sets[:, has_some]))
        number = np.cumsum(has_some, dtype=np.int32) - 1
        classes = tuple(n for n, some in zip(self.classes, has_some, strict=True) if some)
        videos = replace(self.videos, labels=number[self.videos.labels].astype(np.int32))
        return replace(self, classes=classes, videos=videos)

    def with_class(self, name: str) -> "Listing":
        """With a class that may have no videos."""
        if name in self.classes:
            return self
        classes = sort_labels((*self.classes, name))
        number = np.array([classes.index(one) for one in self.classes], np.int32)
        videos = replace(self.videos, labels=number[self.videos.labels])
        return replace(self, classes=classes, videos=videos)

    def with_remark(self, kind: str, what: str) -> "Listing":
        return replace(self, remarks=(*self.remarks, Remark("info", kind, what)))

    def left_out_to(self, place: str) -> "Listing":
        """With the remark on the import that ``place`` lists what it left out."""
        if self.imported is None or not self.imported.notes.count():
            return self
        said = (replace(one, remedy=f"{place} lists them") if one.kind == "imported" else one
                for one in self.remarks)  # fmt: skip
        return replace(self, remarks=tuple(said))

    def rows_of(self, *sides: Side) -> NDArray[np.int64]:
        """The rows with one of these splits; all where there is no column split."""
        if self.sides is None:
            return np.arange(len(self.videos))
        return np.flatnonzero(np.isin(self.sides, [SIDES.index(side) for side in sides]))


def for_training(
    listing: Listing, flag: str, root: Path, single_class: bool = False, of_fold: bool = False
) -> Listing:
    """Without the rows of split test, which are ``tested``, and classes that only those have; says
    how many are scored at the end; ``of_fold``: of a cross-validation, which that training does
    not. Raises UserError where no row is of split train, and for a ``single_class`` unless that is
    enough."""
    if listing.sides is None or len(listing.rows_of("test")) == 0:
        kept = listing
    else:
        kept = listing.select(listing.rows_of("train", "val")).without_empty_classes()
        left_out = len(listing.videos) - len(kept.videos)
        tested = _of_classes(listing, kept.classes)
        scored = 0 if tested is None else len(tested.videos)
        what = f"{root}: {left_out} of {len(listing.videos)} videos, of split test, are "
        number = "they are" if scored == left_out else f"{scored} of them are"
        if scored and of_fold:
            what += f"in no fold; {number} scored once, by the last training of cross-validate"
        elif scored:
            what += f"neither trained nor validated on; {number} scored once, at the end"
        else:
            what += "left out"
        kept = replace(kept, tested=tested)
        if only := [name for name in listing.classes if name not in kept.classes]:
            what += f"; left out are the classes {few(only, quoted=True)}, which no others have"
        kept = kept.with_remark("split-test", what)
    if listing.sides is not None and not len(listing.rows_of("train")):
        raise UserError(f"--{flag} {root}: no row has split train; a training needs some")
    require_classes(kept.classes, flag, root, single_class)
    return kept


def _of_classes(listing: Listing, classes: Sequence[str]) -> Listing | None:
    """The rows of split test whose classes are all among ``classes``; None where there are none."""
    test = listing.select(listing.rows_of("test"))
    other = np.array([name not in classes for name in test.classes], np.bool_)
    sets = test.videos.sets
    unknown: NDArray[np.bool_] = other if sets is None else np.any(sets[:, other], axis=1)
    rows = np.flatnonzero(~unknown[test.videos.labels])
    return test.select(rows).without_empty_classes() if len(rows) else None


def for_final(listing: Listing, flag: str, root: Path) -> Listing:
    """All rows but those of split test to train on, and these, as far as they are of the same
    classes, in place of a validation. Raises UserError where there are none."""
    tested = None if listing.sides is None else _of_classes(listing, for_training(
        listing, flag, root
    ).classes)  # fmt: skip
    if listing.sides is None or tested is None:
        raise UserError(
            f"--fold final: --{flag} {root} has no rows of split test, on which its model is "
            "scored: leave it out"
        )
    known = for_training(listing, flag, root).classes
    other = np.array([name not in known for name in listing.classes], np.bool_)
    kept = listing.select(np.flatnonzero(~other[listing.videos.labels])).without_empty_classes()
    assert kept.sides is not None
    test = kept.sides == SIDES.index("test")
    sides = np.where(test, SIDES.index("val"), SIDES.index("train")).astype(np.int8)
    what = f"{root}: {test.sum()} videos, of split test, are scored once, after the last epoch"
    return replace(kept, sides=sides).with_remark("split-test", what)


def of_side(listing: Listing, side: Side, flag: str, root: Path) -> Listing:
    """The rows of a split alone, where a CSV says them, and all where it does not. Raises UserError
    where there are none."""
    rows = listing.rows_of(side)
    if listing.sides is None or len(rows) == len(listing.videos):
        return listing
    if not len(rows):
        raise UserError(
            f"--{flag} {root}: no row has split {side}; correct the column, or delete it"
        )
    left_out = len(listing.videos) - len(rows)
    what = f"{root}: {len(rows)} rows of split {side} are taken, {left_out} others left out"
    return listing.select(rows).without_empty_classes().with_remark(f"split-{side}", what)


def require_classes(classes: Sequence[str], flag: str, root: Path, single_class: bool) -> None:
    """Raise UserError, naming the flag, where there is nothing to tell apart, unless a
    ``single_class`` is enough."""
    if len(classes) < (1 if single_class else 2):
        only = f"only one class, {classes[0]!r}" if classes else "no class folder with videos"
        remedy = (
            "give class folders" if single_class else "a classifier needs videos of at least two"
        )
        raise UserError(f"--{flag} {root}: {only}; {remedy}")


def usable(
    listing: Listing, readable: NDArray[np.bool_], flag: str, root: Path,
    may_lack: str | None = None, fold: int | None = None,
) -> Listing:  # fmt: skip
    """``listing`` with the readable files alone, (N,); ``fold``: of a cross-validation, whose sides
    it has. Raises UserError where a class other than
    the one that it ``may_lack`` has none left."""
    left = listing.videos.select(np.flatnonzero(readable)).class_counts(len(listing.classes))
    counted = zip(listing.classes, left, strict=True)
    empty = [name for name, count in counted if not count and name != may_lack]
    if empty:
        raise UserError(
            f"--{flag} {root}: no video of class {few(empty, quoted=True)} can be read; replace "
            "them, or move the folder away"
        )
    kept = listing.select(np.flatnonzero(readable))
    for side in SIDES:
        if listing.sides is not None and len(listing.rows_of(side)) and not len(kept.rows_of(side)):
            of = f"of split {side}"
            if fold is not None:
                of = f"of fold {fold}" if side == "val" else f"outside of fold {fold}"
            raise UserError(f"--{flag} {root}: no video {of} can be read; replace them")
    return kept


def labelled_as(listing: Listing, classes: Sequence[str], flag: str, root: Path) -> Listing:
    """``listing`` with the labels of a model of ``classes``, some of which it may lack.

    Raises UserError, naming them, where it has others.
    """
    unknown = [name for name in listing.classes if name not in classes]
    if unknown:
        raise UserError(
            f"--{flag} {root}: the model does not know {few(unknown, quoted=True)}; its classes "
            f"are {few(classes, quoted=True)}: rename, or leave those videos out"
        )
    labels = np.array([classes.index(name) for name in listing.classes], np.int32)
    if (own := listing.videos.sets) is not None:
        sets = np.zeros((len(own), len(classes)), np.bool_)
        sets[:, labels] = own
        return replace(
            listing, classes=tuple(classes), videos=replace(listing.videos, sets=sets)
        )
    videos = replace(listing.videos, labels=labels[listing.videos.labels])
    return replace(listing, classes=tuple(classes), videos=videos)


def labelled_as_trained(val: Listing, train: Listing, root: Path) -> Listing:
    """The validation videos with the labels of the training's, some of which they may lack.

    Raises UserError, naming them, for classes that the training does not have.
    """
    if extra := [name for name in val.classes if name not in train.classes]:
        raise UserError(
            f"--data.val-dir {root}: has classes that --data.train-dir lacks, "
            f"{few(extra, quoted=True)}; rename them, or leave those videos out"
        )
    return labelled_as(val, train.classes, "data.val-dir", root)
