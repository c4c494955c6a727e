"""CPU time of reading in the epochs of a training that keeps decoded frames, and of one that does
not, in turn: ``benchmark loader --cache SIZE``."""

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
import torch

from slowfast_dist.commands.benchmark.baselines import SEED
from slowfast_dist.commands.benchmark.output import (
    cost_of,
    machine_facts,
    print_progress,
    print_table,
)
from slowfast_dist.commands.benchmark.videos import Group, clip_settings
from slowfast_dist.config.benchmark import BenchmarkLoader
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.training import Config
from slowfast_dist.data.cache.plan import make_store, parts_of, plan_cache
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.data.samples.batch import Sample
from slowfast_dist.data.samples.training import TrainingClips


def measure_kept(
    videos: VideoTable, groups: Sequence[Group], command: BenchmarkLoader
) -> dict[str, Any]:
    """Read a clip of each video in every epoch in both ways. Raises UserError for a size of the
    cache that does not fit.

    ``ratio``: CPU time of the later epochs, with frames that are kept over without; how many of
    its clips were not the same, bit for bit, is ``different``.
    """
    torch.set_num_threads(1)  # as torch has it in the processes of a loader
    data = DataConfig(
        **clip_settings(command), cache=command.cache, cache_dir=command.cache_dir
    )
    none = videos.select(np.arange(0))
    length = max(Config().epochs, command.epochs)
    plan = plan_cache(data, videos, none, length)
    print_progress(plan.line)
    ways = {name: TrainingClips(videos, data, SEED) for name in ("off", "kept")}
    plan, store = make_store(plan, data, videos, none)
    if store is not None:
        ways["kept"].keep_frames(parts_of(store, plan, videos, length)[0])
    costs: dict[str, list[list[float]]] = {name: [] for name in ways}
    different = 0
    # Its epoch is not one that is measured, and keeps nothing: it starts the readers' processes.
    for clips in ways.values():
        _read(clips, ClipKey(length, 0))
    for epoch in range(command.epochs):
        for name in ways:
            costs[name].append([])
        for number in range(len(videos)):
            read: dict[str, Sample] = {}
            for name in list(ways)[:: 1 if (number + epoch) % 2 else -1]:
                key = ClipKey(epoch, number)
                cost = cost_of(lambda: read.update({name: _read(ways[name], key)}))  # noqa: B023
                costs[name][epoch].append(cost.cpu)
            different += not _are_alike(*read.values())
        print_progress(f"read epoch {epoch + 1} of {command.epochs}")
    rows = [kept_row(group, costs) for group in groups]
    everything = Group("all", {}, list(range(len(videos))))
    return {
        "benchmark": "loader --cache",
        "machine": machine_facts(),
        **clip_settings(command),
        "cache": command.cache,
        "budget": plan.budget,
        "line": plan.line,
        "epochs": command.epochs,
        "clips": rows,
        "different": different,
        **{name: kept_row(everything, costs)[name] for name in ("first_ratio", "ratio")},
    }


def _read(clips: TrainingClips, key: ClipKey) -> Sample:
    return clips[key]


def _are_alike(one: Sample, other: Sample) -> bool:
    if one.frames is None or other.frames is None:
        return one.frames is other.frames
    return one.video == other.video and torch.equal(one.frames, other.frames)


def kept_row(group: Group, costs: dict[str, list[list[float]]]) -> dict[str, Any]:
    """CPU milliseconds a clip, medians over the group's, and ratios of sums, in which the videos
    count that are not kept; ``costs``: seconds by way, epoch and video."""

    def of(name: str, epochs: slice) -> list[float]:
        return [epoch[row] for epoch in costs[name][epochs] for row in group.members]

    first, later = slice(0, 1), slice(1, None)
    return {
        "videos": group.name,
        **group.facts,
        "clips": len(of("off", later)),
        "off_ms": 1e3 * median(of("off", slice(None))),
        "first_ms": 1e3 * median(of("kept", first)),
        "later_ms": 1e3 * median(of("kept", later)),
        "first_ratio": sum(of("kept", first)) / sum(of("off", first)),
        "ratio": sum(of("kept", later)) / sum(of("off", later)),
    }


def print_kept(result: dict[str, Any], command: BenchmarkLoader) -> None:
    print(
        f"{result['line']}\n{result['epochs']} epochs, {result['different']} clips differ; CPU "
        "time is that of all processes that take part, medians; ratios are of sums, turn by turn"
    )
    columns = {
        "videos": "videos", "later clips": "clips", "off ms": "off_ms", "first epoch ms":
        "first_ms", "later ms": "later_ms", "first / off": "first_ratio", "later / off": "ratio",
    }  # fmt: skip
    print_table("CPU milliseconds a clip, where decoded frames are kept", columns, result["clips"])
    first = f"the first {result['first_ratio']:.2f}"
    print(f"\nall: later epochs {result['ratio']:.3f} of off, {first}")
