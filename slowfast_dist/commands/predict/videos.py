"""Class probabilities of video files, decoded by other processes while the model computes."""

import os
import stat
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.commands.predict.inputs import Input
from slowfast_dist.config.commands import Predict
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.data.clips import clip_indices, view_positions
from slowfast_dist.data.dataset import EvaluationClips, batch_bytes
from slowfast_dist.data.image_folders import gap_of
from slowfast_dist.data.listing.columns import InfoColumns
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.loaders import make_evaluation_loader
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.data.workers import WorkerPlan, end_workers, plan_workers
from slowfast_dist.inference.predictor import Predictor
from slowfast_dist.inference.segments import Segment, find_segments, with_unknown
from slowfast_dist.inference.windows import NOT_A_NUMBER, Stopped, score_windows
from slowfast_dist.runs.videos import own_image_rate
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.system.log import logger
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.images.listing import stamp_of
from slowfast_dist.video.pictures import PictureCounts
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.views import region_of

FIRST_FILES, MAX_FILES = 16, 1024
"""Files that are probed at once before they are scored, the first time and at most, four times as
many each time: the first result comes soon, however many files there are."""


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
    [found] = _probe([Input(path)], 1, image_fps)
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
    none = WorkerPlan(0)
    with closing(_score(predictor, [(path, info)], views, batch_size, none, stop)) as scores:
        found = next(scores)
    if isinstance(found, str):
        raise DecodeError(path, found)
    return found


def seen_part(
    predictor: Predictor, info: VideoInfo, temporal_views: int | None = None
) -> tuple[float, float, float] | None:
    """Seconds from the video's first frame: from where to where the clips of `predict_video` reach,
    and how many of these they show; None where they show the whole video, up to less than the time
    from one frame of a clip to the next, or the file does not tell how fast it plays."""
    data, clips = predictor.best.data, predictor.best.views(temporal_views, None).temporal_views
    times = info.times()
    if data.sampling != "dense" or times is None:
        return None
    shown = [clip_indices(info, data, place) for place in view_positions(clips)]
    spans = [(int(frames.min()), int(frames.max())) for frames in shown]
    frame = float(times[-1]) / max(1, info.frames - 1) or 1.0
    seen, reached = 0.0, 0.0
    for first, last in spans:
        end = float(times[last]) + frame
        seen += max(0.0, end - max(reached, float(times[first])))
        reached = max(reached, end)
    counted = frame if data.frame_rate == "video" else 1 / data.frame_rate
    if float(times[-1]) + frame - seen < data.sampling_rate * counted + frame / 2:
        return None
    return float(times[spans[0][0]]), reached, seen


