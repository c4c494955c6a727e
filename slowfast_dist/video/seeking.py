"""When the frames of a video are shown; and its frames by seeking, where those times tell them.

Of such a video the probe remembers the time of the first frame and the time between two. From these
follows which frame each packet holds, so only those that lead to the wanted frames are read. Where
times are uneven it remembers all of them, and they tell the same.
"""

import zlib
from base64 import b85decode, b85encode
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Discard
from av.video.stream import VideoStream
from numpy.typing import NDArray

from slowfast_dist.video.container import FAULTS, DecodeError
from slowfast_dist.video.packets import KEEP_BYTES, SKIPPABLE, PacketIndex


@dataclass(frozen=True)
class Timeline:
    """Frame n is shown at ``first + n * step`` ticks, give or take less than half a step."""

    first: int
    step: float

    def number(self, time: int) -> int:
        """Of the frame that is shown at that time."""
        return round((time - self.first) / self.step)

    def seek_time(self, number: int) -> int:
        """A time that the frame's own packet, if it is a keyframe, does not exceed."""
        return self.first + int((number + 0.499) * self.step)


@dataclass(frozen=True, eq=False)
class UnevenTimeline:
    """Frame n is shown at ``ticks[n]``, rising (N,), exactly."""

    ticks: NDArray[np.int64]

    def number(self, time: int) -> int:
        """Of the frame that is shown at that time. Raises ValueError where none is."""
        place = int(np.searchsorted(self.ticks, time))
        if place == len(self.ticks) or self.ticks[place] != time:
            raise ValueError("a packet of another time than when it was probed")
        return place

    def seek_time(self, number: int) -> int:
        """A time that the frame's own packet, if it is a keyframe, does not exceed."""
        return int(self.ticks[number])


