"""Which frames of a video make a clip, and how long clips last: numbers only, no I/O."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.seeking import REMEMBERED, unpack_uneven_times

TIE = 1e-6
"""Frames, or seconds, by which two distances count as the same: far below what tells frames apart,
far above the rounding of the numbers."""


Span = tuple[int, int] | None
"""A part of a video: its first frame and the one behind its last; None: all of it."""


def clip_indices(
    info: VideoInfo, data: DataConfig, position: float, span: Span = None, speed: float = 1.0
) -> NDArray[np.int64]:
    """The frames (num_frames,) of a clip of a video, or of the part ``span`` of it, as ``data``
    says; ``position`` in [0, 1] as in `dense_indices`.

    ``speed``: how many times as fast as usual the clip plays, and as long it lasts; with sampling
    uniform, whose clips last as long as the video, a speed below 1 is the share of it that they
    show, at ``position``, which counts for nothing else there."""
    if data.sampling == "uniform":
        first, end = (0, info.frames) if span is None else span
        if span is not None and data.short_segments == "context":
            first, end = _widened(first, end, data.num_frames, info.frames)
        if speed < 1:
            first, end = _share(first, end, speed, position)
        return first + uniform_indices(end - first, data.num_frames, loops(data))
    if span is None:
        return dense_clips(info, data, speed=speed).at(position)
    part, first = dense_clips(info, data, span, speed), span[0]
    if part.fit or data.short_segments == "repeat":
        return first + part.at(position)
    return _in_context(dense_clips(info, data, speed=speed), span)


def _share(first: int, end: int, share: float, position: float) -> tuple[int, int]:
    """A part of frames ``first`` to ``end`` as long as that share of them, at least one frame."""
    frames = max(1, round(share * (end - first)))
    starts = end - first - frames + 1
    first += min(int(position * starts), starts - 1)
    return first, first + frames


def shown_frames(
    info: VideoInfo, data: DataConfig, span: Span = None
) -> NDArray[np.int64]:
    """All frames, each once, that any clip of `clip_indices` shows, whatever its position."""
    if data.sampling == "uniform":
        return np.unique(clip_indices(info, data, 0.0, span))
    clips, first = dense_clips(info, data, span), 0 if span is None else span[0]
    if span is not None and not clips.fit and data.short_segments == "context":
        return np.unique(clip_indices(info, data, 0.0, span))
    starts = range(clips.latest + 1)
    return first + np.unique(np.concatenate([clips.starting_at(start) for start in starts]))


def _in_context(clips: "EvenClips | TimedClips", span: tuple[int, int]) -> NDArray[np.int64]:
    """The clip of a whole video whose middle is that of a part of it, or as near to that as the
    video's ends allow."""
    first, end = span
    if isinstance(clips, EvenClips):
        start = (first + end - 1 - int(clips.offsets[-1])) // 2
        return clips.starting_at(min(max(start, 0), clips.latest))
    times = clips.times
    middle = (times[first] + times[min(end, len(times)) - 1]) / 2
    start = int(nearest(times, np.array([middle - clips.offsets[-1] / 2]))[0])
    return clips.starting_at(min(start, clips.latest))