class SeenVideos:
    """Of videos that were predicted: what is unlike those of the training, and what was not seen of
    them; counted, as people should know it."""

    def __init__(
        self, predictor: Predictor, temporal_views: int | None = None, whole: bool = False,
        remedy: str | None = None,
    ) -> None:  # fmt: skip
        """``temporal_views`` as for `predict_video`; ``whole``: whether all of each video is looked
        at in any case; the ``remedy`` where it is not, None: that of the command."""
        self._of_region = "give videos that show that alone"
        if remedy is None:
            self._of_region = "--crop-box X Y W H shows one"
            remedy = "--segments tells what happens when in all of it"
            if predictor.best.task.several:
                remedy = "--temporal-views 10 looks at more of it"
        self._predictor, self._views = predictor, temporal_views
        self._whole, self._remedy = whole, remedy
        self._rates: list[float] = []
        self._pictures: PictureCounts | None = None
        self._names: list[str] = []
        self._gaps: list[str] = []
        self._cut: list[str] = []
        self._longer, self._unseen, self._example = 0, 0.0, ""

    def add(self, name: str, info: VideoInfo) -> None:
        """A video that was predicted, and what to call it."""
        self._rates.append(info.mean_rate())
        pictures = PictureCounts.of_one(vars(info))
        self._pictures = self._pictures + pictures if self._pictures else pictures
        self._names.append(name)
        self._gaps += [gap for gap in [gap_of(name, info)] if gap]
        box = self._predictor.best.data.crop_box
        if box is not None and region_of(box, info.height, info.width, info.pixel_aspect)[1]:
            self._cut.append(name)
        part = None if self._whole else seen_part(self._predictor, info, self._views)
        if part is None:
            return
        self._longer += 1
        begin, end, seen = part
        seconds = info.frames / info.mean_rate()
        if seconds - seen > self._unseen:
            self._unseen = seconds - seen
            clips = self._predictor.best.views(self._views, None).temporal_views
            how = f"in {clips} clips " if clips > 1 else ""
            parts = f"{seen:.1f} of {seconds:.1f} s, {how}from {begin:.1f} to {end:.1f} s"
            self._example = f"{name}: {parts}"

    def notes(self) -> list[str]:
        """A line each."""
        best, rates, total = self._predictor.best, np.array(self._rates), len(self._names)
        lines = best.picture_notes(self._pictures) if self._pictures else []
        lines += best.region_notes(self._of_region) if total else []
        lines += best.rate_notes(rates, self._names.__getitem__)
        lines += self._gaps
        if self._cut:
            lines.append(
                f"the region of interest reaches beyond the picture of {len(self._cut)} of {total} "
                f"videos, as {self._cut[0]}, and is cut there"
            )
        if self._longer:
            which = f"{self._longer} of {total} videos are longer than what was looked at, as "
            lines.append(
                f"{which if total > 1 else 'looked at of '}{self._example}; {self._remedy}"
            )
        return lines


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
    predictor: Predictor, files: Iterable[Input], command: Predict
) -> Generator[VideoPrediction, None, None]:
    """A prediction of each input, in their order, each as soon as it and those before it are done.

    A file that cannot be read, or that hangs or crashes its decoder, costs only itself. Closing the
    generator ends its processes. Raises UserError for views that would all be the same.
    """
    views = predictor.best.views(command.temporal_views, command.spatial_crops)
    size_of_batch = batch_bytes(predictor.best.data, command.batch_size)
    plan = plan_workers(command.num_workers, 1, size_of_batch)
    for note in plan.notes:
        logger.info(note)
    following, size = iter(files), FIRST_FILES
    rate = command.image_fps or own_image_rate(predictor.best.folder)
    while some := list(islice(following, size)):
        found = list(zip(some, _probe(some, available_cpus(), rate), strict=True))
        readable = [(given.path, info) for given, info in found if not isinstance(info, str)]
        with closing(_score(predictor, readable, views, command.batch_size, plan)) as scores:
            for given, info in found:
                if isinstance(info, str):
                    yield VideoPrediction(given.path, None, info, None)
                elif isinstance(score := next(scores), str):
                    yield VideoPrediction(given.path, None, score, info)
                else:
                    yield VideoPrediction(given.path, score, None, info)
        size = min(4 * size, MAX_FILES)


def _probe(
    files: Sequence[Input], workers: int, image_fps: float | None
) -> list[VideoInfo | str]:
    """What each file, or folder of images, holds, or why it cannot be read.

    Nothing goes into the probes' cache: a probe takes a fraction of what the decoding then takes,
    and what is predicted once, as an upload, should leave no trace.
    """
    refused = [given.reason or _not_a_file(given.path) for given in files]
    table = _table([given.path for given, why in zip(files, refused, strict=True) if why is None])
    probed = iter(probe_videos(table, workers, None, False, image_fps))
    return [next(probed) if why is None else why for why in refused]


_KINDS_OF_FILE = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def _not_a_file(path: Path) -> str | None:
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
    return VideoTable.of_paths([Path(os.path.realpath(p.parent), p.name) for p in paths])


def _score(
    predictor: Predictor, files: Sequence[tuple[Path, VideoInfo]], views: EvaluationConfig,
    batch_size: int, plan: WorkerPlan, stop: Callable[[], bool] = lambda: False,
) -> Generator[NDArray[np.float64] | str, None, None]:  # fmt: skip
    """Of each file the mean probabilities (K,) over its ``views``, calibrated, or why not.

    The clips of one file and the next are scored together, ``batch_size`` at once.
    """
    infos = InfoColumns.of([info for _, info in files])
    videos = _table([path for path, _ in files]).probed(infos)
    data = predictor.best.data
    clips = EvaluationClips(videos, data, views.temporal_views, views.spatial_crops)
    batches = -(-len(videos) * clips.views // batch_size)
    # There is nothing to compute while the only batch is read.
    plan = replace(plan, workers=min(plan.workers, batches) if batches > 1 else 0)
    loader = make_evaluation_loader(clips, batch_size, plan, 0, 1, pin=False)
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
                said = predictor.calibrated(mean) if good else NOT_A_NUMBER
                yield reasons.get(done) or said
                done += 1
    finally:
        if plan.workers:
            end_workers(loader)
