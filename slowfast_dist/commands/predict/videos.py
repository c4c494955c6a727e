"""Class probabilities of video files, decoded by other processes while the model computes."""

import os
import stat
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.commands.predict.segments import Segment, find_segments
from slowfast_dist.commands.predict.windows import NOT_A_NUMBER, Stopped, score_windows
from slowfast_dist.config.commands import Predict
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.data.columns import InfoColumns
from slowfast_dist.data.dataset import EvaluationClips
from slowfast_dist.data.loaders import decoding_workers, end_workers, make_evaluation_loader
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.data.video_table import VideoTable
from slowfast_dist.inference.predictor import Predictor
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.reader import VideoInfo

FIRST_FILES, MOST_FILES = 16, 1024
"""Files that are looked at before the first of them is scored, and at most later on, four times as
many each time: the first result comes soon, however many files there are."""


@dataclass(frozen=True)
class VideoPrediction:
    """What a model says of one file: ``probabilities`` float64 (K,), or the ``reason`` why there
    are none; ``info`` is None where the file could not even be opened."""

    path: Path
    probabilities: NDArray[np.float64] | None
    reason: str | None
    info: VideoInfo | None


def probe_video(path: Path) -> VideoInfo:
    """What the file holds, read in another process: a file that hangs or crashes it costs nothing
    but time. Raises DecodeError, with the reason."""
    [found] = _probe([path], 1)
    if isinstance(found, str):
        raise DecodeError(path, found)
    return found


def predict_video(
    predictor: Predictor,
    path: Path,
    info: VideoInfo | None = None,
    temporal_views: int | None = None,
    spatial_crops: int | None = None,
    batch_size: int = 8,
    stop: Callable[[], bool] = lambda: False,
) -> NDArray[np.float64]:
    """Class probabilities float64 (K,) of one video file, in the order of ``predictor.classes``.

    The mean over ``temporal_views`` clips times ``spatial_crops`` crops; None: as many as in the
    run's own validation. ``batch_size`` of them are scored at once, and one other process decodes.
    ``info``: what `probe_video` says of the file; None: it is asked here.

    Raises DecodeError (path, reason) for a file that cannot be read, hangs or crashes its decoder,
    or for which the model's output is not a number; UserError for views that would all be the
    same; Stopped, within a batch's time, once ``stop`` returns true.
    """
    info = probe_video(path) if info is None else info
    views = predictor.best.views(temporal_views, spatial_crops)
    with closing(_score(predictor, [path], [info], views, batch_size, 0, stop)) as scores:
        found = next(scores)
    if isinstance(found, str):
        raise DecodeError(path, found)
    return found


def predict_segments(
    predictor: Predictor,
    path: Path,
    window: float | None = None,
    stride: float | None = None,
    smoothing: float | None = None,
    info: VideoInfo | None = None,
    batch_size: int = 8,
    on_progress: Callable[[float], None] = lambda fraction: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Segment]:
    """What happens when in one video file: segments in their order, from the video's start to its
    end without gaps, each with ``start`` and ``end`` in seconds from the first frame on, ``label``,
    a class's name, and ``probability``, its mean within the segment.

    Clips of ``window`` seconds, one every ``stride`` seconds, are scored, ``batch_size`` at once;
    their probabilities are averaged over ``smoothing`` seconds. All three are positive, but that a
    smoothing of 0 does none. None is the usual value: as long a window as the clips of the
    training, a half of it (with sampling uniform a quarter), one window. ``info``: what
    `probe_video` says of the file; None: it is asked here. ``on_progress`` is given the fraction
    that is done, 0 to 1.

    Raises DecodeError (path, reason) for a video that is damaged anywhere, hangs or crashes its
    decoder, or for which the model's output is not a number; Stopped, within a batch's time, once
    ``stop`` returns true.
    """
    info = probe_video(path) if info is None else info
    scores = score_windows(predictor, path, info, window, stride, batch_size, on_progress, stop)
    return find_segments(scores, predictor.classes, smoothing)


