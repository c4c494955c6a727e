"""Which frames of a video make a clip: numbers only, no I/O."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.training import DataConfig
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.seeking import unpack_uneven_times

TIE = 1e-6
"""Frames, or seconds, by which two distances count as the same: far below what tells frames apart,
far above the rounding of the numbers."""


def clip_indices(info: VideoInfo, data: DataConfig, position: float) -> NDArray[np.int64]:
    """The frames (num_frames,) of a clip of a video, as ``data`` says; ``position`` in [0, 1] as in
    `dense_indices`, for sampling dense alone."""
    if data.sampling == "uniform":
        return uniform_indices(info.frames, data.num_frames)
    return dense_clips(info, data).at(position)


def dense_indices(
    video_frames: int, num_frames: int, sampling_rate: int, position: float
) -> NDArray[np.int64]:
    """Frames ``start + i * sampling_rate``, shape (num_frames,); beyond the end, the last frame.

    ``position`` in [0, 1] places the start among the possible ones: 0 is the beginning of the
    video, 0.5 the centre, 1 the latest start whose clip fits, and a uniform draw makes every
    start equally likely.
    """
    assert sampling_rate > 0
    offsets = sampling_rate * np.arange(num_frames, dtype=np.int64)
    return EvenClips(video_frames, offsets).at(position)


@dataclass(frozen=True)
class EvenClips:
    """Clips of a video whose frames are shown at even times: ``offsets`` (T,), rising from 0, from
    a clip's first frame."""

    video_frames: int
    offsets: NDArray[np.int64]

    @property
    def latest(self) -> int:
        """The last frame from which on a clip fits; 0 where none fits."""
        return max(0, self.video_frames - 1 - int(self.offsets[-1]))

    def at(self, position: float) -> NDArray[np.int64]:
        """As in `dense_indices`."""
        assert self.video_frames > 0 and 0 <= position <= 1
        return self.starting_at(min(int(position * (self.latest + 1)), self.latest))

    def starting_at(self, first: int) -> NDArray[np.int64]:
        """The clip whose first frame is that one; beyond the end, the last frame."""
        return np.minimum(first + self.offsets, self.video_frames - 1)


@dataclass(frozen=True)
class TimedClips:
    """Clips of a video whose frames are shown at ``times`` (N,), seconds that rise from 0: the
    frames nearest to ``offsets`` (T,) seconds, rising from 0, after a clip's first frame."""

    times: NDArray[np.float64]
    offsets: NDArray[np.float64]

    @property
    def frame_seconds(self) -> float:
        """From one frame to the next, in the median."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0

    @property
    def latest(self) -> int:
        """The last frame from which on a clip fits, whose last moment is nearer to the last frame
        than to one that would follow; 0 where none fits."""
        end = self.times[-1] + self.frame_seconds / 2 + TIE
        return max(0, int(np.searchsorted(self.times, end - self.offsets[-1], "right")) - 1)

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
        """The clip whose first frame is that one; beyond the end, the last frame."""
        return nearest(self.times, self.times[first] + self.offsets)


def nearest(times: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """The places (T,) in rising ``times`` (N,) that are nearest to ``wanted`` (T,); of two that are
    as near the earlier."""
    after = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(wanted - times[before] <= times[after] - wanted + TIE, before, after)


def dense_clips(info: VideoInfo, data: DataConfig) -> EvenClips | TimedClips:
    """The clips of a video with sampling dense: every ``sampling_rate``-th frame, or, with a
    ``frame_rate``, those nearest in time to every ``sampling_rate``-th of a video of that rate."""
    numbers = data.sampling_rate * np.arange(data.num_frames, dtype=np.int64)
    if data.frame_rate == "video" or not (info.uneven_times or info.fps > 0):
        return EvenClips(info.frames, numbers)
    seconds = numbers / data.frame_rate
    if info.uneven_times:
        return TimedClips(unpack_uneven_times(info.uneven_times), seconds)
    offsets = np.ceil(seconds * info.fps - 0.5 - TIE).astype(np.int64)
    return EvenClips(info.frames, offsets)


def uniform_indices(video_frames: int, num_frames: int) -> NDArray[np.int64]:
    """Frames spread evenly from the first to the last, rounded down, shape (num_frames,).

    A video shorter than the clip: each of its frames once, then its last one repeated.
    """
    assert video_frames > 0 and num_frames > 0
    if video_frames < num_frames:
        return np.minimum(np.arange(num_frames, dtype=np.int64), video_frames - 1)
    return np.linspace(0, video_frames - 1, num_frames).astype(np.int64)
