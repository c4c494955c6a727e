"""The loaders of one process: clips of the usable videos, by its sampler."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from torch.utils.data import DataLoader

from slowfast_dist.config.training import Config
from slowfast_dist.data.cache.frames import FrameCache
from slowfast_dist.data.pretext.ways import SHOWINGS
from slowfast_dist.data.sampler import (
    DistributedBatchSampler,
    EvaluationSampler,
)
from slowfast_dist.data.samples.batch import Batch, batch_bytes
from slowfast_dist.data.samples.dataset import ClipDataset
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.data.workers import (
    WorkerPlan,
    clip_loader,
    plan_workers,
    require_shared_memory,
)
from slowfast_dist.system.log import logger


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
        videos.train, data, config.seed, videos.background, config.augment, videos.swaps,
        videos.ways,
    )  # fmt: skip
    sampler = DistributedBatchSampler(
        len(train), config.global_batch_size, micro_batch, config.seed, rank, world_size,
        videos.class_sampling(data.class_sampling), SHOWINGS if videos.ways else 1,
    )  # fmt: skip
    val = EvaluationClips(videos.val, data, evaluation.temporal_views, evaluation.spatial_crops,
                          videos.ways)  # fmt: skip
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
