"""Score a long video window by window: each frame is decoded once, and few are held."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.clips import EvenClips, TimedClips, clip_offsets, loops, uniform_indices
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.ordered_reader import FrameTimes, VideoReader
from slowfast_dist.video.reader import Frames, VideoInfo
from slowfast_dist.video.views import evaluation_view, region_of

if TYPE_CHECKING:
    from slowfast_dist.inference.predictor import Predictor
    from slowfast_dist.runs.best_model import BestModel

UNIFORM_SECONDS = 2.0
"""Seconds that a window spans with sampling uniform, where the model does not say how long its
training videos were, which its clips spanned whole: the length of a short action."""

TIME_TOLERANCE = 1e-4
"""Seconds by which the times of frames may be off, as files round them to a tenth of a millisecond
or finer."""

OVERLAP = {"dense": 2, "uniform": 4}
"""Windows that begin within the length of one, by --data.sampling. With sampling uniform a window
is as long as an action, and with two of them an action may lie so that no window shows more than
three quarters of it. Measured on 60 videos of three clips in turn: with four, 77 of 120 boundaries
are found within 1 s, with two 66 (95 % of the difference, bootstrapped by video: 0 to 22); with
sampling dense 89 and 86 of 112."""

WHOLE_VIDEO_FACTOR = 2.0
"""Length of a video, in those of the training videos, up to which a model with sampling uniform
sees it as it saw those: whole. Beyond that it may well show a second action."""


def default_window(
    best: "BestModel", window: float | None, duration: float | None = None
) -> float | None:
    """``window`` in seconds; if None, with sampling uniform, the length of its training videos, or
    all of a video of ``duration`` that is not much longer."""
    if window is not None or best.data.sampling != "uniform" or best.video_seconds is None:
        return window
    whole = duration is not None and duration <= WHOLE_VIDEO_FACTOR * best.video_seconds
    return duration if whole else best.video_seconds


NOT_A_NUMBER = "the model's output is not a number: are its weights damaged?"


class Stopped(Exception):
    """The caller asked for a stop before the video's end."""


@dataclass(frozen=True)
class WindowScores:
    """What a model says of W windows of a video, in their order: ``probabilities`` (W, K).

    In seconds from the video's first frame on: ``starts`` and ``ends`` (W,), when each window's
    first frame appears and its last one disappears; ``duration``, when the video's last one does.
    """

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    duration: float

    def of_classes(self, columns: Sequence[int] | NDArray[np.int64]) -> "WindowScores":
        """Of these classes alone, in this order: probabilities (W, len(columns))."""
        return replace(self, probabilities=self.probabilities[:, columns])


def plan_windows(
    times: FrameTimes, data: DataConfig, window: float | None, stride: float | None
) -> NDArray[np.int64]:
    """The frames of each window, int64 (W, T): windows of ``window`` seconds, one every ``stride``
    seconds (None: half a window, with sampling uniform a quarter) and one that ends with the video;
    a single one where the video is no longer than that.

    A window's frames are spread evenly over it; with sampling dense and no ``window`` they are a
    clip as in training, ``sampling_rate`` frames apart or by their times.
    """
    dense = data.sampling == "dense" and window is None
    frame_seconds = times.end / len(times.starts)
    clips = _clips_of(times, data)
    if window is None:
        window = _span(clips, frame_seconds) if dense else UNIFORM_SECONDS
    stride = window / OVERLAP[data.sampling] if stride is None else stride
    stride = max(stride, frame_seconds / 2)
    latest = times.starts[clips.latest] if dense else max(0.0, times.end - window)
    begins = np.append(np.arange(0.0, latest - TIME_TOLERANCE, stride), latest)
    firsts = np.searchsorted(times.starts, begins - TIME_TOLERANCE)
    if dense:
        firsts = np.unique(np.minimum(firsts, clips.latest))
        return np.stack([clips.starting_at(first) for first in firsts.tolist()])
    lasts = np.searchsorted(times.starts, begins + window - TIME_TOLERANCE) - 1
    firsts = np.minimum(firsts, lasts)  # no frame begins in it: the one that is still shown
    # Once each: a stride may be less than the time of a frame.
    spans = np.unique(np.stack([firsts, lasts], axis=1), axis=0).tolist()
    return np.stack([
        uniform_indices(end - first + 1, data.num_frames, loops(data)) + first
        for first, end in spans
    ])  # fmt: skip


def _clips_of(times: FrameTimes, data: DataConfig) -> EvenClips | TimedClips:
    """The clips with sampling dense of a video whose frames are shown at these times."""
    seconds = clip_offsets(None, data)
    if seconds is not None:
        return TimedClips(times.starts, seconds, loops(data))
    frames = data.sampling_rate * np.arange(data.num_frames)
    return EvenClips(len(times.starts), frames, loops(data))


