"""Measure the reading of clips: ``python -m slowfast_dist benchmark loader``."""

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from slowfast_dist.commands.benchmark.baselines import STAGES, plain_reader
from slowfast_dist.commands.benchmark.clips import (
    ClipBenchmark,
    Group,
    Video,
    clip_rows,
    handover_row,
    stage_row,
    worker_row,
)
from slowfast_dist.commands.benchmark.made_videos import VideoKind, write_benchmark_video
from slowfast_dist.commands.benchmark.output import machine_facts, print_json, print_table
from slowfast_dist.config.benchmark import BenchmarkLoader
from slowfast_dist.config.commands import Prepare
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import DataConfig
from slowfast_dist.data.manifest import list_folder
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.data.video_table import VideoTable
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.video.container import DecodeError, message
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.transcode import transcode
from slowfast_dist.video.writer import WriteError

LONG = 1.2
"""Length of a made video in keyframe intervals: a clip then begins anywhere in a whole one."""

LEAST_FRAMES = 150

WORKER_SHARE = 3
"""With workers fewer clips are read by this factor: the plain way takes so long."""


def run_benchmark(root: Path | None, command: BenchmarkLoader) -> None:
    """Measure on the videos of ``root``, or on made ones, and print the result.

    Raises UserError where there are no videos to read.
    """
    if root is None and not command.synthetic:
        raise UserError("benchmark loader: give a folder of videos, or --synthetic 1 to make some")
    if root is not None and command.synthetic:
        raise UserError(f"--synthetic {command.synthetic}: give either this or {root}")
    with tempfile.TemporaryDirectory(prefix="slowfast-benchmark-") as folder, _one_thread():
        temporary = Path(folder)
        if root is None:
            videos, groups = _make_videos(command, temporary)
        else:
            videos = _sample_videos(root, command.sample)
            groups = []
        prepared = None
        if command.prepared:
            videos, prepared = _prepare(videos, temporary)
        groups = groups or _groups(videos)
        result = _measure(videos, groups, prepared, command)
    _print(result, command)
    if command.json:
        print_json(result)


