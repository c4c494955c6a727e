"""The videos whose reading is measured: made ones, or those of a folder, also as prepared."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from slowfast_dist.commands.benchmark.made_videos import write_benchmark_video
from slowfast_dist.commands.benchmark.output import print_progress
from slowfast_dist.config.benchmark import BenchmarkLoader, BenchmarkTrain
from slowfast_dist.config.commands import Prepare
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import DataConfig
from slowfast_dist.data.manifest import list_folder
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.data.video_table import VideoTable
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.video.container import DecodeError, message
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.transcode import transcode
from slowfast_dist.video.writer import WriteError

LONG = 1.2
"""Length of a made video in keyframe intervals: a clip then begins anywhere in a whole one."""

LEAST_FRAMES = 150
"""Frames of a made video at least: five seconds, so that clips begin at many places."""


def data_config(command: BenchmarkLoader | BenchmarkTrain, **others: Any) -> DataConfig:
    """The clips that the flags ask for."""
    names = ("num_frames", "sampling_rate", "short_side", "crop_size")
    return DataConfig(**{name: getattr(command, name) for name in names}, **others)


@dataclass(frozen=True)
class Group:
    """Videos of one kind: what they are for people, and their numbers among all."""

    name: str
    facts: dict[str, Any]
    members: list[int]

    def keys(self, count: int) -> Iterator[ClipKey]:
        """Of ``count`` clips, taken from the videos in turn."""
        for number in range(count):
            epoch, member = divmod(number, len(self.members))
            yield ClipKey(epoch, self.members[member])


def make_videos(command: BenchmarkLoader, temporary: Path) -> tuple[VideoTable, list[Group]]:
    """Videos of each size and keyframe interval, which are the groups. Raises UserError where they
    cannot be written."""
    paths: list[Path] = []
    groups = []
    for size, interval in product(command.sizes, command.key_intervals):
        begin = time.perf_counter()
        written = _write_videos(size, interval, command, temporary)
        made = time.perf_counter() - begin
        new, _ = _probed(written)
        width, height = map(int, size.split("x"))
        facts = {"width": width, "height": height, "key_interval": interval} | _rate(new)
        name = f"{size} keyframes {interval}"
        groups.append(Group(name, facts, list(range(len(paths), len(paths) + len(new)))))
        paths += [video.path for video in new]
        print_progress(f"made {name}: {facts['megabits_per_second']:.2f} Mbit/s, in {made:.0f} s")
    return _probed(paths)[0], groups


def _write_videos(
    size: str, key_interval: int, command: BenchmarkLoader, temporary: Path
) -> list[Path]:
    folder = command.keep or temporary
    span = (command.num_frames - 1) * command.sampling_rate + 1  # frames from a clip's first on
    frames = max(LEAST_FRAMES, round(LONG * key_interval), 2 * span)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(command.synthetic):
            path = folder / f"{size}_keyframes{key_interval}_{frames}frames_{seed}.mp4"
            if not path.exists():
                part = path.with_name(f".{path.name}")  # an interrupted one is not used later
                write_benchmark_video(part, size, key_interval, frames, seed)
                part.rename(path)
            paths.append(path)
    except (OSError, WriteError) as error:
        raise UserError(
            f"--keep {folder}: videos cannot be written there ({message(error)}): give a "
            "folder that can be made"
        ) from error
    return paths


def sample_videos(root: Path, most: int) -> VideoTable:
    """Up to ``most`` videos that can be read, spread evenly over all."""
    paths = [video.path for video in list_folder(root).videos]
    step = max(1.0, len(paths) / most)
    chosen = [paths[int((number + 0.5) * step)] for number in range(min(most, len(paths)))]
    videos, reasons = _probed(chosen)
    for path, reason in reasons.items():
        print_progress(f"{path} is left out: {reason}")
    if not len(videos):
        path, reason = next(iter(reasons.items()))
        raise UserError(f"{root}: none of {len(chosen)} videos can be read, as {path}: {reason}")
    return videos


def groups_of(videos: VideoTable) -> list[Group]:
    """The videos by codec and size."""
    members: dict[str, list[int]] = {}
    for row in range(len(videos)):
        members.setdefault(_kind(videos.info(row)), []).append(row)
    return [Group(name, _rate(videos.select(rows)), rows) for name, rows in sorted(members.items())]


def _kind(info: VideoInfo) -> str:
    side = min(info.width, info.height)
    lines = next((limit for limit in (288, 480, 720, 1080) if side <= limit), None)
    return f"{info.codec} " + (f"up to {lines} lines" if lines else "above 1080 lines")


def _probed(paths: Sequence[Path]) -> tuple[VideoTable, dict[Path, str]]:
    """The videos that can be read, and why others cannot."""
    videos = VideoTable.of_paths(paths)
    found = probe_videos(videos, available_cpus(), None, show_progress=False)
    readable = videos.probed(found.infos).select(np.flatnonzero(found.readable))
    return readable, {paths[row]: reason for row, reason in sorted(found.reasons.items())}


def _rate(videos: VideoTable) -> dict[str, Any]:
    """Bits a second of the files, sound included, and how many there are."""
    infos = map(videos.info, range(len(videos)))
    seconds = sum(info.frames / (info.fps or 25) for info in infos)
    bits = 8 * sum(video.path.stat().st_size for video in videos)
    return {"files": len(videos), "megabits_per_second": 1e-6 * bits / seconds}


def prepare(videos: VideoTable, temporary: Path) -> tuple[VideoTable, VideoTable]:
    """The videos that can be read to their end, and as ``prepare`` rewrites them by default."""
    begin = time.process_time()
    folder = temporary / "prepared"
    folder.mkdir()
    written: dict[int, Path] = {}
    for row, video in enumerate(videos):
        path = folder / f"{row}.mp4"
        try:
            transcode(video.path, path, Prepare().short_side)
            written[row] = path
        except DecodeError as error:
            print_progress(f"{video.path} is left out: {error.reason}")
    if not written:
        folder = videos.path(0).parent
        raise UserError(f"{folder}: none of {len(videos)} videos can be read whole")
    print_progress(f"prepared {len(written)} videos in {time.process_time() - begin:.0f} CPU s")
    return videos.select(list(written)), _probed(list(written.values()))[0]
