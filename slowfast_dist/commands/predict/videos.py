"""Class probabilities and segments of video files, decoded by other processes meanwhile."""

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.commands.predict import Predict
from slowfast_dist.inference.inputs import Input
from slowfast_dist.inference.predictor import Predictor
from slowfast_dist.inference.scoring import (
    FileRow,
    probe_inputs,
    rows_of_files,
    rows_of_videos,
    table_of,
)
from slowfast_dist.inference.segments import Segment, find_segments, with_unknown
from slowfast_dist.inference.windows import score_windows
from slowfast_dist.runs.settings import own_image_rate
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.reader import VideoInfo

if TYPE_CHECKING:
    from slowfast_dist.inference.one_video import EarlyVideo


@dataclass(frozen=True)
class VideoPrediction:
    """What a model says of one file: ``probabilities`` float64 (K,), or the ``reason`` why there
    are none; ``info`` is None where the file could not even be opened."""

    path: Path
    probabilities: NDArray[np.float64] | None
    reason: str | None
    info: VideoInfo | None


def probe_video(path: Path, image_fps: float | None = None) -> VideoInfo:
    """What the file, or folder of images, holds, read in another process: a file that hangs or
    crashes it costs nothing but time. ``image_fps``: images a second of a folder that does not say.
    Raises DecodeError, with the reason."""
    [found] = probe_inputs([Input(path)], 1, image_fps)
    if isinstance(found, str):
        raise DecodeError(path, found)
    return found


def _probed(predictor: Predictor, path: Path) -> VideoInfo:
    """With images a second as the model's training was told. Raises DecodeError."""
    return probe_video(path, own_image_rate(predictor.best.folder))


def predict_video(
    predictor: Predictor, path: Path, info: VideoInfo | None = None,
    temporal_views: int | None = None, spatial_crops: int | None = None, batch_size: int = 8,
    stop: Callable[[], bool] = lambda: False,
) -> NDArray[np.float64]:  # fmt: skip
    """Class probabilities float64 (K,) of one video file: the mean over ``temporal_views`` clips
    times ``spatial_crops`` crops, ``batch_size`` at once; None: as many as in the run's validation.

    ``info``: what `probe_video` says of the file; None: it is asked here. Raises DecodeError for a
    file that cannot be read or scored; UserError for views that would all be the same; Stopped,
    within a batch's time, once ``stop`` returns true.
    """
    info = _probed(predictor, path) if info is None else info
    views = predictor.best.views(temporal_views, spatial_crops)
    from slowfast_dist.data.workers import WorkerPlan

    table, data, none = table_of([(path, info)]), predictor.best.data, WorkerPlan(0)
    rows = rows_of_videos(predictor.probabilities, table, data, views, batch_size, none, stop)
    with closing(rows):
        found = next(rows)
    if isinstance(found, str):
        raise DecodeError(path, found)
    return predictor.calibrated(found)


def predict_segments(
    predictor: Predictor, path: Path, window: float | None = None, stride: float | None = None,
    smoothing: float | None = None, info: VideoInfo | None = None, batch_size: int = 8,
    on_progress: Callable[[float], None] = lambda fraction: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Segment]:  # fmt: skip
    """What happens when in one video file, as `find_segments` cuts what `score_windows` says.

    ``info``: what `probe_video` says of the file; None: it is asked here. Raises what
    `score_windows` raises.
    """
    info = _probed(predictor, path) if info is None else info
    scores = score_windows(predictor, path, info, window, stride, batch_size, on_progress, stop)
    found = find_segments(scores, predictor.classes, smoothing)
    return with_unknown(found, predictor.best.min_confidence)


def predict_videos(
    predictor: Predictor, files: Iterable[Input], command: Predict,
    early: "EarlyVideo | None" = None,
) -> Generator[VideoPrediction, None, None]:  # fmt: skip
    """A prediction of each input, as `rows_of_files` finds them; ``early``: of the only one, where
    it is being read."""
    if early is not None:
        if early.data == predictor.best.data:  # else a training wrote another model meanwhile
            yield _prediction(predictor, early.row(predictor.probabilities))
            return
        early.close()
    rows = rows_of_files(predictor.best, predictor.probabilities, files, command)
    with closing(rows):
        for one in rows:
            yield _prediction(predictor, one)


def _prediction(predictor: Predictor, one: FileRow) -> VideoPrediction:
    said = None if one.row is None else predictor.calibrated(one.row)
    return VideoPrediction(one.path, said, one.reason, one.info)