def predict_videos(
    predictor: Predictor, paths: Iterable[Path], command: Predict
) -> Generator[VideoPrediction, None, None]:
    """A prediction of each file, in their order, each as soon as it and those before it are done.

    A file that cannot be read, or that hangs or crashes its decoder, costs only itself. Closing the
    generator ends its processes. Raises UserError for views that would all be the same.
    """
    views = predictor.best.views(command.temporal_views, command.spatial_crops)
    workers = decoding_workers(command.num_workers, 1)
    following, size = iter(paths), FIRST_FILES
    while some := list(islice(following, size)):
        found = _probe(some, available_cpus())
        readable = [p for p, info in zip(some, found, strict=True) if not isinstance(info, str)]
        infos = [info for info in found if not isinstance(info, str)]
        with closing(
            _score(predictor, readable, infos, views, command.batch_size, workers)
        ) as scores:
            for path, info in zip(some, found, strict=True):
                if isinstance(info, str):
                    yield VideoPrediction(path, None, info, None)
                    continue
                score = next(scores)
                if isinstance(score, str):
                    yield VideoPrediction(path, None, score, info)
                else:
                    yield VideoPrediction(path, score, None, info)
        size = min(4 * size, MOST_FILES)


def _probe(paths: Sequence[Path], workers: int) -> list[VideoInfo | str]:
    """What each file holds, or why it cannot be read.

    Nothing goes into the probes' cache: a look takes a fraction of what the decoding then takes,
    and what is predicted once, as an upload, should leave no trace.
    """
    refused = {row: why for row, path in enumerate(paths) if (why := _why_no_file(path))}
    rows = [row for row in range(len(paths)) if row not in refused]
    table = _table([paths[row] for row in rows])
    probed = probe_videos(table, workers, None, show_progress=False)
    found: dict[int, VideoInfo | str] = dict(zip(rows, probed, strict=True))
    return [refused[row] if row in refused else found[row] for row in range(len(paths))]


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _why_no_file(path: Path) -> str | None:
    """Of what a read would wait for, or never come to an end of; None for a file."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:  # a null character
        return str(error)
    return None if stat.S_ISREG(mode) else f"{_KINDS.get(stat.S_IFMT(mode), 'not')}, no file"


def _table(paths: Sequence[Path]) -> VideoTable:
    """Files of any folders; those are resolved, so that one folder is above them all."""
    return VideoTable.of_paths([Path(os.path.realpath(p.parent), p.name) for p in paths])


def _score(
    predictor: Predictor,
    paths: Sequence[Path],
    infos: Sequence[VideoInfo],
    views: EvaluationConfig,
    batch_size: int,
    workers: int,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[NDArray[np.float64] | str, None, None]:
    """Of each file the mean probabilities (K,) over its ``views``, or why not.

    The clips of one file and the next are scored together, ``batch_size`` at once.
    """
    videos = _table(paths).probed(InfoColumns.of(infos))
    data = predictor.best.data
    clips = EvaluationClips(videos, data, views.temporal_views, views.spatial_crops)
    batches = -(-len(videos) * clips.views // batch_size)
    # There is nothing to compute while the only batch is read.
    workers = min(workers, batches) if batches > 1 else 0
    loader = make_evaluation_loader(clips, batch_size, workers, 0, 1, pin=False)
    sums = np.zeros((len(videos), len(predictor.classes)))
    scored = np.zeros(len(videos), np.int64)
    reasons: dict[int, str] = {}
    done = 0
    try:
        for batch in loader:
            if stop():
                raise Stopped
            for failure in batch.failures:
                reasons.setdefault(failure.video, failure.reason)
            if len(batch):
                frames = batch.frames.permute(0, 1, 3, 4, 2).numpy()  # as they lie in memory
                rows = batch.videos.numpy()
                np.add.at(sums, rows, predictor.probabilities(frames))
                np.add.at(scored, rows, 1)
            while done < len(videos) and (done in reasons or scored[done] == clips.views):
                mean = sums[done] / clips.views
                good = np.isfinite(mean).all()
                yield reasons.get(done) or (mean if good else NOT_A_NUMBER)
                done += 1
    finally:
        if workers:
            end_workers(loader)
