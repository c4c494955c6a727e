"""From the data settings to the loaders of one process: list, probe, split, sample."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from slowfast_dist.config import Config, DataConfig
from slowfast_dist.data.dataset import Batch, EvaluationClips, TrainingClips, collate
from slowfast_dist.data.manifest import (
    Listing,
    VideoRecord,
    list_videos,
    require_same_classes,
    usable,
)
from slowfast_dist.data.probe import default_cache, probe_videos
from slowfast_dist.data.sampler import DistributedBatchSampler, EvaluationSampler
from slowfast_dist.data.split import split_videos
from slowfast_dist.data.synthetic import make_demo_videos
from slowfast_dist.data.video import VideoInfo

MAX_WORKERS = 8


@dataclass(frozen=True)
class VideoSet:
    """The usable videos of a run.

    ``infos``: what the probe found, by path; ``rejected``: (path below its root, reason, "probe")
    of what it left out; ``was_split``: whether training and validation were parted here;
    ``warnings``: lines for the user.
    """

    classes: tuple[str, ...]
    train: tuple[VideoRecord, ...]
    val: tuple[VideoRecord, ...]
    infos: dict[Path, VideoInfo]
    rejected: tuple[tuple[str, str, str], ...]
    was_split: bool
    warnings: tuple[str, ...]

    def balanced_weights(self) -> NDArray[np.float64]:
        """(K,): N / (K n_k) for a class of n_k of the N training videos, so 1 on average."""
        counts = np.bincount([video.label for video in self.train], minlength=len(self.classes))
        return len(self.train) / (len(self.classes) * np.maximum(counts, 1))

    def fingerprint(self) -> str:
        """Of classes and of each side's videos in order: a resume needs the same."""
        digest = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        for side in (self.train, self.val):
            for video in side:
                line = f"\n{video.label}\t{video.name}"
                digest.update(line.encode("utf-8", "surrogateescape"))
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
        readable, infos, rejected = _probe(listing, "data.root", data.root)
        split = split_videos(readable, data.val_fraction, seed)
        return VideoSet(
            listing.classes, split.train, split.val, infos, rejected, True, split.warnings
        )
    assert data.train_dir is not None and data.val_dir is not None
    train = list_videos(data.train_dir, "data.train-dir")
    val = list_videos(data.val_dir, "data.val-dir")
    require_same_classes(train, val)
    train, infos, rejected = _probe(train, "data.train-dir", data.train_dir)
    val, val_infos, val_rejected = _probe(val, "data.val-dir", data.val_dir)
    return VideoSet(
        train.classes,
        train.videos,
        val.videos,
        infos | val_infos,
        rejected + val_rejected,
        False,
        (),
    )


def _probe(
    listing: Listing, flag: str, root: Path
) -> tuple[Listing, dict[Path, VideoInfo], tuple[tuple[str, str, str], ...]]:
    """What can be read of a listing, what the probe found of it by path, and what it rejected."""
    paths = [video.path for video in listing.videos]
    found = probe_videos(paths, available_cpus(), default_cache(), show_progress=True)
    infos = {path: info for path, info in found.items() if isinstance(info, VideoInfo)}
    rejected = tuple(
        (video.name, reason, "probe")
        for video in listing.videos
        if isinstance(reason := found[video.path], str)
    )
    if rejected:
        name, reason, _ = rejected[0]
        print(
            f"{len(rejected)} of {len(paths)} videos cannot be read and are left out, as {name}: "
            f"{reason} (unreadable_videos.csv in the run's folder lists them)"
        )
    return usable(listing, infos, flag, root), infos, rejected


@dataclass(frozen=True)
class Loaders:
    """``train`` is in the order of ``sampler``; ``val`` gives ``views`` views of each video."""

    train: DataLoader[Batch]
    val: DataLoader[Batch]
    sampler: DistributedBatchSampler
    views: int


def make_loaders(
    config: Config, videos: VideoSet, rank: int, world_size: int, local_processes: int, pin: bool
) -> Loaders:
    """The loaders of process ``rank`` of ``world_size``, ``local_processes`` of them on this host.

    ``pin`` batches in memory from which copies to a GPU need not wait.
    """
    data, evaluation, micro_batch = config.data, config.evaluation, config.micro_batch_size
    sampler = DistributedBatchSampler(
        len(videos.train), config.global_batch_size, micro_batch, config.seed, rank, world_size
    )
    train = TrainingClips(videos.train, videos.infos, data, config.seed)
    val = EvaluationClips(
        videos.val, videos.infos, data, evaluation.temporal_views, evaluation.spatial_crops
    )
    val_sampler = EvaluationSampler(len(videos.val), val.views, micro_batch, rank, world_size)
    workers = decoding_workers(data.num_workers, local_processes)

    def loader(dataset: TrainingClips | EvaluationClips, batches: Sampler[Any]) -> Any:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin,
            persistent_workers=workers > 0,
        )

    return Loaders(loader(train, sampler), loader(val, val_sampler), sampler, val.views)


def available_cpus() -> int:
    """CPUs that this process may use (macOS and Windows only say how many there are)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decoding_workers(requested: int | str, local_processes: int) -> int:
    """DataLoader workers of one process; auto shares the host's CPUs out, at least 1, at most 8."""
    if isinstance(requested, int):
        return requested
    return max(1, min(MAX_WORKERS, available_cpus() // local_processes - 1))