class SeekingReader:
    """The frames ``wanted`` (numbers, each once) of an open video, in any order.

    ``longest_group``: most frames from one keyframe to the next. It ends early at damage and at
    whatever the timeline does not explain: the caller needs the index of all packets for the rest.
    """

    def __init__(
        self, container: InputContainer, stream: VideoStream,
        timeline: Timeline | UnevenTimeline, longest_group: int, wanted: Iterable[int],
    ) -> None:  # fmt: skip
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all  # sound is not even read
        self._container, self._stream, self._timeline = container, stream, timeline
        self._longest_group = longest_group
        self._wanted = frozenset(wanted)
        self._unread = set(self._wanted)
        """Frames whose packets have not been read."""
        self._may_seek = True
        """Whether what lies far ahead is sought; else it is read up to there."""
        self._reached = -1
        """The frame of the last keyframe from which on packets were read."""
        self._back = 0
        """Frames before the wanted one that are sought: see `_read_group_by_group`."""

    def frames(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Each wanted frame that decodes whole, with its number."""
        context = self._stream.codec_context
        reorder_depth = context.reorder_depth
        may_skip = context.codec.canonical_name in SKIPPABLE
        missing, skips = set(self._wanted), False
        try:
            for number, packet in self._packets():
                if packet is None:
                    frames = context.decode(None)
                    context.flush_buffers()
                    context.reorder_depth = reorder_depth  # FFmpeg may forget it: frames get lost
                else:
                    if skips != (may_skip and number not in self._wanted):
                        skips = not skips
                        context.skip_frame = "NONREF" if skips else "DEFAULT"
                    frames = context.decode(packet)
                for frame in frames:
                    shown = -1 if frame.pts is None else self._timeline.number(frame.pts)
                    if shown in missing and not frame.is_corrupt:
                        missing.remove(shown)
                        yield shown, frame
                if not missing:
                    return
        except FAULTS:
            return

    def _packets(self) -> Iterator[tuple[int, av.Packet | None]]:
        """Packets to decode, with the number of the frame in each; None where the decoder begins
        afresh, and at the end. Raises ValueError where the timeline does not explain the file.

        From a keyframe on packets are held back until one is wanted: a group without any is not
        decoded. A group too far away to be read through is sought.
        """
        more = True
        while more:
            more = yield from self._read_group_by_group()
            yield -1, None

    def _read_group_by_group(self) -> Generator[tuple[int, av.Packet | None], None, bool]:
        """As `_packets`, from one seek on until the next (True) or the end."""
        start = max(0, min(self._unread) - self._back)
        self._container.seek(self._timeline.seek_time(start), stream=self._stream)
        searching = True  # no keyframe has come from which on the wanted frames decode
        # The packets of the group while none of it is wanted; then they are decoded as they come.
        held: list[tuple[int, av.Packet]] | None = None
        held_bytes = 0
        continues = False  # the decoder has just decoded the group before: no fresh start
        origin = 0  # frames before it lean on what was not decoded
        for packet in self._container.demux(self._stream):
            if not packet.size:
                continue  # the mark of the end
            if packet.pts is None:
                raise ValueError("a packet without a time")
            number = self._timeline.number(packet.pts)
            # In an open group, what follows the keyframe in the file may precede it in time, and
            # leans on the group before, which then is not over.
            if packet.is_keyframe and number <= (soonest := min(self._unread)):
                far = soonest - number > 2 * self._longest_group
                if far and self._may_seek and not searching:
                    return True
                # A later index may not be known yet: then the same keyframe comes again.
                self._may_seek = self._may_seek and number > self._reached
                continues = not searching and held is None
                searching, self._reached, held, held_bytes = False, number, [], 0
            elif searching:
                if not packet.is_keyframe:
                    continue
                if self._back:
                    raise ValueError("no keyframe where one was")
                # It was sought by the time of decoding, which is earlier than that of showing.
                self._back = self._stream.codec_context.reorder_depth + 1
                return True
            if held is not None:
                held.append((number, packet))
                held_bytes += packet.size
                if number not in self._unread and held_bytes <= KEEP_BYTES:
                    continue
                if not continues:
                    yield -1, None
                    origin = self._reached
                ready, held = held, None
            else:
                ready = [(number, packet)]
            for shown, one in ready:
                self._unread.discard(shown)
                if shown >= origin:
                    yield shown, one
            if not self._unread:
                break
        return False


# --- numbers as short texts ----------------------------------------------------------------------


def _pack(data: bytes) -> str:
    return b85encode(zlib.compress(data, 9)).decode()


def _unpack(text: str) -> bytes:
    """Raises ValueError for what `_pack` did not make."""
    try:
        return zlib.decompress(b85decode(text))
    except zlib.error as error:
        raise ValueError(str(error)) from error


# --- the order of frames, where it is not that of their times ------------------------------------


def pack_moved_frames(ranks: Sequence[int]) -> str:
    """A text for N frames of which number n is the one at place ``ranks[n]`` by its time; empty
    where the order is that of the times."""
    moves = np.asarray(ranks, np.int32) - np.arange(len(ranks), dtype=np.int32)
    if not moves.any():
        return ""
    return _pack(moves.astype("<i4").tobytes())


def unpack_moved_frames(text: str) -> NDArray[np.int64]:
    """(N,) the ``ranks``. Raises ValueError for what is no such text."""
    moves = np.frombuffer(_unpack(text), "<i4")
    ranks = np.arange(len(moves)) + moves
    if not np.array_equal(np.sort(ranks), np.arange(len(moves))):
        raise ValueError("not an order of frames")
    return ranks


def with_moved_frames(path: Path, index: PacketIndex, text: str) -> PacketIndex:
    """The index with its frames in the order that the probe found. Raises DecodeError where they
    are not as many as they were then."""
    ranks = unpack_moved_frames(text)
    if len(ranks) != len(index.order):
        raise DecodeError(path, f"{len(index.order)} frames, {len(ranks)} when it was probed")
    return replace(index, order=index.order[ranks], times_tell=False)


# --- the times of frames, where they do not follow from the frame rate ---------------------------

# A clip by time (--data.frame-rate) needs the time of every frame. Of most videos frame n is shown
# n / fps seconds after the first. Of the others, as phones, webcams and screen recorders make them,
# the probe keeps all times, as a short text.

GRID_TOLERANCE = 1.001
"""Ticks of the stream's time base by which a frame may be off n / fps from the first: rounding to
whole ticks (Matroska's are milliseconds) moves both by half a tick."""

REMEMBERED = 8
"""Videos whose times are kept as numbers: the clips of one video are mostly cut in a row."""


def pack_uneven_times(
    times: Sequence[int | None], time_base: Fraction | None, fps: float
) -> str:
    """The text for N frames that are shown at ``times``, in ticks of ``time_base`` seconds.

    Empty where they are shown at ``fps``, give or take the rounding, and where times that do not
    rise, or are missing, tell nothing.
    """
    if not time_base or any(time is None for time in times):
        return ""
    ticks = np.array(times, np.int64)
    steps = np.diff(ticks)
    if not len(steps) or (steps <= 0).any():
        return ""
    if fps > 0:
        grid = np.arange(len(ticks)) / (fps * float(time_base))
        if np.abs(ticks - ticks[0] - grid).max() <= GRID_TOLERANCE:
            return ""
    # All first bytes, all second ones ...: most are alike or zero, so little is left of them.
    planes = steps.astype("<i8").view(np.uint8).reshape(-1, 8).T
    return f"{time_base.numerator}/{time_base.denominator} {_pack(planes.tobytes())}"


@lru_cache(maxsize=REMEMBERED)
def unpack_uneven_times(text: str) -> NDArray[np.float64]:
    """Seconds from the first frame to each (N,). Raises ValueError for what is no such text."""
    base, _, _ = text.partition(" ")
    try:
        seconds = float(Fraction(base))
    except ZeroDivisionError as error:
        raise ValueError(str(error)) from error
    times = (unpack_ticks(text) * seconds).astype(np.float64, copy=False)
    times.flags.writeable = False  # the caller's and the memory's are one
    return times


@lru_cache(maxsize=REMEMBERED)
def unpack_ticks(text: str) -> NDArray[np.int64]:
    """The same in ticks of the stream's time base (N,). Raises ValueError."""
    _, _, packed = text.partition(" ")
    planes = np.frombuffer(_unpack(packed), np.uint8).reshape(8, -1)
    steps = np.ascontiguousarray(planes.T).view("<i8").ravel()
    ticks: NDArray[np.int64] = np.append(0, np.cumsum(steps))
    ticks.flags.writeable = False
    return ticks


def rate_of_times(text: str) -> float:
    """Frames a second, on average from the first frame to the last; 0 for an empty ``text``."""
    if not text:
        return 0.0
    times = unpack_uneven_times(text)
    return (len(times) - 1) / float(times[-1])
