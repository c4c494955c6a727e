"""The videos whose reading is measured: made ones, or those of a folder, also as prepared."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slowfast_dist.commands.benchmark.output import print_progress
from slowfast_dist.config.benchmark import BenchmarkLoader, BenchmarkTrain
from slowfast_dist.config.commands.dataset import Prepare
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.manifest import list_folder
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.video.container import DecodeError, message
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.transcode import transcode
from slowfast_dist.video.writer import WriteError, write_video


def clip_settings(command: BenchmarkLoader | BenchmarkTrain) -> dict[str, Any]:
    """The clips that the flags ask for, by the names of DataConfig."""
    names = ("num_frames", "sampling_rate", "short_side", "crop_size")
    return {name: getattr(command, name) for name in names}


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
    # Clips begin anywhere in a whole keyframe interval, and at many places: five seconds at least.
    frames = max(150, round(1.2 * key_interval), 2 * span)
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


# --- made videos, that cost what people's videos cost: moving textures and grain, in H.264 -------

# Nothing in a frame stands still and nothing is flat, so that every macroblock takes its share of
# bits; at 1280x720 the result is about as large as a video site's.

FPS = 30

Image = NDArray[np.uint8]


def write_benchmark_video(path: Path, size: str, key_interval: int, frames: int, seed: int) -> None:
    """Encode ``frames`` of a scene, drawn from ``seed``, of a ``size`` such as 1280x720, as
    ``ffmpeg -g KEY_INTERVAL`` does by default: x264's preset medium at crf 23, with B-frames and
    closed groups of pictures. Raises WriteError where ``path`` cannot be written.
    """
    options = {"preset": "medium", "crf": "23", "g": str(key_interval)}
    width, height = map(int, size.split("x"))
    images = scene(width, height, frames, np.random.default_rng(seed))
    write_video(path, images, FPS, options, threads=0)


def scene(width: int, height: int, frames: int, rng: np.random.Generator) -> Iterator[Image]:
    """Frames uint8 (height, width, 3), RGB: a camera in motion over a landscape of blotches, before
    which five textured discs pass, with grain over all."""
    # How far beyond the frame the background reaches, on each side, for the camera to move over.
    margins = np.array([width, height]) * 0.25
    background = _texture(width + 2 * int(margins[0]), height + 2 * int(margins[1]), rng)
    discs = [_Disc(width, height, rng) for _ in range(5)]
    grain = [_grain(width, height, rng) for _ in range(6)]
    turns, phases = rng.uniform(0.5, 1.5, 3), rng.uniform(0, 2 * np.pi, 3)
    for frame in range(frames):
        sway = np.sin(0.5 * frame / FPS * turns + phases)
        zoom = 1 + 0.05 * sway[2]
        centre = margins * (1 + 0.8 * sway[:2]) + np.array([width, height]) / 2
        x, y = centre - np.array([width, height]) / (2 * zoom)
        lens = np.array([[1 / zoom, 0, x], [0, 1 / zoom, y]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        image = np.asarray(cv2.warpAffine(background, lens, (width, height), flags=how), np.uint8)
        for disc in discs:
            disc.paint(image, frame / FPS)
        noise = grain[rng.integers(len(grain))]
        yield np.asarray(cv2.addWeighted(image, 1, noise, 1, -128), np.uint8)


class _Disc:
    """A textured disc that crosses the frame in two to six seconds, and comes back."""

    def __init__(self, width: int, height: int, rng: np.random.Generator) -> None:
        radius = max(2, int(height * rng.uniform(0.06, 0.2)))
        self.side = 2 * radius
        self.texture = _texture(self.side, self.side, rng)
        grid = np.hypot(*(np.mgrid[: self.side, : self.side] - radius + 0.5))
        self.inside = np.asarray(grid < radius)[..., None]
        self.frame = np.array([width, height]) + self.side
        self.start = rng.uniform(0, 1, 2) * self.frame
        self.speed = rng.choice([-1, 1], 2) * np.array([width, height]) / rng.uniform(2, 6, 2)

    def paint(self, image: Image, seconds: float) -> None:
        place = (self.start + self.speed * seconds) % self.frame - self.side
        left, top = map(int, place)
        target = image[max(0, top) : top + self.side, max(0, left) : left + self.side]
        rows = slice(max(0, -top), max(0, -top) + target.shape[0])
        columns = slice(max(0, -left), max(0, -left) + target.shape[1])
        np.copyto(target, self.texture[rows, columns], where=self.inside[rows, columns])


def _texture(width: int, height: int, rng: np.random.Generator) -> Image:
    """Blotches of all sizes, the smaller the fainter, as photographs have; of many colours."""
    result = np.full((height, width, 3), 128, np.float32)
    cell = max(width, height) / 3
    while cell >= max(2, height / 400):
        shape = (int(height / cell) + 2, int(width / cell) + 2)
        light, colour = rng.normal(size=(*shape, 1)), rng.normal(size=(*shape, 3))
        coarse = (light + 0.4 * colour).astype(np.float32)
        strength = 45 * (3 * cell / max(width, height)) ** 0.5
        result += strength * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cell /= 2
    return np.clip(result, 0, 255).astype(np.uint8)


def _grain(width: int, height: int, rng: np.random.Generator) -> Image:
    """Noise around 128, the same in red, green and blue: as of a camera in good light."""
    noise = rng.normal(128, 3.0, (height, width, 1)).astype(np.float32)  # deviation: grey levels
    return np.repeat(np.rint(np.clip(noise, 0, 255)).astype(np.uint8), 3, axis=2)
