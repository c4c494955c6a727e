"""The videos whose reading is measured: made ones, or those of a folder, also as prepared."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowfast_dist.commands.benchmark.made_videos import VideoKind, write_benchmark_video
from slowfast_dist.commands.benchmark.output import print_progress
from slowfast_dist.config.benchmark import BenchmarkLoader
from slowfast_dist.config.commands import Prepare
from slowfast_dist.config.errors import UserError
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


@dataclass(frozen=True)
class Video:
    path: Path
    info: VideoInfo


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


def make_videos(command: BenchmarkLoader, temporary: Path) -> tuple[list[Video], list[Group]]:
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
            rate = facts["megabits_per_second"]
            print_progress(f"made {name}: {rate:.2f} Mbit/s, in {made:.0f} s")
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


def sample_videos(root: Path, most: int) -> list[Video]:
    """Up to ``most`` videos that can be read, spread evenly over all."""
    paths = [video.path for video in list_folder(root).videos]
    step = max(1.0, len(paths) / most)
    chosen = [paths[int((number + 0.5) * step)] for number in range(min(most, len(paths)))]
    videos, reasons = _probed(chosen)
    for path, reason in reasons.items():
        print_progress(f"{path} is left out: {reason}")
    if not videos:
        path, reason = next(iter(reasons.items()))
        raise UserError(f"{root}: none of {len(chosen)} videos can be read, as {path}: {reason}")
    return videos


def groups_of(videos: Sequence[Video]) -> list[Group]:
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


def prepare(videos: Sequence[Video], temporary: Path) -> tuple[list[Video], list[Video]]:
    """The videos that can be read to their end, and as ``prepare`` rewrites them by default."""
    begin = time.process_time()
    folder = temporary / "prepared"
    folder.mkdir()
    readable: list[Video] = []
    for number, video in enumerate(videos):
        try:
            transcode(video.path, folder / f"{number}.mp4", Prepare().short_side)
            readable.append(video)
        except DecodeError as error:
            print_progress(f"{video.path} is left out: {error.reason}")
    if not readable:
        raise UserError(f"{videos[0].path.parent}: none of {len(videos)} videos can be read whole")
    print_progress(f"prepared {len(readable)} videos in {time.process_time() - begin:.0f} CPU s")
    return readable, _probed([folder / f"{videos.index(video)}.mp4" for video in readable])[0]
