"""How near an exported file comes to the network that it was made from, and how fast it is."""

import copy
import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.scan import is_video, walk_folders
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.locating import place_segments
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.data.sampler import ViewKey
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.metrics.task import ONE_LABEL, Task
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import BestModel
from slowfast_dist.runs.settings import own_image_rate
from slowfast_dist.runs.videos import SIDE_NAMES, Side, own_videos
from slowfast_dist.system.cpus import available_cpus

Compute = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Logits float32 (B, K) of uint8 clips (B, T, H, W, 3)."""

LARGE_BATCH = 3
"""Clips given at once, beside one by one: more say no more, and take memory."""

MOST_SECONDS = 30.0
"""Seconds after which no further clip is begun: a large model on a slow CPU is not to take minutes.
"""

LEAST_SECONDS = 0.5
"""Seconds for which the clips are run again and again, so that the median of a small model's time
is of many runs."""


@dataclass(frozen=True)
class Parity:
    """Against eager float32, over ``clips`` clips, one by one and ``batch`` of them at once.

    ``logits``, ``probabilities``: the largest absolute difference; ``same``: clips of the same most
    probable class, or, of several labels, with the same ones.
    """

    clips: int
    batch: int
    logits: float
    probabilities: float
    same: int

    def within(self, tolerance: float) -> bool:
        """Whether no difference is above it; NaN is."""
        return self.logits <= tolerance and self.probabilities <= tolerance


@dataclass(frozen=True)
class Speed:
    """Median milliseconds a clip, one at a time, all in turn, on the CPU with ``threads`` threads.

    ``eager`` float32 as the network is, ``channels_last`` the same in channels_last_3d.
    """

    threads: int
    eager: float
    channels_last: float
    exported: float


def compare(
    network: SlowFast, exported: Compute, clips: NDArray[np.uint8], seconds: float = MOST_SECONDS,
    task: Task = ONE_LABEL,
) -> tuple[Parity, Speed]:  # fmt: skip
    """Run ``network``, on the CPU and in evaluation mode, and ``exported`` on uint8 clips
    (N, T, H, W, 3), N at least 1; on fewer where all would take more than ``seconds``. ``task``:
    what their outputs mean."""
    last = copy.deepcopy(network).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    computes = (eager(network), eager(last), exported)
    for compute in computes:  # the first time is not like others: memory is taken, kernels are made
        compute(clips[:1])
    begin = time.perf_counter()
    times: list[list[float]] = [[], [], []]
    expected, found = list[NDArray[np.float32]](), list[NDArray[np.float32]]()
    for row in itertools.count():
        passed = time.perf_counter() - begin
        if passed > (LEAST_SECONDS if row >= len(clips) else seconds) and row > 0:
            break
        outputs = []
        for compute, taken in zip(computes, times, strict=True):
            start = time.perf_counter()
            outputs.append(compute(clips[row % len(clips), None]))
            taken.append(time.perf_counter() - start)
        if row < len(clips):
            expected.append(outputs[0])
            found.append(outputs[2])
    count, batch = len(expected), min(LARGE_BATCH, len(expected))
    # Rows: the clips one by one, then those that are given at once.
    right = np.concatenate([*expected, *expected[:batch]])
    own = np.concatenate([*found, exported(clips[:batch])])
    same = task.decisions(right) == task.decisions(own)
    same = same.all(axis=1) if task.several else same
    same[:batch] &= same[count:]
    parity = Parity(
        clips=count, batch=batch, same=int(same[:count].sum()),
        logits=float(np.abs(right - own).max()),
        probabilities=float(np.abs(task.probabilities(right) - task.probabilities(own)).max()),
    )  # fmt: skip
    return parity, Speed(torch.get_num_threads(), *(1000 * median(taken) for taken in times))


def eager(network: SlowFast) -> Compute:
    """The network as it is, in float32 on the CPU."""

    def compute(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(torch.from_numpy(clips).permute(0, 1, 4, 2, 3)).numpy()

    return compute


MOST = 6
"""Clips at most, each of another video: a graph that is wrong differs on every one."""

MOST_TRIED = 30
"""Videos that are tried before the rest, too, is taken for unreadable; twice as many as are wanted
where that is more."""


@dataclass(frozen=True)
class Clips:
    """uint8 ``frames`` (N, T, H, W, 3), N at least 1; ``source``: "of", and in words what;
    ``labels`` of the run's own, int (N,) or bool (N, K)."""

    frames: NDArray[np.uint8]
    source: str
    labels: NDArray[Any] | None = None


