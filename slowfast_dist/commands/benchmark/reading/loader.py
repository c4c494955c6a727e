"""Measure the reading of clips: ``python -m slowfast_dist benchmark loader``."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from slowfast_dist.commands.benchmark.baselines import STAGES, plain_reader
from slowfast_dist.commands.benchmark.output import (
    machine_facts,
    print_json,
    print_progress,
    print_table,
)
from slowfast_dist.commands.benchmark.reading.clips import (
    AUGMENTED,
    DECODERS,
    PREPARED,
    ClipBenchmark,
    GroupCosts,
    handover_row,
    worker_row,
)
from slowfast_dist.commands.benchmark.reading.kept import measure_kept, print_kept
from slowfast_dist.commands.benchmark.videos import (
    Group,
    clip_settings,
    groups_of,
    make_videos,
    prepare,
    sample_videos,
)
from slowfast_dist.config.benchmark import BenchmarkLoader
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.video_table import VideoTable


def run_benchmark(root: Path | None, command: BenchmarkLoader) -> None:
    """Measure on the videos of ``root``, or on made ones, and print the result.

    Raises UserError where there are no videos to read.
    """
    if root is None and not command.synthetic:
        raise UserError("benchmark loader: give a folder of videos, or --synthetic 1 to make some")
    if root is not None and command.synthetic:
        raise UserError(f"--synthetic {command.synthetic}: give either this or {root}")
    with tempfile.TemporaryDirectory(prefix="slowfast-benchmark-") as folder:
        temporary = Path(folder)
        groups: list[Group] = []
        if root is None:
            videos, groups = make_videos(command, temporary)
        else:
            videos = sample_videos(root, command.sample)
        if command.cache != "off":
            kept = measure_kept(videos, groups or groups_of(videos), command)
            print_kept(kept, command)
            if command.json:
                print_json(kept)
            return
        prepared = None
        if command.prepared:
            videos, prepared = prepare(videos, temporary)
        result = _measure(videos, groups or groups_of(videos), prepared, command)
    _print(result, command)
    if command.json:
        print_json(result)


# --- measuring -----------------------------------------------------------------------------------


def _measure(
    videos: VideoTable,
    groups: Sequence[Group],
    prepared: VideoTable | None,
    command: BenchmarkLoader,
) -> dict[str, Any]:
    torch.set_num_threads(1)  # as torch has it in the processes of a loader
    data = DataConfig(**clip_settings(command))
    benchmark = ClipBenchmark(videos, prepared, data, command.augmented)
    benchmark.warm_up(next(groups[0].keys(1)))
    clips: list[dict[str, Any]] = []
    stages: list[dict[str, Any]] = []
    unreadable: list[str] = []
    for group in groups:
        print_progress(f"reading clips of {group.name}")
        result = benchmark.measure(group, max(command.clips, len(group.members)))
        unreadable += result.unreadable
        if result.costs:
            rows = clip_rows(group, result)
            print_progress("\n".join(map(_short, rows)))
            clips += rows
        if result.stages:
            stages.append(stage_row(group, result.stages))
    del benchmark  # with its readers' processes
    few = max(2, command.clips // 3)  # as the plain way takes so long
    workers = []
    for group in groups:
        for count in command.workers:
            print_progress(f"reading {group.name} with {count} workers")
            workers.append(worker_row(group, videos, data, count, few))
    return {
        "benchmark": "loader",
        "machine": machine_facts(),
        **clip_settings(command),
        "plain_reader": sorted(
            {plain_reader(videos.path(row), videos.info(row)) for row in range(len(videos))}
        ),
        "clips": clips,
        "stages": stages,
        "handover": handover_row(data),
        "workers": workers,
        "unreadable": unreadable,
    }


def clip_rows(group: Group, result: GroupCosts) -> list[dict[str, Any]]:
    """A row for each of our ways: medians in CPU milliseconds a clip, and ratios of medians."""
    cpu = {name: 1e3 * median(cost.cpu for cost in costs) for name, costs in result.costs.items()}
    plain, bare = cpu["plain"], cpu.get("bare")
    return [
        {
            "videos": group.name,
            **group.facts,
            "reader": name,
            "clips": len(result.costs[name]),
            "cpu_ms": cpu[name],
            "clips_per_cpu_second": 1e3 / cpu[name],
            "plain_cpu_ms": plain,
            "ratio": cpu[name] / plain,
            "bare_cpu_ms": bare,
            "ratio_to_bare": bare and cpu[name] / bare,
            "ratio_to_unvaried": (
                # Of sums, as what is drawn makes some clips dearer than others.
                sum(cost.cpu for cost in result.costs[name])
                / sum(cost.cpu for cost in result.costs["pyav"])
                if name == AUGMENTED
                else None
            ),
        }
        for name in (*DECODERS, PREPARED, AUGMENTED)
        if name in cpu
    ]


def stage_row(group: Group, stages: Sequence[dict[str, float]]) -> dict[str, Any]:
    """CPU milliseconds a clip by stage, medians of one clip or more."""
    medians = {name: median(clip[name] for clip in stages) for name in stages[0]}
    return {"videos": group.name, **medians, "rest_share": medians["rest"] / medians["cpu_ms"]}


def _short(row: dict[str, Any]) -> str:
    bare = f"{row['ratio_to_bare']:.2f} of the bare decode's and " if row["ratio_to_bare"] else ""
    plain = f"{row['ratio']:.3f} of the plain way's"
    return f"  {row['reader']}: {row['cpu_ms']:.0f} CPU ms, {bare}{plain}"


def _print(result: dict[str, Any], command: BenchmarkLoader) -> None:
    machine = result["machine"]
    print(
        f"{machine['cpus']} CPUs ({machine['machine']}), torch {machine['torch']}, "
        f"PyAV {machine['av']}, Decord {machine['decord'] or 'not installed'}; "
        f"{result['num_frames']} frames at rate {result['sampling_rate']}, short side "
        f"{command.short_side[0]}-{command.short_side[1]}, crop {result['crop_size']}"
    )
    print(
        f"plain: all frames at full size ({', '.join(result['plain_reader'])}), float32, "
        "normalised, F.interpolate, crop; bare: PyAV decodes from the keyframe on, no more.\n"
        "CPU time is that of all processes that take part, medians; all read the same clips in "
        "turn. Only the ratios can be compared with other machines."
    )
    print_table(
        "CPU milliseconds a clip",
        {
            "videos": "videos", "Mbit/s": "megabits_per_second", "reader": "reader",
            "clips": "clips", "ms": "cpu_ms", "clips/CPU s": "clips_per_cpu_second",
            "bare ms": "bare_cpu_ms", "plain ms": "plain_cpu_ms", "ours / bare": "ratio_to_bare",
            "ours / plain": "ratio",
        },
        result["clips"],
    )  # fmt: skip
    for row in result["clips"]:
        if row["ratio_to_unvaried"]:
            print(f"{row['videos']}: {AUGMENTED}, takes {row['ratio_to_unvaried']:.3f} times the "
                  "CPU time of pyav, all clips together")  # fmt: skip
    if result["stages"]:
        print_table(
            "Where the pyav reader's go (rest: its own process, and what is not explained)",
            {
                "videos": "videos", "all": "cpu_ms", **{name: name for name in STAGES},
                "rest": "rest", "rest / all": "rest_share",
            },
            result["stages"],
        )  # fmt: skip
    print_table(
        "Then, CPU milliseconds for each clip of a batch",
        {
            "collate": "collate_ms", "transfer": "transfer_ms", "plain collate": "plain_collate_ms",
            "plain transfer": "plain_transfer_ms", "ours / plain": "ratio",
        },
        [result["handover"]],
    )  # fmt: skip
    if result["workers"]:
        columns = {
            "videos": "videos", "workers": "workers", "reader": "reader",
            "clips/s": "clips_per_second", "plain clips/s": "plain_clips_per_second",
            "ours / plain": "ratio", "CPU ms": "cpu_ms", "plain CPU ms": "plain_cpu_ms",
        }  # fmt: skip
        title = "Clips a second by the clock on the wall, by workers"
        print_table(title, columns, result["workers"])
    for line in result["unreadable"]:
        print(f"left out, not readable: {line}")
