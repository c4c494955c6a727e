"""Which frames of a video make a clip, and how long clips last: numbers only, no I/O."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.seeking import REMEMBERED, unpack_uneven_times

TIE = 1e-6
"""Frames, or seconds, by which two distances count as the same: far below what tells frames apart,
far above the rounding of the numbers."""


def clip_indices(info: VideoInfo, data: DataConfig, position: float) -> NDArray[np.int64]:
    """The frames (num_frames,) of a clip of a video, as ``data`` says; ``position`` in [0, 1] as in
    `dense_indices`, for sampling dense alone."""
    if data.sampling == "uniform":
        return uniform_indices(info.frames, data.num_frames, loops(data))
    return dense_clips(info, data).at(position)


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
    seconds = clip_offsets(info, data)
    if seconds is None:
        return EvenClips(info.frames, numbers, loops(data))
    if info.uneven_times:
        return _timed_clips(info.uneven_times, seconds.tobytes(), loops(data))
    offsets = np.ceil(seconds * info.fps - 0.5 - TIE).astype(np.int64)
    return EvenClips(info.frames, offsets, loops(data))


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


# --- frame rates that differ: what people should know of them -------------------------------------

RATE_TOLERANCE = 0.1
"""Share of a frame rate by which another may differ: 29.97 and 30 a second are alike, 24 and 25
too, while 25 and 30 are not."""

PRETRAINED_RATE = 30.0
"""Frames a second that Kinetics' pretrained networks saw: PySlowFast decodes to DATA.TARGET_FPS, 30
by default, and takes every DATA.SAMPLING_RATE-th."""

NAMED_RATES = 4
"""Frame rates that a line names: a data set of one source has one or two."""


BY_TIMES = "--data.frame-rate 30 takes frames by their times"
"""What helps where videos differ in their rates."""


@dataclass(frozen=True)
class RateGroup:
    """``videos`` whose frame rates are about ``rate``, the most common one of them."""

    rate: float
    videos: int


def group_rates(rates: NDArray[np.float64]) -> list[RateGroup]:
    """The frame rates (N,) of videos in groups of those that are alike, the largest first; 0 stands
    for one that is not known, and is in none."""
    left = np.round(rates[rates > 0], 2)
    groups: list[RateGroup] = []
    while len(left):
        values, counts = np.unique(left, return_counts=True)
        rate = float(values[counts.argmax()])
        alike = are_near(left, [rate])
        groups.append(RateGroup(rate, int(alike.sum())))
        left = left[~alike]
    return sorted(groups, key=lambda group: -group.videos)


def are_near(rates: NDArray[np.float64], others: Sequence[float]) -> NDArray[np.bool_]:
    """Which of ``rates`` (N,) are about one of the ``others``."""
    near = [np.abs(rates - other) <= RATE_TOLERANCE * other + 1e-9 for other in others]
    return np.any([np.zeros(len(rates), np.bool_), *near], axis=0)


def clip_seconds(data: DataConfig, rate: float) -> float:
    """What a clip with sampling dense lasts where frames are counted, at ``rate`` a second."""
    return ((data.num_frames - 1) * data.sampling_rate + 1) / rate


@dataclass(frozen=True)
class RateNote:
    """What people should know of the frame rates of videos: a fixed word for the ``kind``, which
    videos, by their places, what comes of it, and what helps ("" where nothing need be done)."""

    kind: str
    videos: list[int]
    summary: str
    remedy: str = ""


def rate_notes(
    rates: NDArray[np.float64], name: Callable[[int], str], data: DataConfig,
    usual: Sequence[float], whose: str, remedy: str = BY_TIMES,
) -> list[str]:  # fmt: skip
    """The `rate_findings` in a line each."""
    found = rate_findings(rates, name, data, usual, whose, remedy)
    return [f"{note.summary}: {note.remedy}" if note.remedy else note.summary for note in found]


def rate_findings(
    rates: NDArray[np.float64], name: Callable[[int], str], data: DataConfig,
    usual: Sequence[float], whose: str, remedy: str = BY_TIMES,
) -> list[RateNote]:  # fmt: skip
    """What people should know of the frame rates (N,) of videos, of which ``name`` tells what they
    are called; 0 stands for a rate that is not known.

    ``usual``: the rates that the network saw, or sees; ``whose`` they are, and the ``remedy`` where
    frames are counted (``frame_rate`` video) and others have other rates.
    """
    if data.sampling != "dense" or not len(rates):
        return []
    known, found = rates > 0, []
    if untold := np.flatnonzero(~known).tolist():
        effect = "how long their clips last is not known"
        if data.frame_rate != "video":
            effect = f"of these every {data.sampling_rate}. frame is taken, whatever its time "
            effect += f"(frame rate {data.frame_rate:g})"
        found.append(RateNote(
            "no-frame-rate", untold,
            f"{len(untold)} of {len(rates)} videos tell neither a frame rate nor times, as "
            f"{name(untold[0])}: {effect}",
        ))  # fmt: skip
    if data.frame_rate == "video":
        line = other_rates(rates, data, usual, whose, name)
        odd = np.flatnonzero(known & ~are_near(rates, usual)).tolist()
        return [*found, RateNote("frame-rates", odd, line, remedy)] if line else found
    least = data.frame_rate / data.sampling_rate
    if slow := np.flatnonzero(known & (rates < (1 - 1e-3) * least)).tolist():
        found.append(RateNote(
            "slow-videos", slow,
            f"{len(slow)} of {len(rates)} videos have fewer frames a second than the {least:g} "
            f"that a clip takes, as {name(slow[0])} ({rates[slow[0]]:.4g}): frames are repeated",
        ))  # fmt: skip
    return found


def other_rates(
    rates: NDArray[np.float64], data: DataConfig, usual: Sequence[float], whose: str,
    name: Callable[[int], str],
) -> str | None:  # fmt: skip
    """How many videos have other frame rates (N,) than the ``usual`` ones, ``whose`` they are, and
    how long their clips last where frames are counted; None where there is none. For ``name`` see
    `rate_findings`."""
    others = rates[(rates > 0) & ~are_near(rates, usual)] if usual else rates[:0]
    if not len(others):
        return None
    groups = group_rates(others)
    named = [f"{group.videos} have {group.rate:g}" for group in groups[:NAMED_RATES]]
    if rest := sum(group.videos for group in groups[NAMED_RATES:]):
        named.append(f"{rest} still others")
    first = groups[0].rate
    which = f"{len(others)} of {len(rates)} videos have"
    if len(rates) == 1:
        which, named = f"{name(0)} has", [f"{first:g}"]
    return (
        f"{which} another frame rate than {whose}: {', '.join(named)}; at {first:g} a second a "
        f"clip spans {clip_seconds(data, first):.1f} s in place of "
        f"{clip_seconds(data, usual[0]):.1f}"
    )


def rates_as_words(rates: Sequence[float]) -> str:
    """As 15, or 15 and 60."""
    *others, last = [f"{rate:g}" for rate in rates[:NAMED_RATES]]
    return f"{', '.join(others)} and {last}" if others else last