@contextmanager
def _one_thread() -> Iterator[None]:
    """As torch has it in the processes of a loader."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


# --- the videos ----------------------------------------------------------------------------------


def _make_videos(command: BenchmarkLoader, temporary: Path) -> tuple[list[Video], list[Group]]:
    videos: list[Video] = []
    groups = []
    for size in command.sizes:
        width, height = map(int, size.split("x"))
        for interval in command.key_intervals:
            kind = VideoKind(width, height, interval)
            begin = time.perf_counter()
            paths = _write_videos(kind, command, temporary)
            made = time.perf_counter() - begin
            new, _ = _probed(paths)
            facts = {"width": width, "height": height, "key_interval": interval} | _rate(new)
            name = f"{size} keyframes {interval}"
            groups.append(Group(name, facts, list(range(len(videos), len(videos) + len(new)))))
            videos += new
            _say(f"made {name}: {facts['megabits_per_second']:.2f} Mbit/s, in {made:.0f} s")
    return videos, groups


def _write_videos(kind: VideoKind, command: BenchmarkLoader, temporary: Path) -> list[Path]:
    folder = command.keep or temporary
    frames = max(LEAST_FRAMES, round(LONG * kind.key_interval), 2 * _span(command))
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(command.synthetic):
            size = f"{kind.width}x{kind.height}"
            path = folder / f"{size}_keyframes{kind.key_interval}_{frames}frames_{seed}.mp4"
            if not path.exists():
                part = path.with_name(f".{path.name}")  # an interrupted one is not used later
                write_benchmark_video(part, kind, frames, seed)
                part.rename(path)
            paths.append(path)
    except (OSError, WriteError) as error:
        raise UserError(
            f"--keep {folder}: videos cannot be written there ({message(error)}): give a "
            "folder that can be made"
        ) from error
    return paths


def _span(command: BenchmarkLoader) -> int:
    """Frames from the first to the last one of a clip."""
    return (command.num_frames - 1) * command.sampling_rate + 1


def _sample_videos(root: Path, most: int) -> list[Video]:
    """Up to ``most`` videos that can be read, spread evenly over all."""
    paths = [video.path for video in list_folder(root).videos]
    step = max(1.0, len(paths) / most)
    chosen = [paths[int((number + 0.5) * step)] for number in range(min(most, len(paths)))]
    videos, reasons = _probed(chosen)
    for path, reason in reasons.items():
        _say(f"{path} is left out: {reason}")
    if not videos:
        path, reason = next(iter(reasons.items()))
        raise UserError(f"{root}: none of {len(chosen)} videos can be read, as {path}: {reason}")
    return videos


def _groups(videos: Sequence[Video]) -> list[Group]:
    """The videos by codec and size."""
    members: dict[str, list[int]] = {}
    for number, video in enumerate(videos):
        members.setdefault(_kind(video.info), []).append(number)
    return [
        Group(name, _rate([videos[number] for number in numbers]), numbers)
        for name, numbers in sorted(members.items())
    ]


def _kind(info: VideoInfo) -> str:
    side = min(info.width, info.height)
    lines = next((limit for limit in (288, 480, 720, 1080) if side <= limit), None)
    return f"{info.codec} " + (f"up to {lines} lines" if lines else "above 1080 lines")


def _probed(paths: Sequence[Path]) -> tuple[list[Video], dict[Path, str]]:
    """The videos that can be read, and why others cannot."""
    table = VideoTable.of_paths(paths)
    found = probe_videos(table, available_cpus(), None, show_progress=False)
    pairs = list(zip(paths, found, strict=True))
    videos = [Video(path, info) for path, info in pairs if isinstance(info, VideoInfo)]
    return videos, {path: info for path, info in pairs if isinstance(info, str)}


def _rate(videos: Sequence[Video]) -> dict[str, Any]:
    """Bits a second of the files, sound included, and how many there are."""
    seconds = sum(video.info.frames / (video.info.fps or 25) for video in videos)
    bits = 8 * sum(video.path.stat().st_size for video in videos)
    return {"files": len(videos), "megabits_per_second": 1e-6 * bits / seconds}


def _prepare(videos: Sequence[Video], temporary: Path) -> tuple[list[Video], list[Video]]:
    """The videos that can be read to their end, and as ``prepare`` rewrites them by default."""
    begin = time.process_time()
    folder = temporary / "prepared"
    folder.mkdir()
    kept: list[Video] = []
    for number, video in enumerate(videos):
        try:
            transcode(video.path, folder / f"{number}.mp4", Prepare().short_side)
            kept.append(video)
        except DecodeError as error:
            _say(f"{video.path} is left out: {error.reason}")
    if not kept:
        raise UserError(f"{videos[0].path.parent}: none of {len(videos)} videos can be read whole")
    _say(f"prepared {len(kept)} videos in {time.process_time() - begin:.0f} CPU s")
    return kept, _probed([folder / f"{videos.index(video)}.mp4" for video in kept])[0]


# --- measuring -----------------------------------------------------------------------------------


def _measure(
    videos: Sequence[Video],
    groups: Sequence[Group],
    prepared: Sequence[Video] | None,
    command: BenchmarkLoader,
) -> dict[str, Any]:
    data = DataConfig(
        num_frames=command.num_frames,
        sampling_rate=command.sampling_rate,
        short_side=command.short_side,
        crop_size=command.crop_size,
    )
    benchmark = ClipBenchmark(videos, prepared, data)
    benchmark.warm_up(next(groups[0].keys(1)))
    clips: list[dict[str, Any]] = []
    stages: list[dict[str, Any]] = []
    unreadable: list[str] = []
    for group in groups:
        _say(f"reading clips of {group.name}")
        result = benchmark.measure(group, max(command.clips, len(group.members)))
        unreadable += result.unreadable
        if result.costs:
            rows = clip_rows(group, result)
            _say("\n".join(map(_short, rows)))
            clips += rows
            stages += filter(None, [stage_row(group, result)])
    del benchmark  # with its readers' processes
    few = max(2, command.clips // WORKER_SHARE)
    workers = []
    for group in groups:
        for count in command.workers:
            _say(f"reading {group.name} with {count} workers")
            workers.append(worker_row(group, videos, data, count, few))
    return {
        "benchmark": "loader",
        "machine": machine_facts(),
        "num_frames": data.num_frames,
        "sampling_rate": data.sampling_rate,
        "short_side": list(data.short_side),
        "crop_size": data.crop_size,
        "plain_reader": sorted({plain_reader(video.path, video.info) for video in videos}),
        "clips": clips,
        "stages": stages,
        "handover": handover_row(data),
        "workers": workers,
        "unreadable": unreadable,
    }


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
            "videos": "videos",
            "Mbit/s": "megabits_per_second",
            "reader": "reader",
            "clips": "clips",
            "ms": "cpu_ms",
            "clips/CPU s": "clips_per_cpu_second",
            "bare ms": "bare_cpu_ms",
            "plain ms": "plain_cpu_ms",
            "ours / bare": "ratio_to_bare",
            "ours / plain": "ratio",
        },
        result["clips"],
    )
    if result["stages"]:
        print_table(
            "Where the pyav reader's go (rest: its own process, and what is not explained)",
            {
                "videos": "videos",
                "all": "cpu_ms",
                **{name: name for name in STAGES},
                "rest": "rest",
                "rest / all": "rest_share",
            },
            result["stages"],
        )
    print_table(
        "Then, CPU milliseconds for each clip of a batch",
        {
            "collate": "collate_ms",
            "transfer": "transfer_ms",
            "plain collate": "plain_collate_ms",
            "plain transfer": "plain_transfer_ms",
            "ours / plain": "ratio",
        },
        [result["handover"]],
    )
    if result["workers"]:
        _print_workers(result["workers"])
    for line in result["unreadable"]:
        print(f"left out, not readable: {line}")


def _print_workers(rows: Sequence[dict[str, Any]]) -> None:
    print_table(
        "Clips a second by the clock on the wall, by workers",
        {
            "videos": "videos",
            "workers": "workers",
            "reader": "reader",
            "clips/s": "clips_per_second",
            "plain clips/s": "plain_clips_per_second",
            "ours / plain": "ratio",
            "CPU ms": "cpu_ms",
            "plain CPU ms": "plain_cpu_ms",
        },
        rows,
    )
