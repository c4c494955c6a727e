"""From the data settings to the loaders of one process: list, probe, split, sample."""

import hashlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config, DataConfig
from slowfast_dist.data.columns import CHUNK
from slowfast_dist.data.dataset import Batch, EvaluationClips, TrainingClips, collate
from slowfast_dist.data.manifest import (
    Listing,
    labelled_as,
    list_videos,
    require_same_classes,
    usable,
)  # fmt: skip
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.data.sampler import DistributedBatchSampler, EvaluationSampler
from slowfast_dist.data.split import split_videos
from slowfast_dist.data.synthetic import make_demo_videos
from slowfast_dist.data.video_table import VideoTable
from slowfast_dist.system import signals
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.system.files import share_socket_folder
from slowfast_dist.system.log import logger
from slowfast_dist.system.messages import sendable
from slowfast_dist.video.guarded_reader import DECODE_SECONDS

MAX_WORKERS = 8
"""Workers of a loader that `auto` starts at most: each takes memory for the batches that wait."""

MOST_SECONDS = 500.0
"""Seconds after which a batch is given up at the latest. It is less than the other processes wait
(distributed.SLOW_PROCESS_SECONDS), so that the one which is stuck says so."""

STALL_SECONDS = 60.0
"""Seconds for all that a worker does beside decoding: to start, and to hand a batch over."""


@sendable
@dataclass(frozen=True)
class VideoSet:
    """The usable videos of a run.

    ``train`` and ``val`` come with what the probe found; ``rejected``: (path below its root,
    reason, "probe") of what it left out; ``was_split``: whether training and validation were parted
    here; ``warnings``: lines for the user.
    """

    classes: tuple[str, ...]
    train: VideoTable
    val: VideoTable
    rejected: tuple[tuple[str, str, str], ...]
    was_split: bool
    warnings: tuple[str, ...]

    def balanced_weights(self) -> NDArray[np.float64]:
        """(K,): N / (K n_k) for a class of n_k of the N training videos, so 1 on average."""
        counts = np.bincount(self.train.labels, minlength=len(self.classes))
        return len(self.train) / (len(self.classes) * np.maximum(counts, 1))

    def fingerprint(self) -> str:
        """Of classes and of each side's videos in order: a resume needs the same."""
        digest = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        for side in (self.train, self.val):
            lines = zip(side.labels.tolist(), side.names.parts(), strict=True)
            while some := b"".join(b"\n%d\t%s" % line for line in islice(lines, CHUNK)):
                digest.update(some)
            digest.update(b"\n")
        return digest.hexdigest()


def find_videos(data: DataConfig, seed: int) -> VideoSet:
    """List and probe the videos, leave out what cannot be read, and split where there is one root.

    Raises UserError, naming the flag, for a dataset that cannot be trained on.
    """
    if data.root is not None:
        if data.synthetic:
            make_demo_videos(data.root)
        listing = list_videos(data.root, "data.root", data.group_pattern)
        listing, readable, rejected = _probe(listing, "the run's folder")
        listing = usable(listing, readable, "data.root", data.root)
        split = split_videos(listing, data.val_fraction, seed)
        return VideoSet(listing.classes, split.train, split.val, rejected, True, split.warnings)
    assert data.train_dir is not None and data.val_dir is not None
    train = list_videos(data.train_dir, "data.train-dir")
    val = list_videos(data.val_dir, "data.val-dir")
    require_same_classes(train, val)
    train, readable, rejected = _probe(train, "the run's folder")
    train = usable(train, readable, "data.train-dir", data.train_dir)
    val, readable, also_rejected = _probe(val, "the run's folder")
    val = usable(val, readable, "data.val-dir", data.val_dir)
    return VideoSet(train.classes, train.videos, val.videos, rejected + also_rejected, False, ())


@sendable
@dataclass(frozen=True)
class LabelledVideos:
    """The readable videos of an evaluation; ``rejected`` as in VideoSet."""

    videos: VideoTable
    rejected: tuple[tuple[str, str, str], ...]


def find_labelled_videos(root: Path, flag: str, classes: Sequence[str]) -> LabelledVideos:
    """List and probe videos for a model of ``classes``, and leave out what cannot be read.

    A class may be missing, or have no readable video. Raises UserError, naming ``flag``, for a
    class that the model does not know, and where no video can be read.
    """
    listing = labelled_as(list_videos(root, flag, single_class=True), classes, flag, root)
    return readable_videos(listing, root, flag)


def readable_videos(listing: Listing, root: Path, flag: str) -> LabelledVideos:
    """The same for videos that are listed already; ``root``, of ``flag``, is what named them."""
    listing, readable, rejected = _probe(listing, "the output")
    if not readable.any():
        name, reason, _ = rejected[0]
        raise UserError(
            f"--{flag} {root}: none of the videos can be read, as {name}: {reason}; replace them"
        )
    return LabelledVideos(listing.videos.select(np.flatnonzero(readable)), rejected)


