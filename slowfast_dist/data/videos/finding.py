"""The videos of a training: listed, probed, and split where there is one root."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from slowfast_dist.annotations.importing.writing import LEFT_OUT, left_out, write_left_out
from slowfast_dist.annotations.labels import Remark, label_remarks, swap_table
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.fields import FINAL
from slowfast_dist.data.background.drawn import (
    ScoredBackground,
    add_background,
)
from slowfast_dist.data.background.gaps import Annotated
from slowfast_dist.data.clips import counts_frames
from slowfast_dist.data.listing.folds.parts import Part, hold_out, with_fewer
from slowfast_dist.data.listing.listing import Listing, labelled_as, usable
from slowfast_dist.data.listing.manifest import list_root, list_sides
from slowfast_dist.data.listing.split import (
    identical,
    shared_files,
    split_videos,
    unscored,
)
from slowfast_dist.data.pretext.unlabelled import find_unlabelled
from slowfast_dist.data.synthetic import make_demo_videos
from slowfast_dist.data.videos.probed import probe_listing, scorable
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.system.files import reason_of


def find_videos(
    data: DataConfig, seed: int, order: Sequence[str] | None = None, several: bool = False,
    part: Part | None = None, folder: Path | None = None,
) -> VideoSet:  # fmt: skip
    """List and probe the videos, leave out what cannot be read, and split where there is one root.

    ``order``: of the classes, in a run that goes on; ``several``: whether a clip may have several
    labels; ``part``: what is held out, in a cross-validation, in place of a split; ``folder``: of
    the run, where LEFT_OUT tells what an import on the way left out: without it nothing is written.
    Each process gets the result, so the times of frames are not in it where no clip is cut by them.
    Raises UserError, naming the flag, for a dataset that cannot be trained on.
    """
    if data.ways:
        found = find_unlabelled(data, seed)
    else:
        found = _find_videos(data, seed, order, several, part, folder)
    if not counts_frames(data):
        return found
    test = None if found.test is None else found.test.without_times()
    return replace(
        found, train=found.train.without_times(), val=found.val.without_times(), test=test
    )


def _find_videos(
    data: DataConfig, seed: int, order: Sequence[str] | None, several: bool, part: Part | None,
    folder: Path | None,
) -> VideoSet:
    if data.root is not None:
        if data.synthetic:
            make_demo_videos(data.root)
        final = part is not None and part.fold == FINAL
        listing = list_root(data, order, several, final, of_fold=part is not None)
        [listing] = with_left_out([listing], folder, "the run's folder")
        fold = part.fold if part is not None and isinstance(part.fold, int) else None
        if part is not None and not final:
            listing = hold_out(listing, part, data.background)
        elif listing.folds is not None:
            what = f"{data.root}: the column fold counts with --folds, and is not used here"
            listing = listing.with_remark("folds-unused", what)
        source = f"--data.root {data.root}"
        name = data.background
        listing, readable, rejected = probe_listing(listing, "the run's folder", source, data)
        listing = usable(listing, readable, "data.root", data.root, name, fold)
        split = split_videos(listing, data.val_fraction, seed, name, fold)
        if data.train_fraction < 1:
            split = with_fewer(split, data.train_fraction)
        found = VideoSet(
            listing.classes, split.train, split.val, rejected, True, split.remarks, split.drawn
        )
        found = _completed(found, (listing.annotated, listing.annotated), data, seed, order)
        if part is None and listing.tested is not None:
            found = _with_test(found, listing.tested, data, seed)
        return found
    assert data.train_dir is not None and data.val_dir is not None
    train, val = with_left_out(list_sides(data, order, several), folder, "the run's folder")
    name = data.background
    train, readable, rejected = probe_listing(
        train, "the run's folder", f"--data.train-dir {data.train_dir}", data
    )
    train = usable(train, readable, "data.train-dir", data.train_dir, name)
    val, readable, also_rejected = probe_listing(
        val, "the run's folder", f"--data.val-dir {data.val_dir}", data
    )
    val = scorable(val, readable, also_rejected, "data.val-dir", data.val_dir)
    said = (*train.remarks, *val.remarks)
    remedy = f"add some to --data.val-dir {data.val_dir}"
    said += tuple(unscored(val.videos, val.classes, remedy, name))
    said += tuple(shared_files(train.videos, val.videos))
    rejected += also_rejected
    found = VideoSet(train.classes, train.videos, val.videos, rejected, False, said, False)
    return _completed(found, (train.annotated, val.annotated), data, seed, order)


def _with_test(found: VideoSet, listing: Listing, data: DataConfig, seed: int) -> VideoSet:
    """With the rows of split test, ``listing``, cut and drawn as an evaluation does. Raises
    UserError where none can be read."""
    assert data.root is not None
    source, classes = f"--data.root {data.root}", found.classes
    listing = labelled_as(replace(listing, remarks=()), classes, "data.root", data.root)
    listing, readable, rejected = probe_listing(listing, "the run's folder", source, data)
    if not readable.any():
        name, reason, _ = rejected[0]
        raise UserError(
            f"{source}: no video of split test can be read, as {name}: {reason}; replace them, or "
            "delete these rows"
        )
    test, remarks = listing.videos.select(np.flatnonzero(readable)), listing.remarks
    if data.background is not None and listing.annotated is not None:
        seconds = found.segments().median_seconds() or 0.0
        drawn = ScoredBackground(data.background, data, seconds, seed)
        test, remark = drawn.added(listing.annotated, test, classes)
        remarks = (*remarks, remark)
    return replace(
        found, test=test, rejected=found.rejected + rejected, remarks=(*found.remarks, *remarks)
    )


def with_left_out(
    listings: Sequence[Listing], folder: Path | None, place: str
) -> list[Listing]:
    """The listings with the remark that LEFT_OUT in ``place`` tells what imports on the way left
    out; it is written there if there is a ``folder``. Raises RunError where it cannot be."""
    if folder is not None:
        try:
            notes = [one.imported.notes for one in listings if one.imported]
            write_left_out(folder / LEFT_OUT, left_out(notes))
        except OSError as error:
            raise RunError(f"{folder / LEFT_OUT}: cannot be written ({reason_of(error)})") from None
    return [one.left_out_to(f"{LEFT_OUT} in {place}") for one in listings]


def _completed(
    found: VideoSet, annotated: tuple[Annotated | None, Annotated | None], data: DataConfig,
    seed: int, order: Sequence[str] | None,
) -> VideoSet:  # fmt: skip
    """With the background, and the remarks on the names of classes and on copies across the
    split."""
    if data.background is not None:
        more = add_background(
            annotated, found.train, found.val, found.classes, data, seed, order
        )
        found = replace(
            found, classes=more.classes, train=more.train, val=more.val,
            background=more.background, remarks=(*found.remarks, *more.remarks),
        )  # fmt: skip
    weights = found.train.weights
    if weights is not None and len(other := weights[weights != 1]):
        what = f"{len(other)} of {len(weights)} training rows weigh {other.min():g} to "
        what += f"{other.max():g} times as much as others in the loss; validation weighs all alike"
        said = Remark("info", "weights", what)
        found = replace(found, remarks=(*found.remarks, said))
    if sampling := found.class_sampling(data.class_sampling):
        what = sampling.describe(found.classes, data.class_sampling)
        said = Remark("info", "sampling", what)
        found = replace(found, remarks=(*found.remarks, said))
    counts = found.train_counts() + found.val.class_counts(len(found.classes))
    named = dict(zip(found.classes, counts.tolist(), strict=True))
    also = label_remarks(named, data.flip, data.flip_pairs)
    return replace(
        found, remarks=(*found.remarks, *also, *identical(found.train, found.val)),
        swaps=swap_table(data.flip_pairs, found.classes),
    )  # fmt: skip
