"""The frames of one video in their order, each decoded once, by a process of its own.

However long the video is, no more than a few frames of it are held. They are those of
`reader.read_frames`, bit for bit: the packets say which frame is which, as the probe counted them.
"""

import math
import queue
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from slowfast_dist.system.child import CRASHES, HANGS, Channel, Ended, Message, StreamProcess
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.conversion.converter import ViewConverter
from slowfast_dist.video.guarded_reader import DECODE_SECONDS
from slowfast_dist.video.images.decoding import PngDecoder, frame_names, read_image
from slowfast_dist.video.packets import PacketIndex
from slowfast_dist.video.reader import IMAGES, Frames, VideoInfo, frames_by_index, open_indexed
from slowfast_dist.video.views import SpatialView

CHUNK = 256
"""Frames that are decoded at least from one start of the decoder on. It starts at keyframes, and a
file too large to be kept in memory is opened again for each chunk."""

BYTES_PER_SECOND = 1e6
"""Bytes for which a file may take a second longer to be looked through: slower than any disk."""

ASSUMED_FPS = 25.0
"""Frames a second of a file that tells neither a rate nor times: European television's."""

AHEAD_BYTES = 32 * 1024**2
"""Bytes of decoded frames that wait here until they are asked for: some batches of clips."""

POLL_SECONDS = 0.1
"""Seconds from one look at whether the reader is still wanted to the next."""


@dataclass(frozen=True)
class FrameTimes:
    """When the frames of a video are shown, in seconds from the first one on.

    ``starts`` float64 (N,), rising. Where a file does not tell them, they are evenly spread at its
    average rate.
    """

    starts: NDArray[np.float64]
    end: float
    """Of the last frame."""


def frame_times(info: VideoInfo) -> FrameTimes:
    """As the probe found them."""
    starts = info.times()
    if starts is None:
        starts = np.arange(info.frames) / ASSUMED_FPS
    step = float(np.median(np.diff(starts))) if info.frames > 1 else 1 / ASSUMED_FPS
    return FrameTimes(starts, float(starts[-1]) + step)