def _probe(
    listing: Listing, place: str
) -> tuple[Listing, NDArray[np.bool_], tuple[tuple[str, str, str], ...]]:
    """The listing with what the probe found, which videos can be read (N,), and what it rejected:
    ``place`` will list that."""
    videos = listing.videos
    shown = logger.isEnabledFor(logging.INFO)
    found = probe_videos(videos, available_cpus(), default_cache(), show_progress=shown)
    rejected = tuple(
        (videos.names[row], reason, "probe") for row, reason in sorted(found.reasons.items())
    )
    if rejected:
        name, reason, _ = rejected[0]
        logger.info(
            f"{len(rejected)} of {len(videos)} videos cannot be read and are left out, as {name}: "
            f"{reason} (unreadable_videos.csv in {place} lists them)"
        )
    return Listing(listing.classes, videos.probed(found.infos)), found.readable, rejected


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


def make_loaders(
    config: Config, videos: VideoSet, rank: int, world_size: int, local_processes: int, pin: bool
) -> Loaders:
    """The loaders of process ``rank`` of ``world_size``, ``local_processes`` of them on this host.

    ``pin`` batches in memory from which copies to a GPU need not wait.
    """
    data, evaluation, micro_batch = config.data, config.evaluation, config.micro_batch_size
    assert micro_batch != "auto"  # by now a number was chosen
    sampler = DistributedBatchSampler(
        len(videos.train), config.global_batch_size, micro_batch, config.seed, rank, world_size
    )
    train = TrainingClips(videos.train, data, config.seed)
    val = EvaluationClips(videos.val, data, evaluation.temporal_views, evaluation.spatial_crops)
    workers = decoding_workers(data.num_workers, local_processes)
    return Loaders(
        _loader(train, sampler, micro_batch, workers, pin),
        make_evaluation_loader(val, micro_batch, workers, rank, world_size, pin),
        sampler,
        val.views,
    )


def make_evaluation_loader(
    clips: EvaluationClips, batch_size: int, workers: int, rank: int, world_size: int, pin: bool
) -> DataLoader[Batch]:
    """The share of process ``rank`` of ``world_size``: over all, each view of each video once."""
    batches = EvaluationSampler(
        len(clips.videos), clips.views, batch_size, rank, world_size, clips.spatial_crops
    )
    return _loader(clips, batches, batch_size, workers, pin)


def batch_seconds(batch_size: int) -> float:
    """After which a loader gives its workers up.

    Videos that hang do not take that long: the guard's limit ends each of them. Every clip of a
    batch may meet two and then be decoded in as much time; that still more of its replacements
    hang, where --data.max-bad-fraction lets so few go, is the storage's fault. What remains is a
    worker that is stopped or stuck outside the decoder.
    """
    return min(STALL_SECONDS + batch_size * 3 * DECODE_SECONDS, MOST_SECONDS)


def _loader(
    clips: TrainingClips | EvaluationClips, batches: Sampler[Any], batch_size: int, workers: int,
    pin: bool,
) -> Any:  # fmt: skip
    if workers:
        share_socket_folder()
    return DataLoader(
        clips,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        persistent_workers=workers > 0,
        timeout=batch_seconds(batch_size) if workers else 0,
        worker_init_fn=_start_worker,
    )


def _start_worker(_: int) -> None:
    training_process = multiprocessing.parent_process()
    assert training_process is not None and training_process.pid is not None
    signals.serve_parent(training_process.pid)


def decoding_workers(requested: int | str, local_processes: int) -> int:
    """DataLoader workers of one process; auto shares the host's CPUs out, at least 1, at most 8."""
    if isinstance(requested, int):
        return requested
    cpus = available_cpus() // local_processes
    if os.environ.get("SLURM_STEP_NUM_TASKS") == os.environ.get("WORLD_SIZE", "1"):
        # A task of SLURM's may be bound to its own CPUs already.
        cpus = max(cpus, min(int(os.environ.get("SLURM_CPUS_PER_TASK", "0")), available_cpus()))
    return max(1, min(MAX_WORKERS, cpus - 1))


def end_workers(*loaders: DataLoader[Any]) -> None:
    """End the loaders' processes at once, whatever they do: nothing is read any more.

    By themselves they would end their batch first, and one that is stuck would never end.
    """
    if not hasattr(signal, "SIGCHLD"):
        return
    # torch's handler takes a worker that was killed for a fault, and raises wherever we are. It is
    # set by the first thread alone, which alone may alter it.
    is_first = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if is_first else None
    try:
        for worker in multiprocessing.active_children():
            worker.kill()
        for loader in loaders:
            iterator, loader._iterator = loader._iterator, None
            if isinstance(iterator, _MultiProcessingDataLoaderIter):
                iterator._shutdown_workers()  # or torch would go on asking how they are
    finally:
        if is_first:
            signal.signal(signal.SIGCHLD, handler)
