"""CPU time to read a clip of a file, as training does, in a process that may crash or hang."""

import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from slowfast_dist.config.training import DataConfig
from slowfast_dist.data.clips import dense_indices
from slowfast_dist.system import signals
from slowfast_dist.system.workers import ask_apart, serve
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames
from slowfast_dist.video.views import training_view

TIME_LIMIT = 60.0
"""Seconds that this may take."""


def clip_cost(path: Path, clips: int, data: DataConfig) -> float:
    """CPU seconds from the path to a clip, the median of ``clips`` random ones, which are the same
    for every file of as many frames. Raises DecodeError."""
    info = probe_file(path)
    seconds = []
    for number in range(clips + 1):  # the first, which loads libraries, does not count
        rng = np.random.default_rng(number)
        indices = dense_indices(info.frames, data.num_frames, data.sampling_rate, rng.random())
        view = training_view(info.height, info.width, data, rng)
        start = time.process_time()
        read_frames(path, indices, info, data.decoder, view)
        seconds.append(time.process_time() - start)
    return statistics.median(seconds[1:])


def clip_costs(
    paths: Sequence[Path],
    clips: int,
    num_frames: int = 32,
    sampling_rate: int = 2,
    crop_size: int = 224,
) -> dict[Path, float]:
    """`clip_cost` of each file, one after the other; a file that cannot be measured is left out."""
    settings = f"{clips:d}, {num_frames:d}, {sampling_rate:d}, {crop_size:d}"
    code = f"from slowfast_dist.data.clip_cost import serve_clip_cost; serve_clip_cost({settings})"
    command = (sys.executable, "-c", code)
    with closing(ask_apart(command, paths, 1, lambda _: TIME_LIMIT)) as answers:
        return {path: answer for path, answer in answers if isinstance(answer, float)}


def serve_clip_cost(clips: int, num_frames: int, sampling_rate: int, crop_size: int) -> None:
    """What a measuring process runs."""
    signals.leave_to_parent()
    low, high = DataConfig().short_side
    data = DataConfig(
        num_frames=num_frames,
        sampling_rate=sampling_rate,
        crop_size=crop_size,
        short_side=(max(low, crop_size), max(high, crop_size)),
    )

    def answer(path: Path) -> float | str:
        try:
            return clip_cost(path, clips, data)
        except DecodeError as error:
            return error.reason

    serve(answer)
