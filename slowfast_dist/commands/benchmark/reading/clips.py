"""CPU time to read a clip: ours by decoder, the plain way, the bare decode; and where ours goes."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from slowfast_dist.commands.benchmark.baselines import (
    SEED,
    STAGES,
    PlainClips,
    decode_bare,
    drawn_clip,
    frame_times,
    plain_reader,
    stage_seconds,
)
from slowfast_dist.commands.benchmark.output import Cost, Meter, cost_of
from slowfast_dist.commands.benchmark.videos import Group
from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.data.samples.batch import Batch, Sample, collate
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.workers import WorkerPlan, clip_loader, worker_context
from slowfast_dist.system.files import share_socket_folder
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.reader import Decoder

DECODERS: tuple[Decoder, ...] = ("pyav", "decord", "auto")
PREPARED = "auto, after prepare"
AUGMENTED = "pyav, augmented"

ALL_AUGMENTATION = AugmentConfig(
    crop_scale=(0.3, 1.0), rand_augment=9.0, erasing=0.25, speed=(0.8, 1.25)
)
"""All that a reader does, as strong as is usual."""


@dataclass
class GroupCosts:
    """Of each clip that all ways could read: its cost by way, and where the pyav reader's goes."""

    costs: dict[str, list[Cost]] = field(default_factory=dict)
    stages: list[dict[str, float]] = field(default_factory=list)
    """CPU milliseconds of clips whose stages can be told apart: "cpu_ms" in all, those of STAGES,
    and what they leave as "rest": handing over from the reader's process, and the unforeseen."""
    unreadable: list[str] = field(default_factory=list)
    """Why clips were left out."""


class ClipBenchmark:
    """All ways to read the same clips, which take turns so that a change of the machine's speed in
    the meantime meets them alike."""

    def __init__(
        self, videos: VideoTable, prepared: VideoTable | None, data: DataConfig,
        augmented: bool = False,
    ) -> None:  # fmt: skip
        """``prepared``: the same videos after prepare; ``augmented``: also with ALL_AUGMENTATION.
        """
        self.videos, self.data = videos, data
        self._plain = PlainClips(videos, data)
        self._ours: dict[str, TrainingClips] = {
            name: TrainingClips(videos, replace(data, decoder=name), SEED) for name in DECODERS
        }
        if prepared is not None:
            self._ours[PREPARED] = TrainingClips(prepared, replace(data, decoder="auto"), SEED)
        if augmented:
            pyav = replace(data, decoder="pyav")
            self._ours[AUGMENTED] = TrainingClips(videos, pyav, SEED, augment=ALL_AUGMENTATION)

    def warm_up(self, key: ClipKey) -> None:
        """Load the libraries and start our readers' processes."""
        for way in self._ways(key).values():
            way()

    def measure(self, group: Group, clips: int) -> GroupCosts:
        """Read ``clips`` clips of the group in every way."""
        result = GroupCosts()
        for turn, key in enumerate(group.keys(clips)):
            try:
                ways = self._ways(key)
                order = deque(ways)
                order.rotate(-turn)
                if turn % 2:  # none comes always after the same one
                    order.reverse()
                costs = {name: cost_of(ways[name]) for name in order}
            except DecodeError as error:
                result.unreadable.append(str(error))
                continue
            for name in ways:
                result.costs.setdefault(name, []).append(costs[name])
            if seconds := self._stages(key):
                parts = {name: 1e3 * seconds[name] for name in STAGES}
                whole = 1e3 * costs["pyav"].cpu
                rest = whole - sum(parts.values())
                result.stages.append({"cpu_ms": whole, **parts, "rest": rest})
        # A way that some videos rule out has no place beside those that read them all.
        done = max(map(len, result.costs.values()), default=0)
        result.costs = {name: all_ for name, all_ in result.costs.items() if len(all_) == done}
        return result

    def _ways(self, key: ClipKey) -> dict[str, Callable[[], object]]:
        path, info = self.videos.path(key.sample), self.videos.info(key.sample)
        ways: dict[str, Callable[[], object]] = {"plain": lambda: self._plain[key]}
        if (times := frame_times(path, info)) is not None:
            indices, _ = drawn_clip(info, self.data, key)
            ways["bare"] = partial(decode_bare, path, times, int(indices[0]), int(indices[-1]))
        for name, clips in self._ours.items():
            if name != "decord" or plain_reader(path, info) == "decord":
                ways[name] = partial(_read, clips, key)
        return ways

    def _stages(self, key: ClipKey) -> dict[str, float] | None:
        path, info = self.videos.path(key.sample), self.videos.info(key.sample)
        times = frame_times(path, info)
        if times is None or info.rotation:
            return None
        try:
            return stage_seconds(path, info, times, *drawn_clip(info, self.data, key))
        except DecodeError:  # as of frames that lean on an earlier group
            return None


def _read(clips: TrainingClips, key: ClipKey) -> None:
    """Raises DecodeError where training would have taken another video instead."""
    for failure in clips[key].failures:
        raise DecodeError(Path(f"video {failure.video}"), failure.reason)


# --- clips a second by the loader's processes, and what handing batches over costs ---------------

Batches = list[list[ClipKey]]


def worker_row(
    group: Group, videos: VideoTable, data: DataConfig, workers: int, clips: int
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
    clips_of = TrainingClips(videos, data, SEED)
    ours = clip_loader(clips_of, sampler, 1, WorkerPlan(workers), pin=False)
    ours_cost = _steady_cost(ours, workers)
    plain = _plain_loader(PlainClips(videos, data), batches, workers, _stack)
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
    collated, transfer = _collate_and_transfer(ours, _collate_ready)
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
    # Clips of a batch, batches that are handed over, and measurements, of which the median counts.
    batch_size, count, repeats = 4, 8, 5
    clips = [clip.clone() for _ in range(batch_size)]
    batches = [[ClipKey(0, 0)] * batch_size] * count

    def cpu_seconds(workers: int) -> float:
        return _steady_cost(_plain_loader(_Ready(clip), batches, workers, collate_fn), workers).cpu

    beyond = [cpu_seconds(1) - cpu_seconds(0) for _ in range(repeats)]
    collated = [cost_of(lambda: collate_fn(clips)).cpu for _ in range(2 * repeats)]
    return 1e3 * median(collated) / batch_size, 1e3 * median(beyond) / (batch_size * count)


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
        multiprocessing_context=worker_context() if workers else None,
    )


def _collate_ready(clips: list[Tensor]) -> Batch:
    return collate([Sample(clip, 0, 0, 0) for clip in clips])


def _stack(clips: list[Tensor]) -> Tensor:
    return default_collate(clips) if clips else torch.empty(0)


def _steady_cost(loader: DataLoader[Any], workers: int) -> Cost:
    """Of all batches but the first one of each worker, which tells that it has started. Each page
    of 4096 bytes of a batch is met by this process: one read maps the whole page."""
    batches = iter(loader)
    for _ in range(max(1, workers)):
        next(batches)
    meter = Meter()
    for batch in batches:
        frames = batch.frames if isinstance(batch, Batch) else batch
        frames.flatten()[:: 4096 // frames.element_size()].max()
    return meter.cost()
