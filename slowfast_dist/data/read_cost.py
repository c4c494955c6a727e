"""CPU time to read a training clip, measured on a few files in a process of their own."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from slowfast_dist.config import DataConfig
from slowfast_dist.data.clips import dense_indices
from slowfast_dist.data.packets import DecodeError
from slowfast_dist.data.probe import probe_file
from slowfast_dist.data.probe_pool import ask_apart, serve
from slowfast_dist.data.transforms import evaluation_view
from slowfast_dist.data.video import read_frames

SAMPLE = 20
"""Files that are read, spread evenly over all."""

SECONDS = 20.0
"""Wall time in which each must be read."""


def read_cost(paths: Sequence[Path], num_frames: int, sampling_rate: int) -> float | None:
    """Mean CPU seconds to read a clip, as a loader's process does; None if no file can be read.

    A clip is centred, scaled and cropped as in evaluation with the settings' defaults.
    """
    code = (
        "from slowfast_dist.data.read_cost import serve_cost; "
        f"serve_cost({num_frames:d}, {sampling_rate:d})"
    )
    step = max(1, len(paths) // SAMPLE)
    command = (sys.executable, "-c", code)
    answers = ask_apart(command, paths[step // 2 :: step][:SAMPLE], 1, lambda _: SECONDS)
    seconds = [answer for _, answer in answers if isinstance(answer, float)]
    return mean(seconds) if seconds else None


def serve_cost(num_frames: int, sampling_rate: int) -> None:
    """What the reading process runs."""
    data = DataConfig(num_frames=num_frames, sampling_rate=sampling_rate)
    ready = False

    def answer(path: Path) -> float | str:
        nonlocal ready
        try:
            info = probe_file(path)
            view = evaluation_view(info.height, info.width, data, crop=0, crops=1)
            indices = dense_indices(info.frames, num_frames, sampling_rate, position=0.5)
            if not ready:  # what the first read of a process loads is no part of a clip's cost
                read_frames(path, indices, info, "auto", view)
                ready = True
            begin = time.process_time()
            read_frames(path, indices, info, "auto", view)
            return time.process_time() - begin
        except DecodeError as error:
            return error.reason

    serve(answer)
