"""An H.264 mp4 of RGB pictures or of decoded frames, with the sound of another file beside them."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from slowfast_dist.system.files import reason_of
from slowfast_dist.video.container import FAULTS, NO_OTHER_FILES, file_url, message
from slowfast_dist.video.views import Pixels

ENCODER = {"preset": "veryfast", "crf": "20", "bf": "0", "flags": "+frame_duration"}
"""Options of x264: hardly told from the source. With B-frames and uneven times the file would say a
wrong length, at which players stop; without the flag the last picture's length is lost."""

MADE_CLIP_ENCODER = {"preset": "veryfast", "qp": "20", "g": "12", "bf": "0"}
"""Options of x264 for made clips: closed groups of 12 pictures. With a constant quantiser x264 does
not look ahead, so the first frame's coding errors tell nothing about the motion that follows."""


# --- the sound of a video file, copied packet by packet beside new pictures -----------------------


class Sound(ExitStack):
    """The sound of a file: use as ``with Sound(path) as sound``."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.stream: AudioStream | None = None
        """None where there is none that can be read."""
        self.origin = 0.0
        """Seconds at which the first picture is shown in the file: to be set before one is
        written."""
        try:
            container = self.enter_context(
                av.open(file_url(path), metadata_errors="replace", options=NO_OTHER_FILES)
            )
            found = container.streams.best("audio")
            self.stream = found if isinstance(found, AudioStream) else None
            self._packets = container.demux(self.stream) if self.stream is not None else iter(())
        except FAULTS:
            self.stream = None

    def packets(self) -> Iterator[Packet]:
        """All of it, up to damage."""
        try:
            yield from (packet for packet in self._packets if packet.size)
        except FAULTS:
            return


def can_hold(stream: AudioStream) -> bool:
    """Whether an mp4 can hold such sound, and players play it there."""
    decoders = {"aac", "mp3", "mp3float", "ac3", "eac3", "alac", "flac", "opus", "libopus"}
    return stream.codec_context is not None and stream.codec_context.name in decoders


class CopiedSound:
    """The packets of a sound, brought into another container in step with its pictures."""

    def __init__(self, sound: Sound, container: OutputContainer) -> None:
        assert sound.stream is not None
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


# --- pictures -------------------------------------------------------------------------------------


class WriteError(Exception):
    """The result cannot be written, as on a full disk. Not an OSError, which inside the reading of
    a video is a fault of the video."""


class EncodeError(WriteError):
    """The encoder refuses the pictures or its options."""


class VideoWriter:
    """Writes pictures, all of one size, to ``path``, an mp4.

    Use as ``with VideoWriter(...) as writer``; the file is whole after that. Of an odd height or
    width the last row or column is repeated once: 4:2:0 has a colour for every 2 x 2 pixels.
    Raises WriteError where the file cannot be written.
    """

    def __init__(
        self, path: Path, height: int, width: int, fps: float | Fraction,
        sound: Sound | None = None, *, options: Mapping[str, str] | None = None,
        time_base: Fraction | None = Fraction(1, 90_000), tag_colours: bool = True,
        threads: int = 1, durable: bool = False,
        aspect: Fraction | None = None,
    ) -> None:  # fmt: skip
        """``fps``: about how many pictures a second will come; ``sound`` is copied as it is.

        ``options`` of x264, ENCODER with a keyframe every 2 s, to which a player can jump, if None;
        ``time_base``: one tick in seconds (90,000 a second are whole numbers of all usual frame
        rates), None: the time of a picture; ``tag_colours``: whether the file says of what kind its
        colours are; ``threads`` of the encoder: one gives the same bytes everywhere, 0 as many as
        it likes; ``durable``: on the disk when the block ends; ``aspect``: width over height of a
        pixel, None: square.
        """
        self._pad = height % 2, width % 2
        size = height + height % 2, width + width % 2
        self._colours: Colorspace | None = None
        if tag_colours:  # as players take for granted
            self._colours = Colorspace.ITU709 if size[0] >= 720 else Colorspace.ITU601
        self._scaler = VideoReformatter()
        rate = fps if isinstance(fps, Fraction) else Fraction(fps).limit_denominator(1001)
        self._base = time_base or 1 / rate
        self._last = -1
        self._durable = durable
        if options is None:
            options = {**ENCODER, "g": str(max(1, round(2 * fps)))}
        with _raised_as(WriteError):
            self._file = _File(os.fspath(path), "w")
        with _raised_as(EncodeError):
            self._container = av.open(self._file, "w", format="mp4")
            self._stream = self._container.add_stream("libx264", rate=rate, options=dict(options))
            self._stream.height, self._stream.width = size
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = self._base
            self._stream.codec_context.thread_count = threads
            if aspect is not None:
                self._stream.codec_context.sample_aspect_ratio = aspect
            self._sound = None if sound is None else CopiedSound(sound, self._container)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            if kind is not None:
                return  # what was written is of no use: closing it would only take time
            with _raised_as(EncodeError):
                if self._sound is not None:
                    self._sound.copy(float("inf"))
                self._container.mux(self._stream.encode(None))
                self._container.close()
            if self._durable:
                with _raised_as(WriteError):
                    os.fsync(self._file)

    def write(self, picture: Pixels, time: float | None = None, seconds: float = 0.0) -> None:
        """Show ``picture``, uint8 RGB (H, W, 3), from ``time`` on (rising; None: a tick after the
        last), for ``seconds`` if it is the last one."""
        if any(self._pad):
            rows, columns = self._pad
            picture = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge")
        with _raised_as(EncodeError):
            if self._sound is not None and time is not None:
                self._sound.copy(time + 0.5)  # so far ahead that a player need not wait for it
            frame = self._to_yuv(VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24"))
            wanted = 0 if time is None else round(time / self._base)
            frame.pts = self._last = max(wanted, self._last + 1)
            if seconds:
                frame.duration = max(1, round(seconds / self._base))
        self.write_frame(frame)

    def _to_yuv(self, picture: VideoFrame) -> VideoFrame:
        limited = None if self._colours is None else ColorRange.MPEG
        frame = self._scaler.reformat(
            picture, format="yuv420p", dst_colorspace=self._colours, dst_color_range=limited,
            threads=1,
        )  # fmt: skip
        if self._colours is not None:
            frame.colorspace, frame.color_range = self._colours, ColorRange.MPEG
            code = 1 if self._colours == Colorspace.ITU709 else 6  # as in ITU-T H.273
            frame.color_primaries = frame.color_trc = code
        return frame

    def write_frame(self, frame: VideoFrame) -> None:
        """Add a yuv420p frame with its own ``pts``; the first one's colours are the file's."""
        frame.time_base = self._base
        context = self._stream.codec_context
        with _raised_as(EncodeError):
            if not context.is_open:
                for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
                    setattr(context, name, getattr(frame, name))
            self._container.mux(self._stream.encode(frame))


def write_video(
    path: Path, pictures: Iterable[Pixels], fps: int,
    options: Mapping[str, str] = MADE_CLIP_ENCODER, threads: int = 1,
) -> None:  # fmt: skip
    """Encode pictures, each uint8 RGB (H, W, 3), evenly spaced in time. Raises WriteError where
    ``path`` cannot be written."""
    following = iter(pictures)
    first = next(following)
    height, width, _ = first.shape
    with VideoWriter(
        path, height, width, fps, options=options, time_base=None, tag_colours=False,
        threads=threads,
    ) as writer:  # fmt: skip
        for picture in chain([first], following):
            writer.write(picture)


class _File(io.FileIO):
    """A file that PyAV writes; what goes wrong with it is a WriteError, told from the encoder's."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[super().write(rest) :]
        except OSError as error:
            raise WriteError(reason_of(error, Path(os.fsdecode(self.name)).parent)) from error
        return len(data)


@contextmanager
def _raised_as(kind: type[WriteError]) -> Iterator[None]:
    try:
        yield
    except FAULTS as error:
        raise kind(message(error)) from error
