"""An H.264 mp4 of RGB pictures at given times, with the sound of another file beside them."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from slowfast_dist.video.container import FAULTS, ITSELF_ALONE, file_url, message
from slowfast_dist.video.reader import VideoInfo


def write_video(path: Path, frames: Iterator[NDArray[np.uint8]], fps: int) -> None:
    """Encode RGB frames, each uint8 (H, W, 3), as H.264: closed GOPs of 12, no B-frames.

    With a constant quantiser x264 does not look ahead, so the first frame's coding errors tell
    nothing about the motion that follows.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "qp": "20", "g": "12", "bf": "0"}
        stream.codec_context.thread_count = 1  # small frames; and the same bytes everywhere
        for number, image in enumerate(frames):
            if number == 0:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


_RGB = 0
"""FFmpeg's AVCOL_SPC_RGB: the frame holds no luma that could be kept."""


class WriteError(Exception):
    """The result cannot be written, as on a full disk. Not an OSError, which inside the reading of
    a video is a fault of the video."""


# --- writing -------------------------------------------------------------------------------------


class _Writer:
    """Frames of ``source``, each of any size and pixel format, become an mp4 of ``size``."""

    def __init__(
        self,
        disk: "_Disk",
        source: VideoStream,
        info: VideoInfo,
        size: tuple[int, int],
        options: dict[str, str],
    ) -> None:
        self._quarters, self._mirrored = info.rotation // 90, info.mirrored
        self._width, self._height = size[::-1] if self._quarters % 2 else size
        rate = source.average_rate or source.guessed_rate or Fraction(25)
        self._base = source.time_base or 1 / rate
        self._step = max(1, round(1 / (rate * self._base)))
        self._first: int | None = None
        self._last = -self._step
        self._scaler = VideoReformatter()
        self._container = av.open(disk, "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=rate, options=options)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = self._base
        self._stream.codec_context.thread_count = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def write(self, frame: VideoFrame) -> None:
        """Add a frame as it came out of the decoder."""
        small = self._scaler.reformat(
            frame,
            self._width,
            self._height,
            "yuv420p",  # 10 bits become 8, dithered
            dst_colorspace=Colorspace.ITU709 if frame.colorspace == _RGB else None,
            dst_color_range=ColorRange.MPEG,  # players guess less wrong than with the full range
            interpolation=Interpolation.BICUBIC,  # as wide as the reduction asks: no aliasing
            threads=1,
        )
        planes = np.asarray(small.to_ndarray(), np.uint8)
        planes = _turned(planes, self._height, self._quarters, self._mirrored)
        # A new one: the type of the picture, its rotation and so on would go into the result.
        result = VideoFrame.from_ndarray(planes, format="yuv420p")
        result.colorspace, result.color_range = small.colorspace, ColorRange.MPEG
        result.pts, result.time_base = self._time(frame.pts), self._base
        if frame.duration:
            result.duration = frame.duration
        context = self._stream.codec_context
        if not context.is_open:
            context.colorspace, context.color_range = small.colorspace, ColorRange.MPEG
            context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
        self._container.mux(self._stream.encode(result))

    def _time(self, given: int | None) -> int:
        """From the first frame on; where the source does not say, or goes back, a step later."""
        if self._first is None:
            self._first = given or 0
        time = self._last + self._step
        if given is not None and given - self._first > self._last:
            time = given - self._first
        self._last = time
        return time


def _turned(
    planes: NDArray[np.uint8], height: int, quarters: int, mirrored: bool
) -> NDArray[np.uint8]:
    """yuv420p (3/2 H, W) turned anticlockwise, then mirrored left to right."""
    if not quarters and not mirrored:
        return planes
    width = planes.shape[1]
    luma = np.rot90(planes[:height], quarters)
    chroma = np.rot90(planes[height:].reshape(2, height // 2, width // 2), quarters, axes=(1, 2))
    if mirrored:
        luma, chroma = luma[:, ::-1], chroma[..., ::-1]
    return np.concatenate([luma.ravel(), chroma.ravel()]).reshape(-1, luma.shape[1])


class _Disk:
    """A file that PyAV writes; what goes wrong is a WriteError."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = open(path, "wb", buffering=0)  # noqa: SIM115  # closed on exit
        except OSError as error:
            raise WriteError(error.strerror or str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise WriteError(error.strerror or str(error)) from error
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise WriteError(error.strerror or str(error)) from error


Picture = NDArray[np.uint8]

TICKS = 90_000
"""Of a second: what the times are rounded to. All usual frame rates are whole numbers of them."""

ENCODER = {"preset": "veryfast", "crf": "20", "bf": "0", "flags": "+frame_duration"}
"""Options of x264: hardly told from the source. With B-frames and uneven times the file would say a
wrong length, at which players stop; without the flag the last picture's length is lost."""

KEY_SECONDS = 2.0
"""Between keyframes, where a player can jump to."""

HD_HEIGHT = 720
"""From this height on the colours are BT.709, below BT.601, as players take for granted."""

SOUND_AHEAD = 0.5
"""Seconds by which the sound is written before the pictures."""


class VideoWriter:
    """Writes pictures uint8 RGB (H, W, 3), all of one size, to ``path``, an mp4.

    Use as ``with VideoWriter(...) as writer``; the file is whole after that. Of an odd height or
    width the last row or column is repeated once: 4:2:0 has a colour for every 2 x 2 pixels.
    Raises WriteError where the file cannot be written.
    """

    def __init__(
        self, path: Path, height: int, width: int, fps: float, sound: "Sound | None" = None
    ) -> None:
        """``fps``: about how many pictures a second will come; ``sound`` is copied as it is."""
        self._pad = height % 2, width % 2
        size = height + height % 2, width + width % 2
        self._colours = Colorspace.ITU709 if size[0] >= HD_HEIGHT else Colorspace.ITU601
        self._scaler = VideoReformatter()
        self._last = -1
        with _faults():
            self._container = av.open(file_url(path), "w", format="mp4")
            options = {**ENCODER, "g": str(max(1, round(fps * KEY_SECONDS)))}
            rate = Fraction(fps).limit_denominator(1001)
            self._stream = self._container.add_stream("libx264", rate=rate, options=options)
            self._stream.height, self._stream.width = size
            self._stream.pix_fmt = "yuv420p"
            context = self._stream.codec_context
            context.time_base = Fraction(1, TICKS)
            context.thread_count = 1
            context.colorspace, context.color_range = self._colours, ColorRange.MPEG
            code = 1 if self._colours == Colorspace.ITU709 else 6  # as in ITU-T H.273
            context.color_primaries = context.color_trc = code
        self._sound = None if sound is None else _Copied(sound, self._container)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            return  # what was written is of no use: closing it would only take time
        with _faults():
            if self._sound is not None:
                self._sound.copy(float("inf"))
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def write(self, picture: Picture, time: float, seconds: float = 0.0) -> None:
        """Show ``picture`` from ``time`` on (rising), for ``seconds`` if it is the last one."""
        if any(self._pad):
            rows, columns = self._pad
            picture = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge")
        with _faults():
            if self._sound is not None:
                self._sound.copy(time + SOUND_AHEAD)
            frame = self._scaler.reformat(
                VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"),
                format="yuv420p",
                dst_colorspace=self._colours,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
            frame.colorspace, frame.color_range = self._colours, ColorRange.MPEG
            frame.pts = self._last = max(round(time * TICKS), self._last + 1)
            frame.time_base = Fraction(1, TICKS)
            if seconds:
                frame.duration = max(1, round(seconds * TICKS))
            self._container.mux(self._stream.encode(frame))


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except FAULTS as error:
        raise WriteError(message(error)) from error


# --- sound ---------------------------------------------------------------------------------------


class Sound:
    """The sound of a file: use as ``with Sound(path) as sound``."""

    def __init__(self, path: Path) -> None:
        self.stream: AudioStream | None = None
        """None where there is none that can be read."""
        self.origin = 0.0
        """Seconds at which the first picture is shown in the file: to be set before one is
        written."""
        self._files = ExitStack()
        try:
            container = self._files.enter_context(
                av.open(file_url(path), metadata_errors="replace", options=ITSELF_ALONE)
            )
            found = container.streams.best("audio")
            self.stream = found if isinstance(found, AudioStream) else None
            self._packets = container.demux(self.stream) if self.stream is not None else iter(())
        except FAULTS:
            self.stream = None

    def __enter__(self) -> "Sound":
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def packets(self) -> Iterator[Packet]:
        """All of it, up to damage."""
        try:
            yield from (packet for packet in self._packets if packet.size)
        except FAULTS:
            return


def can_hold(stream: AudioStream) -> bool:
    """Whether an mp4 can hold such sound, and players play it there."""
    return stream.codec_context is not None and stream.codec_context.name in _IN_MP4


_IN_MP4 = frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "alac", "flac", "opus", "libopus"})
"""FFmpeg's names of decoders."""


class _Copied:
    """The packets of a sound, brought into another container in step with its pictures."""

    def __init__(self, sound: Sound, container: OutputContainer) -> None:
        assert sound.stream is not None
        with _faults():
            self._stream = container.add_stream_from_template(sound.stream)
        self._container, self._sound = container, sound
        self._packets = sound.packets()
        self._waiting: Packet | None = None
        self._last: int | None = None

    def copy(self, until: float) -> None:
        """Those that are heard before that time, in seconds from the first picture on."""
        origin = self._sound.origin
        while (packet := self._waiting or next(self._packets, None)) is not None:
            self._waiting = packet
            base = packet.time_base
            if packet.pts is not None and base:
                if float(packet.pts * base) - origin > until:
                    return
                shift = round(origin / float(base))
                packet.pts -= shift
                packet.dts = packet.pts if packet.dts is None else packet.dts - shift
                if self._last is None or packet.dts > self._last:  # times that go back: left out
                    self._last = packet.dts
                    packet.stream = self._stream
                    self._container.mux_one(packet)
            self._waiting = None