def find_clips(best: BestModel, data: Path | None) -> Clips:
    """The centre clips of some videos, cut as the validation of ``best`` did.

    Of ``data``, a video or a folder; else of the run's own validation videos where config.yaml
    beside models/ leads to them; else random frames. Raises UserError for ``data`` without a
    readable video.
    """
    if data is not None:
        cut = replace(best.data, image_fps=own_image_rate(best.folder))
        frames, _, reason = _read(VideoTable.of_paths(_videos_of(data)), cut, MOST)
        if not len(frames):
            raise UserError(f"--data {data}: no video in it can be read ({reason}): give another")
        return Clips(frames, f"of {data}")
    own, reason = own_clips(best, "val", MOST)
    if own is not None:
        return own
    size = (MOST, best.data.num_frames, best.data.crop_size, best.data.crop_size, 3)
    random = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    return Clips(random, f"of random pixels ({reason}: --data gives real ones)")


def _videos_of(data: Path) -> list[Path]:
    """The file itself, or all videos below the folder."""
    if data.is_file():
        return [data]
    if not data.is_dir():
        raise UserError(f"--data {data}: there is no such file or folder: give videos that exist")
    paths = (Path(folder, name) for folder, names in walk_folders(str(data)) for name in names)
    found = sorted(path for path in paths if is_video(os.fsencode(path.name)))
    if not found:
        raise UserError(f"--data {data}: holds no video: give a video, or a folder of videos")
    return found


def own_clips(best: BestModel, side: Side, most: int) -> tuple[Clips | None, str]:
    """Up to ``most`` centre clips of that side of the run's split, each of another video, where
    they are still there; in words why, where there are none."""
    word = SIDE_NAMES[side]
    try:
        videos = own_videos(best.folder, best.classes, best.task.several, side=side)[1].videos
    except UserError as error:
        return None, getattr(error, "reason", f"the run's files do not tell its {word} videos")
    found = [row for row in range(len(videos)) if videos.path(row).exists()]
    if not found:
        return None, f"the run's {word} videos are not at {videos.root} any more"
    there = videos.select(found)
    cut = replace(best.data, image_fps=own_image_rate(best.folder))
    frames, rows, reason = _read(there, cut, most)
    if not len(frames):
        return None, reason
    return Clips(frames, f"of the run's own {word} videos", there.targets(np.array(rows))), ""


def _read(
    videos: VideoTable, data: DataConfig, most: int
) -> tuple[NDArray[np.uint8], list[int], str]:
    """Up to ``most`` clips, spread over the ``videos``, and of which rows; and why the last one
    without failed."""
    clips: list[NDArray[np.uint8]] = []
    rows: list[int] = []
    reason = ""
    for some in _spread(len(videos), most):
        table = videos.select(some)
        probed = probe_videos(table, available_cpus(), default_cache(), False, data.image_fps)
        try:
            placed = place_segments(table.probed(probed.infos), probed.readable, "split.csv")
        except UserError as error:
            reason = str(error)
            continue
        reader = EvaluationClips(placed.videos, data)
        for row, own_row in enumerate(some):
            why = probed.reasons.get(row) or placed.reasons.get(row)
            if why is None and len(clips) < most:
                sample = reader[ViewKey(row, 0)]
                if sample.frames is not None:
                    clips.append(sample.frames.permute(0, 2, 3, 1).numpy())
                    rows.append(own_row)
                    continue
                why = sample.failures[0].reason
            if why is not None:
                reason = f"{table.root / table.sample(row)}: {why}"
        if len(clips) == most:
            break
    return np.stack(clips) if clips else np.empty(0, np.uint8), rows, reason


def _spread(count: int, most: int) -> Iterator[list[int]]:
    """Of so many rows up to ``most`` at a time, first those spread evenly from the first to the
    last, then others."""
    first = {int(row): None for row in np.linspace(0, count - 1, most)}
    tried = max(MOST_TRIED, 2 * most)
    rows = iter([*first, *(row for row in range(count) if row not in first)][:tried])
    yield list(itertools.islice(rows, len(first)))
    while some := list(itertools.islice(rows, most)):
        yield some
