"""What a model computes of video files, decoded by other processes meanwhile: a row for each.

torch is imported with the loaders, late: one video needs none (`one_video`).
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.data.listing.columns import InfoColumns
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.inference.inputs import Input
from slowfast_dist.inference.windows import NOT_A_NUMBER, Stopped
from slowfast_dist.runs.best_model import BestModel
from slowfast_dist.runs.settings import own_image_rate
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.system.log import logger
from slowfast_dist.video.images.listing import stamp_of
from slowfast_dist.video.reader import VideoInfo

if TYPE_CHECKING:
    from slowfast_dist.data.workers import WorkerPlan

Compute = Callable[[NDArray[np.uint8]], NDArray[Any]]
"""From clips (B, T, H, W, 3) to a row of numbers for each, (B, C): probabilities, features."""

FIRST_FILES, MAX_FILES = 16, 1024
"""Files that are probed at once before they are scored, the first time and at most, four times as
many each time: the first result comes soon, however many files there are."""


@dataclass(frozen=True)
class FileRow:
    """What was computed of one file: ``row`` float64 (C,), or the ``reason`` why there is none;
    ``info`` is None where the file could not even be opened."""

    path: Path
    row: NDArray[np.float64] | None
    reason: str | None
    info: VideoInfo | None


class Asked(Protocol):
    """The flags that say how files are read; None as in the run's validation."""

    @property
    def temporal_views(self) -> int | None: ...
    @property
    def spatial_crops(self) -> int | None: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def num_workers(self) -> int | Literal["auto"]: ...
    @property
    def image_fps(self) -> float | None: ...


def rows_of_files(
    best: BestModel, compute: Compute, files: Iterable[Input], asked: Asked
) -> Generator[FileRow, None, None]:
    """A row of each input, in their order, each as soon as it and those before it are done.

    A file that cannot be read, or that hangs or crashes its decoder, costs only itself. Closing the
    generator ends its processes. Raises UserError for views that would all be the same.
    """
    views = best.views(asked.temporal_views, asked.spatial_crops)
    plan = plan_of(best, asked)
    for some in probed_parts(best, files, asked.image_fps):
        readable = [(given.path, info) for given, info in some if not isinstance(info, str)]
        size = asked.batch_size
        rows = rows_of_videos(compute, table_of(readable), best.data, views, size, plan)
        with closing(rows):
            for given, info in some:
                if isinstance(info, str):
                    yield FileRow(given.path, None, info, None)
                elif isinstance(row := next(rows), str):
                    yield FileRow(given.path, None, row, info)
                else:
                    yield FileRow(given.path, row, None, info)


def plan_of(best: BestModel, asked: Asked) -> "WorkerPlan":
    """The decoding processes; says what limits them."""
    from slowfast_dist.data.samples.batch import batch_bytes
    from slowfast_dist.data.workers import plan_workers

    plan = plan_workers(asked.num_workers, 1, batch_bytes(best.data, asked.batch_size))
    for note in plan.notes:
        logger.info(note)
    return plan


def probed_parts(
    best: BestModel, files: Iterable[Input], image_fps: float | None
) -> Generator[list[tuple[Input, VideoInfo | str]], None, None]:
    """The files with what they hold, or why they cannot be read, some at a time."""
    following, size = iter(files), FIRST_FILES
    rate = image_fps or own_image_rate(best.folder)
    while some := list(islice(following, size)):
        yield list(zip(some, probe_inputs(some, available_cpus(), rate), strict=True))
        size = min(4 * size, MAX_FILES)


def table_of(files: Sequence[tuple[Path, VideoInfo]]) -> VideoTable:
    """A table of probed files."""
    return _table([path for path, _ in files]).probed(InfoColumns.of([info for _, info in files]))


def probe_inputs(
    files: Sequence[Input], workers: int, image_fps: float | None
) -> list[VideoInfo | str]:
    """What each file, or folder of images, holds, or why it cannot be read.

    Nothing goes into the probes' cache: a probe takes a fraction of what the decoding then takes,
    and what is predicted once, as an upload, should leave no trace.
    """
    refused = [given.reason or why_no_file(given.path) for given in files]
    table = _table([given.path for given, why in zip(files, refused, strict=True) if why is None])
    probed = iter(probe_videos(table, workers, None, False, image_fps))
    return [next(probed) if why is None else why for why in refused]


_KINDS_OF_FILE = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def why_no_file(path: Path) -> str | None:
    """What else it is, as a read might wait for ever or never come to an end; None for a file
    and for a folder of images."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # the latter of a null character
        return getattr(error, "strerror", None) or str(error)
    if stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and stamp_of(path)):
        return None
    return f"{_KINDS_OF_FILE.get(stat.S_IFMT(mode), 'not')}, no file"


def _table(paths: Sequence[Path]) -> VideoTable:
    """Files of any folders; those are resolved, so that one folder is above them all."""
    return VideoTable.of_paths([resolved(path) for path in paths])


def resolved(path: Path) -> Path:
    """The same file, by its folder's real path."""
    return Path(os.path.realpath(path.parent), path.name)


def rows_of_videos(
    compute: Compute, videos: VideoTable, data: DataConfig, views: EvaluationConfig,
    batch_size: int, plan: "WorkerPlan", stop: Callable[[], bool] = lambda: False,
) -> Generator[NDArray[np.float64] | str, None, None]:  # fmt: skip
    """Of each video of a table, which was probed, the mean over its ``views`` of what is computed
    of a clip, float64 (C,), or why there is none; of parts of files in their `reading_order`.

    The clips of one video and the next are computed together, ``batch_size`` at once. Raises
    Stopped, within a batch's time, once ``stop`` returns true.
    """
    from slowfast_dist.data.loaders import make_evaluation_loader
    from slowfast_dist.data.samples.evaluation import EvaluationClips
    from slowfast_dist.data.workers import end_workers

    clips = EvaluationClips(videos, data, views.temporal_views, views.spatial_crops)
    batches = -(-len(videos) * clips.views // batch_size)
    # There is nothing to compute while the only batch is read.
    plan = replace(plan, workers=min(plan.workers, batches) if batches > 1 else 0)
    loader = make_evaluation_loader(clips, batch_size, plan, 0, 1, pin=False)
    sums: NDArray[np.float64] | None = None
    scored = np.zeros(len(videos), np.int64)
    reasons: dict[int, str] = {}
    order = clips.reading_order()
    waiting = deque(range(len(videos)) if order is None else order.tolist())
    try:
        for batch in loader:
            if stop():
                raise Stopped
            for failure in batch.failures:
                reasons.setdefault(failure.video, failure.reason)
            if len(batch):
                frames = batch.frames.permute(0, 1, 3, 4, 2).numpy()  # as they lie in memory
                found = compute(frames)
                if sums is None:
                    sums = np.zeros((len(videos), found.shape[1]))
                rows = batch.videos.numpy()
                np.add.at(sums, rows, found)
                np.add.at(scored, rows, 1)
            while waiting and (waiting[0] in reasons or scored[waiting[0]] == clips.views):
                row = waiting.popleft()
                if row in reasons:
                    yield reasons[row]
                    continue
                assert sums is not None
                mean = sums[row] / clips.views
                yield mean if np.isfinite(mean).all() else NOT_A_NUMBER
    finally:
        if plan.workers:
            end_workers(loader)
