"""CPU time to read a clip of a file, as training does, in a process that may crash or hang."""

import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.fields import ClipRate, PixelAspect
from slowfast_dist.data.clips import clip_indices
from slowfast_dist.system.workers.pool import map_in_children
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames
from slowfast_dist.video.views import training_view

TIME_LIMIT = 60.0
"""Seconds after which measuring a file is given up: some clips of the largest videos take ten."""


IMAGE_RATE = 25.0
"""Images a second of a folder that does not tell: which ones a clip takes costs the same."""


def clip_costs(
    paths: Sequence[Path], clips: int, num_frames: int = 32, sampling_rate: int = 2,
    crop_size: int = 224, frame_rate: ClipRate = "video", pixel_aspect: PixelAspect = "square",
) -> dict[Path, float]:  # fmt: skip
    """`clip_cost` of each file, one after the other; a file that cannot be measured is left out."""
    answers = map_in_children(
        clip_cost, paths, 1, lambda _: TIME_LIMIT, clips=clips, num_frames=num_frames,
        sampling_rate=sampling_rate, crop_size=crop_size, frame_rate=frame_rate,
        pixel_aspect=pixel_aspect,
    )  # fmt: skip
    with closing(answers):
        return {path: answer for path, answer in answers if isinstance(answer, float)}


def clip_cost(
    path: Path, clips: int, num_frames: int, sampling_rate: int, crop_size: int,
    frame_rate: ClipRate, pixel_aspect: PixelAspect,
) -> float | None:  # fmt: skip
    """What a measuring process answers: CPU seconds from the path to a clip, the median of
    ``clips`` random ones, which are the same for every file of as many frames; None for a file that
    cannot be read."""
    low, high = DataConfig().short_side
    data = DataConfig(
        num_frames=num_frames, sampling_rate=sampling_rate, frame_rate=frame_rate,
        short_side=(max(low, crop_size), max(high, crop_size)), crop_size=crop_size,
        pixel_aspect=pixel_aspect,
    )  # fmt: skip
    seconds = []
    try:
        info = probe_file(path, image_fps=IMAGE_RATE)
        for number in range(clips + 1):  # the first, which loads libraries, does not count
            rng = np.random.default_rng(number)
            indices = clip_indices(info, data, rng.random())
            view = training_view(info.height, info.width, data, rng, info.pixel_aspect)
            start = time.process_time()
            read_frames(path, indices, info, data.decoder, view)
            seconds.append(time.process_time() - start)
    except DecodeError:
        return None
    return statistics.median(seconds[1:])
