"""From the data settings to the loaders of one process: list, probe, split, sample."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from slowfast_dist.annotations.importing.writing import LEFT_OUT, left_out, write_left_out
from slowfast_dist.annotations.labels import Remark, label_remarks, log_remarks, swap_table
from slowfast_dist.annotations.table import Side
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.fields import FINAL
from slowfast_dist.config.training import Config
from slowfast_dist.data.background.drawn import (
    Background,
    ScoredBackground,
    add_background,
)
from slowfast_dist.data.background.gaps import Annotated
from slowfast_dist.data.cache.frames import FrameCache
from slowfast_dist.data.clips import counts_frames
from slowfast_dist.data.dataset import (
    Batch,
    ClipDataset,
    EvaluationClips,
    TrainingClips,
    batch_bytes,
)
from slowfast_dist.data.image_folders import gap_remarks, require_image_rates
from slowfast_dist.data.listing.columns import CHUNK
from slowfast_dist.data.listing.folds.parts import Part, hold_out, with_fewer
from slowfast_dist.data.listing.listing import Listing, labelled_as, of_side, usable
from slowfast_dist.data.listing.manifest import list_root, list_sides, list_videos
from slowfast_dist.data.listing.split import (
    identical,
    shared_files,
    shared_rows,
    split_videos,
    unscored,
)
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.listing.whole_files import of_whole_files
from slowfast_dist.data.locating import place_segments
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.data.sampler import (
    ClassSampling,
    DistributedBatchSampler,
    EvaluationSampler,
    class_shares,
)
from slowfast_dist.data.synthetic import make_demo_videos
from slowfast_dist.data.workers import (
    WorkerPlan,
    clip_loader,
    plan_workers,
    require_shared_memory,
)
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.system.files import reason_of
from slowfast_dist.system.log import logger
from slowfast_dist.system.messages import sendable
from slowfast_dist.video.pictures import PictureCounts


@sendable
@dataclass(frozen=True)
class VideoSet:
    """The usable videos of a run.

    ``train`` and ``val`` come with what the probe found; ``rejected``: (path below its root,
    reason, "probe") of what it left out; ``was_split``: whether they are of one root, ``drawn``:
    whether its sides were drawn here, and not given; ``remarks``: what the user should know.
    ``background``: which rows of ``train`` are gaps, from which an epoch's clips are drawn;
    ``swaps`` (K,): the class that each becomes in a mirror (--data.flip-pairs), None: itself.
    """

    classes: tuple[str, ...]
    train: VideoTable
    val: VideoTable
    rejected: tuple[tuple[str, str, str], ...]
    was_split: bool
    remarks: tuple[Remark, ...]
    drawn: bool = True
    background: Background | None = None
    test: VideoTable | None = None
    """The rows of split test, which are scored once at the end; None: there are none."""
    swaps: NDArray[np.int64] | None = None

    def train_counts(self) -> NDArray[np.int64]:
        """(K,): training clips of each class in an epoch: one a video or segment, and those that
        are drawn from gaps."""
        counts = self.train.class_counts(len(self.classes))
        if self.background is not None:
            counts[self.background.label] = self.background.clips
        return counts

    def class_sampling(self, how: str) -> ClassSampling | None:
        """What draws an epoch's clips, by --data.class-sampling; None: each once."""
        if how == "natural":
            return None
        labels = self.segments().labels.astype(np.int64)
        if self.background is not None:
            gaps = np.full(self.background.clips, self.background.label)
            labels = np.concatenate([labels, gaps])
        return ClassSampling(labels, class_shares(self.train_counts(), how))

    def log_priors(self, how: str) -> NDArray[np.float64]:
        """(K,): the logarithm of each class's share of the clips that a training shows with this
        --data.class-sampling; of a class without any as if it had one. Of classes that a mirror
        swaps half the clips of each are shown as the other's."""
        counts = self.train_counts()
        swaps = np.arange(len(counts)) if self.swaps is None else self.swaps
        shares = class_shares(np.where(counts + counts[swaps] > 0, counts, 1), how)
        return np.asarray(np.log((shares + shares[swaps]) / 2), np.float64)

    def segments(self) -> VideoTable:
        """The training videos, or parts of them, without gaps."""
        if self.background is None:
            return self.train
        return self.train.select(np.arange(self.background.first))

    def balanced_weights(self) -> NDArray[np.float64]:
        """(K,): N / (K n_k) for a class of n_k of the N training clips, so 1 on average. With
        several labels a clip (N - n_k) / n_k, which gives a class as much weight where it is there
        as where it is not (torch's pos_weight). Of classes that a mirror swaps half the clips of
        each count for the other."""
        counts = self.train_counts().astype(np.float64)
        if self.swaps is not None:
            counts = (counts + counts[self.swaps]) / 2
        counts = np.maximum(counts, 1)
        if self.train.sets is not None:
            return np.maximum(len(self.train) - counts, 1) / counts
        return self.train_counts().sum() / (len(self.classes) * counts)

    def kinds(self) -> "Counter[tuple[str, bool]]":
        """As `VideoTable.kinds`, of both sides; a file that has parts on both counts once."""
        return self.train.kinds() + self._val_alone().kinds()

    def pictures(self) -> PictureCounts:
        """As `VideoTable.pictures`, of both sides; a file that has parts on both counts once."""
        return self.train.pictures() + self._val_alone().pictures()

    def _val_alone(self) -> VideoTable:
        if self.val.segments is None or self.train.segments is None:
            return self.val
        val = self.val.per_file()
        rows = np.setdiff1d(np.arange(len(val)), shared_rows(self.train, self.val))
        return val.select(rows)

    def fingerprint(self) -> str:
        """Of classes and of each side's samples in order: a resume needs the same."""
        digest = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        for side in (self.train, self.val):
            lines = zip(side.labels.tolist(), side.names.parts(), strict=True)
            while some := b"".join(b"\n%d\t%s" % line for line in islice(lines, CHUNK)):
                digest.update(some)
            if side.sets is not None:
                digest.update(side.sets.tobytes())
            if side.segments is not None and side.segments.any_part:
                digest.update(side.segments.bounds.tobytes())
            if side.segments is not None and side.segments.boxes is not None:
                digest.update(side.segments.boxes.tobytes())
            if side is self.train and side.weights is not None:
                digest.update(side.weights.tobytes())
            digest.update(b"\n")
        return digest.hexdigest()


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
        listing = list_root(data, order, several, final)
        [listing] = with_left_out([listing], folder, "the run's folder")
        fold = part.fold if part is not None and isinstance(part.fold, int) else None
        if part is not None and not final:
            listing = hold_out(listing, part, data.background)
        elif listing.folds is not None:
            what = f"{data.root}: the column fold counts with --folds, and is not used here"
            listing = listing.with_remark("folds-unused", what)
        source = f"--data.root {data.root}"
        name = data.background
        listing, readable, rejected = _probe(listing, "the run's folder", source, data)
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
    train, readable, rejected = _probe(
        train, "the run's folder", f"--data.train-dir {data.train_dir}", data
    )
    train = usable(train, readable, "data.train-dir", data.train_dir, name)
    val, readable, also_rejected = _probe(
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
    listing, readable, rejected = _probe(listing, "the run's folder", source, data)
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


@sendable
@dataclass(frozen=True)
class LabelledVideos:
    """The readable videos of an evaluation; ``rejected`` as in VideoSet. ``split``: which rows they
    are of a CSV with a column split, all or those of one; None without such a column."""

    videos: VideoTable
    rejected: tuple[tuple[str, str, str], ...]
    split: Side | Literal["all"] | None = None
    left_out: str = ""
    """The text of LEFT_OUT, where an import on the way left rows out."""


def find_labelled_videos(
    root: Path, flag: str, classes: Sequence[str], start: Path | None = None,
    split: Side | Literal["all"] | None = None, several: bool = False,
    data: DataConfig | None = None, drawn: ScoredBackground | None = None,
    whole_files: bool = False,
) -> LabelledVideos:  # fmt: skip
    """List and probe videos for a model of ``classes``, and leave out what cannot be read.
    ``data`` (None: the defaults) cuts its clips.

    ``split``: which rows of a CSV with a column split count; None: test where there are any, else
    val, else all. ``several``: whether a video may have several labels. A class may be missing, or
    have no readable video. ``drawn``: what a model with a background takes of the gaps between
    segments; ``whole_files``: without those of files that have other rows, too. Raises UserError,
    naming ``flag``, for a class that the model does not know, and where no video can be read.
    """
    listing = list_videos(
        root, flag, start=start, single_class=True, may_be_empty=True, several=several,
        image_fps=data.image_fps if data else None,
    )  # fmt: skip
    if listing.sides is None and split is not None:
        raise UserError(f"--split {split}: {root} has no column split; leave it out")
    if listing.sides is not None:
        sides: tuple[Side, ...] = ("test", "val")
        split = split or next((side for side in sides if len(listing.rows_of(side))), "all")
    if split is not None and split != "all":
        chosen = of_side(listing, split, flag, root)
        listing = of_whole_files(chosen, listing, flag, root) if whole_files else chosen
    listing = labelled_as(listing, classes, flag, root)
    return replace(readable_videos(listing, root, flag, data, drawn), split=split)


def readable_videos(
    listing: Listing, root: Path, flag: str, data: DataConfig | None = None,
    drawn: ScoredBackground | None = None,
) -> LabelledVideos:  # fmt: skip
    """The same for videos that are listed already, of which it says what is to be known of the
    list; ``root``, of ``flag``, is what named them."""
    data = data or DataConfig()
    if data.background is not None and listing.annotated is not None:
        listing.annotated.require_all(
            f"--{flag} {root}, for a model with the background {data.background!r}"
        )
    listing = listing.left_out_to(f"{LEFT_OUT} in the output")
    listing, readable, rejected = _probe(listing, "the output", f"--{flag} {root}", data)
    log_remarks(listing.remarks)
    videos = scorable(listing, readable, rejected, flag, root).videos
    if drawn is not None and listing.annotated is not None:
        videos, remark = drawn.added(listing.annotated, videos, listing.classes)
        log_remarks([remark])
    notes = [listing.imported.notes] if listing.imported else []
    return LabelledVideos(videos, rejected, left_out="".join(left_out(notes)))


def scorable(
    listing: Listing, readable: NDArray[np.bool_], rejected: Sequence[tuple[str, str, str]],
    flag: str, root: Path,
) -> Listing:  # fmt: skip
    """``listing`` with the readable files alone, (N,). Raises UserError where there is none."""
    if not readable.any():
        name, reason, _ = rejected[0]
        raise UserError(
            f"--{flag} {root}: none of the videos can be read, as {name}: {reason}; replace them"
        )
    return listing.select(np.flatnonzero(readable))


def _probe(
    listing: Listing, place: str, source: str, data: DataConfig
) -> tuple[Listing, NDArray[np.bool_], tuple[tuple[str, str, str], ...]]:
    """The listing with what the probe found, which samples can be read (N,), and what it rejected:
    ``place`` will list that. ``source``: the flag and what it names, for a message; ``data`` cuts
    the clips, and names the background."""
    videos = listing.videos
    shown = logger.isEnabledFor(logging.INFO)
    found = probe_videos(videos, available_cpus(), default_cache(), shown, data.image_fps)
    require_image_rates(found.reasons, videos, source)
    unread = {videos.names[row]: reason for row, reason in sorted(found.reasons.items())}
    rejected = [(name, reason, "probe") for name, reason in unread.items()]
    if rejected:
        name, reason, _ = rejected[0]
        files = len(videos) if videos.segments is None else len(videos.file_rows()[0])
        logger.info(
            f"{len(rejected)} of {files} videos cannot be read and are left out, as {name}: "
            f"{reason} (unreadable_videos.csv in {place} lists them)"
        )
    classes, background = listing.classes, data.background
    label = classes.index(background) if background in classes else -1
    placed = place_segments(
        videos.probed(found.infos), found.readable, source, data.crop_box, label
    )
    rejected += [(videos.sample(row), why, "list") for row, why in sorted(placed.reasons.items())]
    listing = replace(
        listing, videos=placed.videos,
        remarks=(*listing.remarks, *placed.remarks, *gap_remarks(placed.videos)),
    )
    return listing, found.readable & placed.inside, tuple(rejected)


@dataclass(frozen=True)
class Loaders:
    """``train`` is in the order of ``sampler``; ``val`` gives ``views`` views of each video."""

    train: DataLoader[Batch]
    val: DataLoader[Batch]
    sampler: DistributedBatchSampler
    views: int

    def give_up(self, videos: Iterable[int]) -> None:
        """Never read these training videos again: see `ClipDataset.give_up`."""
        cast(TrainingClips, self.train.dataset).give_up(videos)

    def let_go_of_frames(self) -> None:
        """Keep no decoded frames any more: nothing is read from now on."""
        for loader in (self.train, self.val):
            cast(ClipDataset, loader.dataset).keep_frames(None)


def make_loaders(
    config: Config, videos: VideoSet, rank: int, world_size: int, local_processes: int, pin: bool,
    caches: tuple[FrameCache, FrameCache] | None = None,
) -> Loaders:  # fmt: skip
    """The loaders of process ``rank`` of ``world_size``, ``local_processes`` of them on this host.

    ``pin`` batches in memory from which copies to a GPU need not wait; ``caches``: where decoded
    frames of the training's and of the validation's videos are kept.
    """
    data, evaluation, micro_batch = config.data, config.evaluation, config.micro_batch_size
    assert micro_batch != "auto"  # by now a number was chosen
    train = TrainingClips(
        videos.train, data, config.seed, videos.background, config.augment, videos.swaps
    )
    sampler = DistributedBatchSampler(
        len(train), config.global_batch_size, micro_batch, config.seed, rank, world_size,
        videos.class_sampling(data.class_sampling),
    )  # fmt: skip
    val = EvaluationClips(videos.val, data, evaluation.temporal_views, evaluation.spatial_crops)
    if caches is not None:
        train.keep_frames(caches[0])
        val.keep_frames(caches[1])
    loaders, size = 2, batch_bytes(data, micro_batch)  # the workers of both stay
    plan = plan_workers(data.num_workers, local_processes, size, loaders)
    for note in plan.notes:
        logger.info(note)
    require_shared_memory(plan, size, loaders)
    return Loaders(
        clip_loader(train, sampler, micro_batch, plan, pin),
        make_evaluation_loader(val, micro_batch, plan, rank, world_size, pin),
        sampler,
        val.views,
    )


def make_evaluation_loader(
    clips: EvaluationClips, batch_size: int, workers: WorkerPlan | int, rank: int, world_size: int,
    pin: bool,
) -> DataLoader[Batch]:  # fmt: skip
    """The share of process ``rank`` of ``world_size``: over all, each view of each video once."""
    batches = EvaluationSampler(
        len(clips.videos), clips.views, batch_size, rank, world_size, clips.spatial_crops,
        clips.reading_order(),
    )  # fmt: skip
    plan = WorkerPlan(workers) if isinstance(workers, int) else workers
    return clip_loader(clips, batches, batch_size, plan, pin)