class OrderedFrames:
    """Reads an open video's frames in the order in which they are shown."""

    def __init__(
        self, path: Path, info: VideoInfo, index: PacketIndex, stream: VideoStream
    ) -> None:
        self.path, self._stream, self._info, self._index = path, stream, info, index
        self.rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        """Frames a second, on average, as the file states it."""
        self.time_base = stream.time_base or 1 / self.rate
        """Seconds of a tick of the frames' own times."""
        # AVI has no times: FFmpeg makes some up, in the order of the packets.
        self._timed = info.by_packets or "avi" not in stream.container.format.name
        self.times = frame_times(info)
        """As the probe found them."""

    def read(self, wanted: Sequence[int]) -> Iterator[tuple[int, float, av.VideoFrame]]:
        """The frames ``wanted`` (rising numbers) as they come out of the decoder, each with the
        seconds from the video's first frame to it: by its own time, where those rise. Raises
        DecodeError at the first that does not decode whole."""
        origin, last = None, -1.0
        ticks = np.sort(self._index.times[self._index.order])
        for number, frame in self._read(wanted):
            if not self._index.times_tell:  # what is shown n-th is shown at the n-th time
                frame.pts = int(ticks[number])
            time = expected = float(self.times.starts[number])
            if self._timed and frame.time is not None:
                origin = float(frame.time) - expected if origin is None else origin
                time = float(frame.time) - origin
            last = time if time > last else max(expected, last + 1e-6)
            yield number, last, frame

    def _read(self, wanted: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """They come nearly in order from the decoder: what is early waits."""
        early: dict[int, av.VideoFrame] = {}
        place, info, index = 0, self._info, self._index
        for first, end in _chunks(index) if info.by_packets else [(0, math.inf)]:
            low, high = np.searchsorted(wanted, [first, end])
            part = wanted[low:high]
            for number, frame in frames_by_index(self.path, self._stream, index, info, part):
                early[number] = frame
                while place < high and wanted[place] in early:
                    yield wanted[place], early.pop(wanted[place])
                    place += 1


def _chunks(index: PacketIndex) -> Iterator[tuple[int, int]]:
    """Frames (first, end) of runs that begin at keyframes, CHUNK frames or more each."""
    first = 0
    for start in np.flatnonzero(np.isin(index.order, index.keys)).tolist():
        if start - first >= CHUNK:
            yield first, start
            first = start
    yield first, len(index.order)


class OrderedImages:
    """Reads the images of a folder in their order, as `OrderedFrames` does a file's frames."""

    def __init__(self, path: Path, info: VideoInfo) -> None:
        self.path, self._info = path, info
        self._names = frame_names(path, info.frames)
        self.rate = Fraction(info.fps).limit_denominator(1001)
        self.time_base = Fraction(1, TICKS_OF_IMAGES)
        self.times = frame_times(info)

    def read(self, wanted: Sequence[int]) -> Iterator[tuple[int, float, av.VideoFrame]]:
        """As `OrderedFrames.read`."""
        png, size = PngDecoder(), (self._info.height, self._info.width)
        for number in wanted:
            rgb = read_image(self.path / self._names[number], size, png)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.colorspace = 0  # RGB, as FFmpeg's own decoders of images say
            time = float(self.times.starts[number])
            frame.pts, frame.time_base = round(time * TICKS_OF_IMAGES), self.time_base
            yield number, time, frame


TICKS_OF_IMAGES = 90_000
"""Ticks a second in which the times of images go into a file: MPEG's clock, in which those of 24,
25, 30 and 29.97 images a second are whole numbers."""


@contextmanager
def open_in_order(path: Path, info: VideoInfo) -> Iterator[OrderedFrames | OrderedImages]:
    """A video's frames in order, in this process. Raises DecodeError."""
    if info.codec == IMAGES:
        yield OrderedImages(path, info)
        return
    with open_indexed(path, info) as (index, stream):
        yield OrderedFrames(path, info, index, stream)


# --- asked by the process that wants the frames --------------------------------------------------


class VideoReader:
    """One video's frames in order, decoded in a process of their own while this one works. Use as
    ``with VideoReader(...) as reader``; then `times`, then `read`, once each."""

    def __init__(
        self, path: Path, info: VideoInfo, views: Sequence[SpatialView],
        waiting: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """``views``: what is made of each frame; ``waiting`` is called again and again while
        nothing comes, and may raise."""
        self._info = info
        size = sum(3 * view.size**2 for view in views)
        self._messages: queue.Queue[Message | Ended] = queue.Queue(max(2, AHEAD_BYTES // size))
        self._next = partial(next_message, self._messages, path, waiting=waiting)
        self._closed = False
        request = {"path": str(path), "info": asdict(info), "views": list(map(asdict, views))}
        self._process = StreamProcess(send_video, request, self._put)

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._process.end()

    def times(self) -> FrameTimes:
        """Of all frames. Raises DecodeError."""
        message = self._next(DECODE_SECONDS + self._info.file_size / BYTES_PER_SECOND)
        assert message.data is not None
        return FrameTimes(message.data.view(np.float64), message.header["end"])

    def read(self, wanted: Sequence[int]) -> Generator[tuple[int, float, Frames], None, None]:
        """Number, own time (seconds from the first frame) and views of each frame ``wanted``
        (rising numbers): uint8 (views, size, size, 3). Raises DecodeError."""
        self._process.send({"wanted": list(map(int, wanted))})
        last = 0
        for number in wanted:
            # So many seconds longer for each frame that is left out before it.
            message = self._next(DECODE_SECONDS + 0.5 * (number - last))
            assert message.header["number"] == number and message.data is not None
            last = number
            yield number, message.header["time"], message.data

    def _put(self, message: Message | Ended) -> None:
        while not self._closed:
            try:
                return self._messages.put(message, timeout=POLL_SECONDS)
            except queue.Full:
                continue


def next_message(
    messages: "queue.Queue[Message | Ended]", path: Path, seconds: float,
    waiting: Callable[[], None],
) -> Message:  # fmt: skip
    """What the process that reads ``path`` sends next. Raises DecodeError where it says so, where
    it died, and where nothing comes for so many ``seconds``."""
    for _ in range(math.ceil(seconds / POLL_SECONDS)):  # while this process is stopped, one runs
        try:
            message = messages.get(timeout=POLL_SECONDS)
            break
        except queue.Empty:
            waiting()
    else:
        raise DecodeError(path, f"{HANGS}: given up after {seconds:.0f} s")
    if isinstance(message, Ended):
        raise DecodeError(path, f"{CRASHES} ({message.how})")
    if "unreadable" in message.header:
        raise DecodeError(path, message.header["unreadable"])
    if "bug" in message.header:
        raise AssertionError(f"a bug, met while reading {path}:\n{message.header['bug']}")
    return message


# --- in that process -----------------------------------------------------------------------------


def send_video(channel: Channel, request: dict[str, Any]) -> None:
    """What the process of a VideoReader runs."""
    path, info = Path(request["path"]), VideoInfo(**request["info"])
    views = [SpatialView(**view) for view in request["views"]]
    try:
        with open_in_order(path, info) as frames:
            starts = np.ascontiguousarray(frames.times.starts)
            channel.send({"end": frames.times.end}, starts.view(np.uint8))
            asked = channel.receive()
            if asked is None:
                return
            converters = [
                ViewConverter(info.height, info.width, info.rotation, view, info.mirrored)
                for view in views
            ]
            out = np.empty((len(views), views[0].size, views[0].size, 3), np.uint8)
            for number, time, frame in frames.read(asked.header["wanted"]):
                for converter, target in zip(converters, out, strict=True):
                    converter.write(frame, target)
                channel.send({"number": number, "time": time}, out)
    except DecodeError as error:
        channel.send({"unreadable": error.reason})
