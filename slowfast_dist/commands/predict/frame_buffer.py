"""A bounded buffer of a live source's newest frames, between what reads and what scores."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.clips import (
    TimedClips,
    clip_offsets,
    dense_indices,
    loops,
    nearest,
    uniform_indices,
)
from slowfast_dist.inference.windows import UNIFORM_SECONDS
from slowfast_dist.system.child import Ended, Message
from slowfast_dist.video.reader import Frames

DENSITY = 4
"""Frames that are held for each one that a clip spread over a window takes: enough for evenly
spaced ones, and a long window of a fast source does not fill the memory."""

DENSE_DENSITY = 16
"""Frames that are held for each one that a clip by time takes: all of a source of up to 240 frames
a second, at rate 2 of 30, so that the nearest is exactly that."""

JUMP_SECONDS = 5.0
"""Seconds between two frames of a source, beyond a window's length, from which on its clock counts
as set anew, as where it goes back: a network's gap is shorter."""


@dataclass(frozen=True)
class LiveFrame:
    """One frame: its own ``time`` and when it ``arrived`` (of time.monotonic), seconds; ``late``
    as in `live_frames`; ``number``: how many came before it; ``views`` (crops, size, size, 3)."""

    time: float
    arrived: float
    late: float
    number: int
    views: Frames


@dataclass(frozen=True)
class Window:
    """``clips`` uint8 (crops, T, size, size, 3); ``start`` (seconds of the source) of its first
    frame; its ``last`` frame; frames ``dropped`` so far; the source's frames a second (``rate``),
    0 where it is not known yet."""

    clips: Frames
    start: float
    last: LiveFrame
    dropped: int
    rate: float


class FrameBuffer:
    """The newest window of a source, however many frames a second it sends: bounded.

    One thread adds, another one takes. Frames that no window covers that was taken, or that were
    left undecoded, count as dropped.
    """

    def __init__(self, data: DataConfig, window: float | None) -> None:
        self._data = data
        self._dense = data.sampling == "dense" and window is None
        self._offsets = clip_offsets(None, data) if self._dense else None
        """Seconds at which a clip takes frames, where it does so by time."""
        self._clip = (data.num_frames - 1) * data.sampling_rate + 1  # where it counts them
        self._seconds = UNIFORM_SECONDS if window is None else window
        # Of many frames a second, or a long window, no more are held than those so far apart.
        self._least = self._seconds / (DENSITY * data.num_frames)
        if self._offsets is not None:
            self._seconds = float(self._offsets[-1])
            self._least = data.sampling_rate / (DENSE_DENSITY * float(data.frame_rate))
        self._frames: deque[LiveFrame] = deque()
        self._changed = threading.Condition()
        self._received = self._covered = self._skipped = self._dropped = 0
        self.silence = 0.0
        """Seconds waited in vain since something came; none while this process is stopped."""
        self.ready = self.begun = self.full = False
        """Whether the process runs, a frame has come, and a whole window of them."""
        self.pictures: dict[str, Any] | None = None
        """What the source's pictures are, once the first came, as `picture_facts` says."""
        self.end: dict[str, Any] | None = None
        """The header with which the source ended; {"ended": how} where its process did."""

    def add(self, message: Message | Ended) -> None:
        """What `live_frames` delivers."""
        with self._changed:
            self.silence = 0.0
            if isinstance(message, Ended):
                self.end = self.end or {"ended": message.how}
            elif message.data is not None:
                self._add_frame(message.header, message.data)
            elif "ready" in message.header:
                self.ready = True
            elif "pictures" in message.header:
                self.pictures = message.header["pictures"]
            else:
                self.end = message.header
            self._changed.notify_all()

    def _add_frame(self, header: dict[str, Any], views: Frames) -> None:
        self._dropped += header["skipped"] - self._skipped
        self._skipped = header["skipped"]
        frame = LiveFrame(header["time"], header["arrived"], header["late"], self._received, views)
        self._received += 1
        self.begun = True
        frames = self._frames
        if frames and not 0 <= frame.time - frames[-1].time <= JUMP_SECONDS + self._seconds:
            while frames:
                self._drop_oldest()
            self.full = False
        by_time = not self._dense or self._offsets is not None
        if by_time and len(frames) > 1 and frame.time - frames[-2].time < self._least:
            frames.pop()
        frames.append(frame)
        if self._offsets is not None:
            # One that is not in the window may be nearest to its beginning.
            while len(frames) > 2 and frames[1].time <= frame.time - self._seconds:
                self._drop_oldest()
            frame_seconds = (frame.time - frames[0].time) / max(1, len(frames) - 1)
            whole = frame.time - frames[0].time >= self._seconds - frame_seconds / 2
        elif self._dense:
            while len(frames) > self._clip:
                self._drop_oldest()
            whole = len(frames) == self._clip
        else:
            while frames[0].time <= frame.time - self._seconds:
                self._drop_oldest()
            count, span = len(frames), frame.time - frames[0].time
            whole = count > 1 and span * count / (count - 1) >= 0.999 * self._seconds
        self.full = self.full or whole

    def _drop_oldest(self) -> None:
        """Count it and the frames up to the next one held, unless a window had them."""
        self._frames.popleft()
        following = self._frames[0].number if self._frames else self._received
        self._dropped += max(0, following - self._covered)
        self._covered = max(self._covered, following)

    @property
    def unseen(self) -> bool:
        """Whether a frame came after the window that was taken last."""
        return self._received > self._covered

    def wait(self, seconds: float) -> None:
        """For something to change."""
        with self._changed:
            if self.end is None and not self._changed.wait(seconds := max(0.0, seconds)):
                self.silence += seconds

    def take(self) -> Window | None:
        """The newest window, or what there is of it; None where there is no frame yet."""
        with self._changed:
            if not self._frames:
                return None
            held, dropped = list(self._frames), self._dropped
            self._covered = self._received
        places = self._places(np.array([frame.time for frame in held]))
        clips = np.stack([held[place].views for place in places.tolist()], axis=1)
        first, last = held[0], held[-1]
        seconds = last.time - first.time
        rate = (last.number - first.number) / seconds if seconds > 0 else 0.0
        return Window(clips, held[places[0]].time, last, dropped, rate)

    def _places(self, times: NDArray[np.float64]) -> NDArray[np.int64]:
        """Of the frames that are held, shown at ``times`` (N,): those of the newest clip, (T,)."""
        count, data = len(times), self._data
        if self._offsets is not None:  # it ends with the newest frame, or begins with the oldest
            begin = times[-1] - self._offsets[-1]
            if begin <= times[0]:
                return TimedClips(times - times[0], self._offsets, loops(data)).starting_at(0)
            return nearest(times, begin + self._offsets)
        if self._dense:
            rate = data.sampling_rate
            return dense_indices(count, data.num_frames, rate, 1.0, loops(data))
        return uniform_indices(count, data.num_frames, loops(data))
