"""Clips a second of the loader by its number of processes, and what handing batches over costs."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from slowfast_dist.benchmark.clips import Group, Video, plain_clips, training_clips
from slowfast_dist.config import DataConfig
from slowfast_dist.cpu_time import Cost, Meter, cost_of
from slowfast_dist.data.dataset import Batch, Sample, collate
from slowfast_dist.data.loaders import _loader
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.temporary import share_socket_folder

HANDED_OVER = 32
"""Clips that are handed over to find out what one costs."""

REPEATS = 5

BATCH = 4
"""Clips of a batch that is handed over."""

PAGE = 4096

Batches = list[list[ClipKey]]


def worker_row(
    group: Group, videos: Sequence[Video], data: DataConfig, workers: int, clips: int
) -> dict[str, Any]:
    """Clips a second by the clock on the wall, ours and the plain way's, and CPU milliseconds.

    Each worker reads the same ``clips`` clips, so that none waits for another one at the end; each
    clip is a batch of its own.
    """
    keys = [key for key in group.keys(clips) for _ in range(max(1, workers))]
    batches = [[key] for key in keys]
    # A clip first, with which our reader starts its own process.
    first = [batches[0]] * max(1, workers)
    sampler = cast(Sampler[Any], first + batches)
    ours = _loader(training_clips(videos, data), sampler, 1, workers, pin=False)
    ours_cost = _steady_cost(ours, workers)
    plain = _plain_loader(plain_clips(videos, data), batches, workers, _stack)
    plain_cost = _steady_cost(plain, workers)
    return {
        "videos": group.name,
        "workers": workers,
        "reader": data.decoder,
        "clips": len(keys),
        "clips_per_second": len(keys) / ours_cost.wall,
        "plain_clips_per_second": len(keys) / plain_cost.wall,
        "ratio": plain_cost.wall / ours_cost.wall,
        "cpu_ms": 1e3 * ours_cost.cpu / len(keys),
        "plain_cpu_ms": 1e3 * plain_cost.cpu / len(keys),
    }


def handover_row(data: DataConfig) -> dict[str, Any]:
    """CPU milliseconds a clip to make batches of clips, and to hand them over from one process to
    another: what a loader with one worker costs beyond one without, when clips cost nothing."""
    shape = (data.num_frames, data.crop_size, data.crop_size, 3)
    ours = torch.zeros(shape, dtype=torch.uint8).permute(0, 3, 1, 2)
    plain = torch.zeros(shape).permute(3, 0, 1, 2)
    collated, transfer = _collate_and_transfer(
        ours, lambda clips: collate([Sample(clip, 0, 0, 0) for clip in clips])
    )
    plain_collated, plain_transfer = _collate_and_transfer(plain, _stack)
    return {
        "collate_ms": collated,
        "transfer_ms": transfer,
        "plain_collate_ms": plain_collated,
        "plain_transfer_ms": plain_transfer,
        "ratio": (collated + transfer) / (plain_collated + plain_transfer),
    }


class _Ready(Dataset[Tensor]):
    """Clips that only have to be copied."""

    def __init__(self, clip: Tensor) -> None:
        self.clip = clip

    def __getitem__(self, _: ClipKey) -> Tensor:
        return self.clip.clone()


def _collate_and_transfer(
    clip: Tensor, collate_fn: Callable[[list[Tensor]], Any]
) -> tuple[float, float]:
    clips = [clip.clone() for _ in range(BATCH)]
    batches = [[ClipKey(0, 0)] * BATCH] * (HANDED_OVER // BATCH)

    def cpu_seconds(workers: int) -> float:
        return _steady_cost(_plain_loader(_Ready(clip), batches, workers, collate_fn), workers).cpu

    beyond = [cpu_seconds(1) - cpu_seconds(0) for _ in range(REPEATS)]
    collated = [cost_of(lambda: collate_fn(clips)).cpu for _ in range(2 * REPEATS)]
    return 1e3 * median(collated) / BATCH, 1e3 * median(beyond) / HANDED_OVER


def _plain_loader(
    clips: Dataset[Tensor], batches: Batches, workers: int, collate_fn: Callable[..., Any]
) -> DataLoader[Any]:
    started: Batches = [[] for _ in range(max(1, workers))]  # an empty batch from each worker
    share_socket_folder()
    return DataLoader(
        clips,
        batch_sampler=started + batches,
        num_workers=workers,
        collate_fn=collate_fn,
        persistent_workers=workers > 0,
    )


def _stack(clips: list[Tensor]) -> Tensor:
    return default_collate(clips) if clips else torch.empty(0)


def _steady_cost(loader: DataLoader[Any], workers: int) -> Cost:
    """Of all batches but the first one of each worker, which tells that it has started. Each page
    of a batch is met by this process."""
    batches = iter(loader)
    for _ in range(max(1, workers)):
        next(batches)
    meter = Meter()
    for batch in batches:
        frames = batch.frames if isinstance(batch, Batch) else batch
        frames.flatten()[:: PAGE // frames.element_size()].max()
    return meter.cost()
