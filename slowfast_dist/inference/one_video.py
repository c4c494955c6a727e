"""One short video, probed and decoded by a fork while this process imports what computes.

A person waits for the answer. The fork costs 10 ms, where a new process for the probe and one for
the decoder would import their libraries anew (.3 s of CPU time each), one after the other. It can
be made on Linux, while this process has one thread: else files are read as any others are.
"""

import os
import signal
import sys
import traceback
import weakref
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.data.clips import clip_indices, view_positions
from slowfast_dist.data.listing.columns import InfoColumns
from slowfast_dist.data.probing import BYTES_PER_SECOND, TIME_LIMIT
from slowfast_dist.inference.inputs import Input
from slowfast_dist.inference.scoring import Compute, FileRow, resolved, why_no_file
from slowfast_dist.inference.windows import NOT_A_NUMBER
from slowfast_dist.runs.best_model import BestModel
from slowfast_dist.system.child import CRASHES, HANGS, how_it_ended
from slowfast_dist.system.workers.template import threads
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.guarded_reader import DECODE_SECONDS, END_SECONDS, become_decoder
from slowfast_dist.video.probe import probe_or_reason
from slowfast_dist.video.reader import Frames, VideoInfo, read_views
from slowfast_dist.video.views import evaluation_view, region_of


def start_early(
    files: Sequence[Input], best: BestModel, views: EvaluationConfig, batch_size: int,
    image_fps: float | None,
) -> "EarlyVideo | None":  # fmt: skip
    """Begin to read the video if it is the only one, of one batch of views, and a fork can be made;
    None: read it as any others are."""
    if len(files) != 1 or views.temporal_views * views.spatial_crops > batch_size:
        return None
    [given] = files
    if sys.platform != "linux" or threads() != 1 or given.reason or why_no_file(given.path):
        return None
    try:
        return EarlyVideo(given.path, best.data, views, image_fps)
    except OSError:  # no more processes or files: another way may need fewer
        return None


class EarlyVideo:
    """A video that a forked process reads: what it holds, then the frames of all views.

    ``data`` and ``views`` say which frames; another model's need another reading. Call it from the
    thread that made it.
    """

    def __init__(
        self, path: Path, data: DataConfig, views: EvaluationConfig, image_fps: float | None
    ) -> None:
        self.path, self.data, self.views = path, data, views
        self._pipe, theirs = Pipe()
        owner = os.getpid()
        with theirs:
            pid = os.fork()
            if not pid:
                try:
                    become_decoder({theirs.fileno()}, owner)
                    _read(theirs, resolved(path), data, views, image_fps)
                finally:
                    os._exit(1)  # nothing of the parent's is finalised, flushed or handled here
        self._process = psutil.Process(pid)
        self._finalizer = weakref.finalize(self, _end, self._pipe, self._process, 0.0)

    def row(self, compute: Compute) -> FileRow:
        """As `rows_of_files` gives it."""
        info: VideoInfo | None = None
        try:
            seconds = TIME_LIMIT + os.stat(self.path).st_size / BYTES_PER_SECOND
            info = self._receive(seconds)
            frames: Frames = self._receive(DECODE_SECONDS)
        except DecodeError as error:
            return FileRow(self.path, None, error.reason, info)
        except OSError as error:
            return FileRow(self.path, None, error.strerror or str(error), info)
        finally:
            self.close()
        sums: NDArray[np.float64] = compute(frames).sum(axis=0, dtype=np.float64)
        row = sums / len(frames)
        if not np.isfinite(row).all():
            return FileRow(self.path, None, NOT_A_NUMBER, info)
        return FileRow(self.path, row, None, info)

    def close(self) -> None:
        """End the process, whatever it does."""
        self._finalizer()

    def _receive(self, seconds: float) -> Any:
        """What it sends next. Raises DecodeError where it says so, died, or is late."""
        try:
            if not self._pipe.poll(seconds):
                raise DecodeError(self.path, f"{HANGS}: given up after {seconds:g} s")
            kind, value = self._pipe.recv()
        except (EOFError, ConnectionError):
            how = _end(self._pipe, self._process, END_SECONDS)
            raise DecodeError(self.path, f"{CRASHES} ({how})") from None
        if kind == "unreadable":
            raise DecodeError(self.path, value)
        if kind == "bug":
            raise AssertionError(f"a bug, met while reading {self.path}:\n{value}")
        return value


def _end(pipe: Connection, process: psutil.Process, patience: float) -> str:
    """Kill it, unless it ends by itself in that many seconds; how it ended."""
    pipe.close()
    code: int | None = None
    for kills, seconds in ((False, patience), (True, END_SECONDS)):
        if not kills and not seconds:
            continue
        with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            if kills:
                process.kill()
            code = process.wait(seconds)
            break
    return how_it_ended(-signal.SIGKILL if code is None else code)


# --- in the fork ---------------------------------------------------------------------------------


def _read(
    pipe: Connection, path: Path, data: DataConfig, views: EvaluationConfig,
    image_fps: float | None,
) -> None:  # fmt: skip
    """Send what the file holds, then its frames uint8 (V, T, size, size, 3), or why not."""
    try:
        info = _probed(path, image_fps)
        pipe.send(("info", info))
        pipe.send(("frames", _frames(path, info, data, views)))
    except DecodeError as error:
        pipe.send(("unreadable", error.reason))
    except Exception:
        pipe.send(("bug", traceback.format_exc()))


def _probed(path: Path, image_fps: float | None) -> VideoInfo:
    """As `probe_videos` finds it."""
    rate: dict[str, Any] = {} if image_fps is None else {"image_fps": image_fps}
    answer, columns = probe_or_reason(path, **rate), InfoColumns.empty(1)
    if isinstance(answer, str):
        raise DecodeError(path, answer)
    try:
        columns.set(0, answer)
    except ValueError as error:  # numbers that no video can have
        raise DecodeError(path, str(error)) from None
    return columns[0]


def _frames(path: Path, info: VideoInfo, data: DataConfig, views: EvaluationConfig) -> Frames:
    """All views of a video, as `EvaluationClips` has them, the crops of a clip decoded once."""
    region = None
    if data.crop_box is not None:
        try:
            region, _ = region_of(data.crop_box, info.height, info.width, info.pixel_aspect)
        except ValueError as error:
            raise DecodeError(path, f"the region of interest {error}") from None
    crops = [
        evaluation_view(
            info.height, info.width, data, crop, views.spatial_crops, info.pixel_aspect, region
        )
        for crop in range(views.spatial_crops)
    ]
    clips = [clip_indices(info, data, at) for at in view_positions(views.temporal_views)]
    read = [read_views(path, clip, info, data.decoder, crops) for clip in clips]
    return np.concatenate(read)