def _span(clips: EvenClips | TimedClips, frame_seconds: float) -> float:
    """Seconds from the beginning of a clip's first frame to the end of its last one."""
    last = float(clips.offsets[-1])
    return frame_seconds + (last if isinstance(clips, TimedClips) else last * frame_seconds)


@dataclass(frozen=True)
class Window:
    """From when its first frame appears to when its last one disappears, in seconds from the
    video's first frame on; ``row``: what was computed of it, float64 (C,), the mean over crops."""

    start: float
    end: float
    row: NDArray[np.float64]


def score_windows(
    predictor: "Predictor", path: Path, info: VideoInfo, window: float | None,
    stride: float | None, batch_size: int,
    on_progress: Callable[[float], None] = lambda fraction: None,
    stop: Callable[[], bool] = lambda: False,
) -> WindowScores:  # fmt: skip
    """Score the windows of a video as `compute_windows` does, and raise what that raises.

    Raises UserError for a model of several labels a clip, as segments without gaps have one each.
    """
    predictor.best.require_one_label("--segments")
    windows = list(compute_windows(
        predictor.best, predictor.probabilities, path, info, window, stride, batch_size,
        on_progress, stop,
    ))  # fmt: skip
    starts, ends = (np.array([getattr(one, name) for one in windows]) for name in ("start", "end"))
    probabilities = predictor.calibrated(np.stack([one.row for one in windows]))
    return WindowScores(starts, ends, probabilities, float(ends[-1]))


def compute_windows(
    best: "BestModel", compute: Callable[[Frames], NDArray[Any]], path: Path, info: VideoInfo,
    window: float | None, stride: float | None, batch_size: int,
    on_progress: Callable[[float], None] = lambda fraction: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Window]:  # fmt: skip
    """The windows of a video that `plan_windows` places, in their order, each with what is computed
    of clips (B, T, H, W, 3), a row (C,) each, ``batch_size`` at once.

    One centre crop, or the mean of three where the run's validation took three. Memory does not
    grow with the length. ``on_progress`` is given the fraction that is done. Once ``stop`` says so
    Stopped is raised, within a batch's time. Raises DecodeError for a video that is damaged
    anywhere, or hangs or crashes the decoder, and where the model's output is not a number.
    """
    data, crops = best.data, best.evaluation.spatial_crops
    region = None
    if data.crop_box is not None:
        try:
            region, _ = region_of(data.crop_box, info.height, info.width, info.pixel_aspect)
        except ValueError as error:
            raise DecodeError(path, f"the region of interest (crop_box) {error}") from None
    views = [
        evaluation_view(info.height, info.width, data, crop, crops, info.pixel_aspect, region)
        for crop in range(crops)
    ]

    def raise_if_stopped() -> None:
        if stop():
            raise Stopped

    with VideoReader(path, info, views, raise_if_stopped) as reader:
        times = reader.times()
        if clip_offsets(info, data) is None:
            data = replace(data, frame_rate="video")
        window = default_window(best, window, times.end)
        windows = plan_windows(times, data, window, stride)
        firsts, lasts = windows.min(axis=1), windows.max(axis=1)
        shown = times.starts.copy()
        lengths = np.append(times.starts[1:], times.end) - times.starts
        waiting: list[NDArray[np.float64]] = []  # rows of crops of the window that follows
        done = 0
        clips = _clips(windows, reader, shown)
        while batch := list(islice(clips, batch_size)):
            raise_if_stopped()
            rows = compute(np.stack(batch))
            if not np.isfinite(rows).all():
                raise DecodeError(path, NOT_A_NUMBER)
            waiting += list(rows)
            while len(waiting) >= crops:
                # A short video that loops ends with an earlier frame.
                first, last = firsts[done], lasts[done]
                row = np.stack(waiting[:crops]).mean(axis=0, dtype=np.float64)
                yield Window(float(shown[first]), float(shown[last] + lengths[last]), row)
                del waiting[:crops]
                done += 1
            on_progress((done * crops + len(waiting)) / (crops * len(windows)))


def _clips(
    windows: NDArray[np.int64], reader: VideoReader, shown: NDArray[np.float64]
) -> Iterator[Frames]:
    """The clips (T, size, size, 3) of all windows, crop by crop, as soon as their frames are there.

    A frame is held until no window to come needs it; its own time is put into ``shown``.
    """
    held: dict[int, Frames] = {}
    following = 0
    firsts, lasts = windows.min(axis=1), windows.max(axis=1)
    for number, time, views in reader.read(np.unique(windows).tolist()):
        held[number], shown[number] = views, time
        while following < len(windows) and lasts[following] == number:
            frames = np.stack([held[place] for place in windows[following].tolist()], axis=1)
            yield from frames
            following += 1
            first = firsts[following] if following < len(windows) else number + 1
            held = {place: views for place, views in held.items() if place >= first}
