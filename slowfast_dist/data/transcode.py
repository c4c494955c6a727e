"""One video rewritten for fast loading: small, in H.264, a few frames from keyframe to keyframe.

Frame i of the result is frame i of the source, as the probe counts the frames and training reads
them: upright, at its own time, in its own colours, only smaller.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from slowfast_dist.data.opening import DecodeError, open_video
from slowfast_dist.data.packets import PacketIndex, decode_all, decode_frames, index_packets
from slowfast_dist.data.probe import probe_file
from slowfast_dist.data.video import VideoInfo, read_frames

KEY_INTERVAL = 16
"""Frames from one keyframe to the next. Short side 320, a clip of 32 frames at rate 2, intervals of
4, 8, 12, 16, 24 and 32: 40, 39, 35, 33, 35 and 34 ms of CPU time (give or take 2), 1.7, 1.1, 1.0,
.83, .75 and .67 MB for 10 s. Clips that are spread over the whole video want few."""

ENCODER: Mapping[str, str] = MappingProxyType(
    {
        "preset": "veryfast",
        "tune": "fastdecode",
        "crf": "23",
        "x264-params": "bframes=3:b-adapt=0:b-pyramid=0",
    }
)
"""Options of x264. fastdecode (no CABAC, no deblocking) nearly halves the time to read a clip, from
63 ms to 36. Of 3 B-frames to which nothing refers, those that a clip leaves out are not decoded: 33
ms; without B-frames 38. crf 23 takes .7 of the disk of crf 20 for 1.2 to 2 dB; the preset medium
takes half as much time again to encode, up to twice, for .7 to 1.2 dB."""

VERSION = 1
"""Of what is made of a file: raise it with any change to the pixels or the keyframes."""

CHUNK = 64
"""Frames that are decoded from one start of the decoder on, at least: it starts at keyframes, as
reading does, and what comes out of order waits no longer than that."""

_RGB = 0
"""FFmpeg's AVCOL_SPC_RGB: the frame holds no luma that could be kept."""


class WriteError(Exception):
    """The result cannot be written, as on a full disk. Not an OSError, which inside the reading of
    a video is a fault of the video."""


@dataclass(frozen=True)
class Transcoded:
    """What was written: ``size`` in bytes, the rest as in VideoInfo."""

    frames: int
    width: int
    height: int
    size: int


def transcode(
    source: Path,
    target: Path,
    short_side: int,
    key_interval: int = KEY_INTERVAL,
    encoder: Mapping[str, str] = ENCODER,
) -> Transcoded:
    """Write all frames of ``source`` to ``target``, an mp4 without sound, and read it again.

    The result has closed groups of ``key_interval`` frames, yuv420p, the time stamps of the source
    from 0 on, its colour matrix in limited range. ``target`` is on the disk on return; after an
    error it holds anything. Raises DecodeError for a source that does not decode from its first
    frame to the last, WriteError where the result cannot be written.
    """
    info = probe_file(source)
    size = prepared_size(info.width, info.height, short_side)
    written = 0
    options = {
        "g": str(key_interval),
        "keyint_min": str(key_interval),
        "sc_threshold": "0",  # no keyframes beside these
        "forced-idr": "1",
        **encoder,
    }
    with _Disk(target) as disk, open_video(source) as (container, stream):
        index = index_packets(source, container, stream, keep=True)
        try:
            with _Writer(disk, stream, info, size, options) as writer:
                for frame in _frames(source, stream, index, info):
                    writer.write(frame)
                    written += 1
        except av.FFmpegError as error:
            what = f"cannot be written as H.264 of {size[0]} x {size[1]} pixels"
            raise DecodeError(source, f"{what} ({error.strerror})") from error
        disk.sync()
    if written != info.frames:
        raise DecodeError(source, f"{written} frames decode, the probe found {info.frames}")
    result = probe_file(target)
    if (result.frames, result.width, result.height) != (written, *size):
        raise DecodeError(source, f"its copy holds {result.frames} frames in place of {written}")
    read_frames(target, np.array([0, written - 1]), result, "pyav", None)
    return Transcoded(written, *size, target.stat().st_size)


def prepared_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height of the result: never larger than the source, but for what follows.

    4:2:0 has a colour for every 2 x 2 pixels, so both become the nearest even numbers, of two
    equally near the larger: the whole picture is stretched by less than a pixel, nothing is cut.
    """
    scale = min(1.0, short_side / min(width, height))
    return _even(width * scale), _even(height * scale)


def _even(length: float) -> int:
    return max(2, 2 * int(length / 2 + 0.5))


def _frames(
    path: Path, stream: VideoStream, index: PacketIndex, info: VideoInfo
) -> Iterator[VideoFrame]:
    """All frames in their order, decoded as those of a clip are."""
    if not info.by_packets:
        yield from decode_all(path, index)
        return
    for first, end in _chunks(index):
        waiting: dict[int, VideoFrame] = {}
        for number, frame in decode_frames(path, stream.codec_context, index, range(first, end)):
            waiting[number] = frame
            while first in waiting:
                yield waiting.pop(first)
                first += 1


def _chunks(index: PacketIndex) -> Iterator[tuple[int, int]]:
    """Frames (first, end) of runs that begin at keyframes, CHUNK frames or more each."""
    first = 0
    for start in np.flatnonzero(np.isin(index.order, index.keys)).tolist():
        if start - first >= CHUNK:
            yield first, start
            first = start
    yield first, len(index.order)


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