def _widened(first: int, end: int, frames: int, video_frames: int) -> tuple[int, int]:
    """A part of a video that has so many ``frames`` at least, with those around it, as far as the
    video has them."""
    missing = max(0, frames - (end - first))
    first = max(0, min(first - missing // 2, video_frames - max(frames, end - first)))
    return first, min(video_frames, max(end, first + frames))


def loops(data: DataConfig) -> bool:
    """Whether a clip that goes beyond the end of a video begins again with its first frame."""
    return data.short_videos == "loop"


def view_positions(temporal_views: int) -> list[float]:
    """Where the clips of an evaluation lie: one in the centre; several from the first possible
    start to the last."""
    last = temporal_views - 1
    return [view / last for view in range(temporal_views)] if last else [0.5]


def dense_indices(
    video_frames: int, num_frames: int, sampling_rate: int, position: float, loop: bool = False
) -> NDArray[np.int64]:
    """Frames ``start + i * sampling_rate``, shape (num_frames,); beyond the end, the last frame, or
    with ``loop`` those from the first one on.

    ``position`` in [0, 1] places the start among the possible ones: 0 is the beginning of the
    video, 0.5 the centre, 1 the latest start whose clip fits, and a uniform draw makes every
    start equally likely.
    """
    assert sampling_rate > 0
    offsets = sampling_rate * np.arange(num_frames, dtype=np.int64)
    return EvenClips(video_frames, offsets, loop).at(position)


@dataclass(frozen=True)
class EvenClips:
    """Clips of a video whose frames are shown at even times: ``offsets`` (T,), rising from 0, from
    a clip's first frame; ``loop``: beyond the end, the first frame follows."""

    video_frames: int
    offsets: NDArray[np.int64]
    loop: bool = False

    @property
    def fit(self) -> bool:
        """Whether the video is as long as a clip."""
        return int(self.offsets[-1]) < self.video_frames

    @property
    def latest(self) -> int:
        """The last frame from which on a clip fits; 0 where none fits."""
        return max(0, self.video_frames - 1 - int(self.offsets[-1]))

    def at(self, position: float) -> NDArray[np.int64]:
        """As in `dense_indices`."""
        assert self.video_frames > 0 and 0 <= position <= 1
        return self.starting_at(min(int(position * (self.latest + 1)), self.latest))

    def starting_at(self, first: int) -> NDArray[np.int64]:
        """The clip whose first frame is that one; beyond the end, the last frame or a loop."""
        if self.loop:
            return (first + self.offsets) % self.video_frames
        return np.minimum(first + self.offsets, self.video_frames - 1)


@dataclass(frozen=True)
class TimedClips:
    """Clips of a video whose frames are shown at ``times`` (N,), seconds that rise from 0: the
    frames nearest to ``offsets`` (T,) seconds, rising from 0, after a clip's first frame;
    ``loop``: after the last frame's time, the first one follows."""

    times: NDArray[np.float64]
    offsets: NDArray[np.float64]
    loop: bool = False

    @cached_property
    def frame_seconds(self) -> float:
        """From one frame to the next, in the median."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0

    @property
    def fit(self) -> bool:
        """Whether the video is as long as a clip."""
        return self._latest >= 0

    @property
    def latest(self) -> int:
        """The last frame from which on a clip fits; 0 where none fits."""
        return max(0, self._latest)

    @property
    def _latest(self) -> int:
        # A clip's last moment is nearer to the last frame than to one that would follow.
        end = self.times[-1] + self.frame_seconds / 2 + TIE
        return int(np.searchsorted(self.times, end - self.offsets[-1], "right")) - 1

    def at(self, position: float) -> NDArray[np.int64]:
        """As in `dense_indices`, by time: what is shown at ``position`` of the possible starts. A
        uniform draw makes every start as likely as it is shown long."""
        assert 0 <= position <= 1
        latest = self.latest
        after = latest + 1 < len(self.times)
        end = self.times[latest + 1] if after else self.times[-1] + self.frame_seconds
        first = int(np.searchsorted(self.times, position * end, "right")) - 1
        return self.starting_at(min(first, latest))

    def starting_at(self, first: int) -> NDArray[np.int64]:
        """The clip whose first frame is that one; beyond the end, the last frame or a loop."""
        moments = self.times[first] + self.offsets
        duration = self.times[-1] + self.frame_seconds
        if not self.loop or duration <= 0:
            return nearest(self.times, moments)
        places = nearest(np.append(self.times, duration), moments % duration)
        return places % len(self.times)

    def faster(self, speed: float) -> "TimedClips":
        """The clips that last ``speed`` times as long."""
        clips = replace(self, offsets=self.offsets * speed)
        vars(clips)["frame_seconds"] = self.frame_seconds  # sought once: it takes milliseconds
        return clips


def nearest(times: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """The places (T,) in rising ``times`` (N,) that are nearest to ``wanted`` (T,); of two that are
    as near the earlier."""
    after = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(wanted - times[before] <= times[after] - wanted + TIE, before, after)


def dense_clips(
    info: VideoInfo, data: DataConfig, span: Span = None, speed: float = 1.0
) -> EvenClips | TimedClips:
    """The clips of a video with sampling dense: every ``sampling_rate``-th frame, or, with a
    ``frame_rate``, those nearest in time to every ``sampling_rate``-th of a video of that rate.
    Of the part ``span`` of it they count from its first frame on. ``speed``: as `clip_indices`."""
    first, end = (0, info.frames) if span is None else span
    numbers = data.sampling_rate * np.arange(data.num_frames, dtype=np.int64)
    seconds = clip_offsets(info, data)
    if seconds is None:
        return EvenClips(end - first, _whole(numbers * speed), loops(data))
    if info.uneven_times:
        if span is None:
            clips = _timed_clips(info.uneven_times, seconds.tobytes(), loops(data))
            return clips if speed == 1 else clips.faster(speed)
        times = unpack_uneven_times(info.uneven_times)[first:end]
        return TimedClips(times - times[0], seconds * speed, loops(data))
    offsets = _whole(seconds * info.fps * speed)
    return EvenClips(end - first, offsets, loops(data))


def _whole(frames: NDArray[np.floating]) -> NDArray[np.int64]:
    """The nearest whole numbers; of two that are as near the smaller."""
    return np.ceil(frames - 0.5 - TIE).astype(np.int64)


@lru_cache(maxsize=REMEMBERED)
def _timed_clips(text: str, offsets: bytes, loop: bool) -> TimedClips:
    """Of a video's ``uneven_times`` and a clip's float64 offsets: the clips of one video are mostly
    cut in a row."""
    return TimedClips(unpack_uneven_times(text), np.frombuffer(offsets), loop)


def clip_offsets(info: VideoInfo | None, data: DataConfig) -> NDArray[np.float64] | None:
    """Seconds (num_frames,) from a clip's beginning at which it takes frames; None where it counts
    them: with a ``frame_rate`` video, and in a file that tells neither its own nor any times.
    ``info``: None for a live source, whose frames all have times."""
    untold = info is not None and info.mean_rate() <= 0
    if data.sampling == "uniform" or data.frame_rate == "video" or untold:
        return None
    return data.sampling_rate * np.arange(data.num_frames) / data.frame_rate


def clip_seconds(info: VideoInfo, data: DataConfig) -> float:
    """How long a clip of a video shows it; with sampling uniform, what as many frames take as it
    has; 0 where the file does not tell how fast it plays."""
    rate = info.mean_rate()
    if rate <= 0:
        return 0.0
    if data.sampling == "uniform":
        return data.num_frames / rate
    seconds = clip_offsets(info, data)
    last = data.sampling_rate * (data.num_frames - 1) / rate if seconds is None else seconds[-1]
    return float(last) + 1 / rate


def counts_frames(data: DataConfig) -> bool:
    """Whether clips take frames by their numbers alone, whatever the times of a video."""
    return clip_offsets(None, data) is None


def uniform_indices(
    video_frames: int, num_frames: int, loop: bool = False
) -> NDArray[np.int64]:
    """Frames spread evenly from the first to the last, rounded down, shape (num_frames,).

    A video shorter than the clip: each of its frames once, then its last one repeated, or with
    ``loop`` all of them again.
    """
    assert video_frames > 0 and num_frames > 0
    if video_frames < num_frames:
        frames = np.arange(num_frames, dtype=np.int64)
        return frames % video_frames if loop else np.minimum(frames, video_frames - 1)
    return np.linspace(0, video_frames - 1, num_frames).astype(np.int64)
