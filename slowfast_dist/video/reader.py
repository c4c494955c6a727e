"""Frames of one video, a file or a folder of images: the right ones, or a DecodeError with why not.

PyAV reads them, by seeking where the frames' times are even, else by the index of all packets.
Decord is there for those who ask for it, for files that the probe found sound and plain: it brings
an FFmpeg of 2018.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from slowfast_dist.video.container import DecodeError, OpenFiles, open_video
from slowfast_dist.video.conversion.converter import ViewConverter
from slowfast_dist.video.images.decoding import read_image_views
from slowfast_dist.video.packets import PacketIndex, decode_all, decode_frames, index_packets
from slowfast_dist.video.seeking import (
    SeekingReader,
    Timeline,
    UnevenTimeline,
    unpack_ticks,
    unpack_uneven_times,
    with_moved_frames,
)
from slowfast_dist.video.views import SpatialView, region_in, show_region, used_aspect

__all__ = [
    "DecodeError", "VideoInfo", "chosen_decoder", "decoder_reasons", "read_frames", "read_views",
]  # fmt: skip

CHUNK = 4
"""Frames that Decord decodes at once: at 1080p this peaks at a third of a whole clip's memory."""

SPEED_OVER_DECORD = {"h264": 1.5, "hevc": 1.8, "vp9": 1.4, "mpeg4": 2.9}
"""How many times as fast as Decord PyAV is, by codec: the least ratio measured of the CPU time of a
clip (32 frames at rate 2, crop 224), both through the loader's path. H.264: 340 x 256 2.0 to 2.3,
720p 2.4 (GOP 12) and 2.6 (250), 1080p 2.4 and 2.9, all keyframes 2.6, no B-frames 1.9, 10 bits 1.6,
variable frame rate 2.4, Matroska 1.8, real clips of 150 to 610 x 240 to 340 px 1.5 to 1.8. At
720p, HEVC 1.8, VP9 1.4, MPEG-4 2.9."""

IMAGES = "images"
"""What stands for the codec of a folder of numbered images."""

Frames = NDArray[np.uint8]
Indices = NDArray[np.int64]
Decoder = Literal["auto", "decord", "pyav"]
View = SpatialView | None
"""None: the whole frame."""

Places = dict[int, list[int]]
"""Frame number -> where it goes in each view's part of the result."""

@dataclass(frozen=True)
class VideoInfo:
    """What a file holds, as the probe found it. Size and speed do not count in comparisons."""

    frames: int
    """Frames that a decode from the beginning to the end gives."""
    fps: float
    """Average frames per second; 0 where the file does not say."""
    width: int
    """Pixels, as displayed: after the rotation. They need not be square: see ``shown_width``."""
    height: int
    rotation: int
    """Degrees anticlockwise from the stored to the displayed frame: 0, 90, 180 or 270."""
    codec: str
    """FFmpeg's name, as h264, hevc or av1; IMAGES for a folder of images."""
    decord_exact: bool
    """Whether Decord returns the frames that it is asked for."""
    by_packets: bool = True
    """Whether the times of the packets are those of the frames; else frames are counted."""
    key_interval: int = 0
    """Most frames from one keyframe to the next; ``frames`` where there is only one."""
    decode_ms: float = field(default=0.0, compare=False)
    """CPU milliseconds to decode one frame, as measured on a few; 0 if unknown."""
    first_time: int = 0
    """Time of the first frame in ticks of the stream's time base, where ``frame_time`` is not 0, or
    it is ``seekable``."""
    frame_time: float = 0.0
    """Ticks between two frames. 0 where times are uneven, frames are hidden or counted: such a
    file is read by the index of all its packets, unless it is ``seekable``, others by seeking."""
    reorder_depth: int = 0
    """Frames that the decoder holds back at most to bring them into the order of their times."""
    file_size: int = field(default=0, compare=False)
    """Bytes."""
    mirrored: bool = False
    """Whether the frame is mirrored left to right once it is turned, as some cameras ask for."""
    digest: int = field(default=0, compare=False)
    """The first 63 bits of the SHA-256 of the file: equal for files that are so byte for byte."""
    stated_aspect: float = 1.0
    """Width over height of a pixel of the displayed frame, as the file states it; 1 where it does
    not."""
    light: str = "sdr"
    """How its numbers stand for light: sdr, pq or hlg; the last two are HDR, and read as if SDR."""
    interlaced: bool = False
    """Whether a frame holds two pictures, one in every second row; they are not parted."""
    alpha: bool = False
    """Whether its first frame is transparent anywhere, or the file marks a stream of alpha; what is
    behind is shown as it is stored."""
    moved_frames: str = ""
    """Which frame, counted by the packets' times, is shown in which place, as `pack_moved_frames`
    packs it; empty where the order is that of the times."""
    lost: int = 0
    """Pictures at the end that are damaged or not there, where a recording was cut off, as far as
    the file tells; they are no frames."""
    uneven_times: str = ""
    """When each frame is shown, as `pack_uneven_times` packs it; empty where frame n is shown n /
    ``fps`` seconds after the first, and where nothing tells."""
    uneven_rate: float = 0.0
    """Frames a second by ``uneven_times``, on average over the video; 0 where that is empty."""
    seekable: bool = False
    """Whether the packet of each frame can be sought by ``uneven_times``, counted from
    ``first_time`` in ticks."""
    missing_images: int = 0
    """Of a folder of images, numbers that are left out between the first and the last: the image
    before such a one is shown for longer."""

    def times(self) -> NDArray[np.float64] | None:
        """Seconds from the first frame to each (N,); None where the file tells neither times nor a
        frame rate."""
        if self.uneven_times:
            return unpack_uneven_times(self.uneven_times)
        return np.arange(self.frames) / self.fps if self.fps > 0 else None

    def duration(self) -> float:
        """Seconds from the first frame to the end of the last, which is taken to be shown as long
        as the median frame; 0 where the file tells neither times nor a frame rate."""
        if self.uneven_times:
            times = unpack_uneven_times(self.uneven_times)
            return float(times[-1] + np.median(np.diff(times)))
        return self.frames / self.fps if self.fps > 0 else 0.0

    def mean_rate(self) -> float:
        """Frames a second, on average over the video; 0 where the file does not tell."""
        return self.uneven_rate or self.fps

    @property
    def pixel_aspect(self) -> float:
        """Width over height with which a player shows a pixel of the displayed frame."""
        return used_aspect(self.stated_aspect)

    @property
    def shown_width(self) -> int:
        """Columns of the displayed frame in square pixels; it keeps its ``height`` rows."""
        return max(1, round(self.width * self.pixel_aspect))


def chosen_decoder(info: VideoInfo, decoder: Decoder) -> Literal["decord", "pyav"]:
    """Which library reads the file: PyAV, which is exact and fast (SPEED_OVER_DECORD) everywhere;
    Decord where it was asked for, for a file that the probe found sound and in which its frames are
    right. What others send is thus never given to its FFmpeg of 2018, unless somebody wants it.
    """
    return "decord" if decoder == "decord" and info.decord_exact else "pyav"


def decoder_reasons(counts: Counter[tuple[str, bool]], decoder: Decoder) -> list[str]:
    """Which library reads how many of the videos, and why: lines for people. ``counts``: how many
    there are of each codec in which Decord is right (True), or is not."""
    folders = counts[IMAGES, False]
    lines = [f"{folders} videos are folders of images, read one by one"] * bool(folders)
    right = {codec: count for (codec, exact), count in sorted(counts.items()) if exact}
    wrong = sum(counts.values()) - sum(right.values()) - folders
    if not wrong and not right:
        return lines
    if decoder == "pyav":
        return [*lines, f"PyAV reads all {counts.total() - folders} videos (--data.decoder pyav)"]
    if decoder == "decord":
        lines += [f"Decord reads {sum(right.values())} videos (--data.decoder decord)"]
    else:
        lines += [
            f"PyAV reads {count} {codec} videos: {SPEED_OVER_DECORD[codec]:g} times as fast as "
            "Decord"
            for codec, count in right.items()
        ]
    if wrong:
        lines.append(f"PyAV reads {wrong} videos in which Decord's frames are wrong or missing")
    return lines


@contextmanager
def open_indexed(path: Path, info: VideoInfo) -> Iterator[tuple[PacketIndex, VideoStream]]:
    """The index of an opened file's packets, and its stream. Raises DecodeError, also for a file
    that is no longer as it was probed."""
    with open_video(path) as (container, stream):
        index = index_packets(path, container, stream)
        if info.by_packets and len(index.order) != info.frames:
            raise DecodeError(path, f"{len(index.order)} frames, {info.frames} when it was probed")
        if info.by_packets and info.moved_frames:
            index = with_moved_frames(path, index, info.moved_frames)
        yield index, stream


def frames_by_index(
    path: Path, stream: VideoStream, index: PacketIndex, info: VideoInfo, wanted: Sequence[int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """The frames ``wanted`` (numbers, each once) by their packets' times, in any order; in rising
    order where these do not tell and the frames are counted. Raises DecodeError at the first that
    is not there or does not decode whole."""
    if info.by_packets:
        yield from decode_frames(path, stream.codec_context, index, wanted)
        return
    missing = set(wanted)
    for number, frame in enumerate(decode_all(path, index)):
        if number in missing:
            missing.remove(number)
            yield number, frame
        if not missing:
            return
    raise DecodeError(path, f"frame {min(missing) + 1} of {info.frames} is gone since the probe")


def read_frames(
    path: Path, indices: Indices, info: VideoInfo, decoder: Decoder, view: View,
    out: Frames | None = None,
) -> Frames:  # fmt: skip
    """The frames at ``indices`` (T,), as displayed: uint8 RGB (T, H, W, 3), in the pixels that are
    stored; (T, size, size, 3) with a view. They are written into ``out`` if that is given, which
    has this shape.

    A repeated index is decoded once. Raises DecodeError for whatever is wrong with the file.
    """
    outs = None if out is None else out[None]
    return read_views(path, indices, info, decoder, (view,), outs)[0]


def read_views(
    path: Path, indices: Indices, info: VideoInfo, decoder: Decoder, views: Sequence[View],
    out: Frames | None = None, files: OpenFiles | None = None,
) -> Frames:  # fmt: skip
    """As `read_frames`, through each of V views of one size, (V, T, size, size, 3): a frame is
    decoded once for all of them. ``files``: where long files stay open until the next read."""
    assert len(indices) and indices.min() >= 0 and indices.max() < info.frames, (path, indices)
    [size] = {(info.height, info.width) if view is None else (view.size,) * 2 for view in views}
    shape = (len(views), len(indices), *size, 3)
    frames = np.empty(shape, np.uint8) if out is None else out
    assert frames.shape == shape and frames.flags.c_contiguous
    places: Places = {}
    for place, number in enumerate(indices.tolist()):
        places.setdefault(number, []).append(place)
    _read_places(path, places, info, decoder, views, frames, files or OpenFiles(keep=False))
    for view, seen in zip(views, frames, strict=True):
        if view is not None and view.variation is not None:
            view.variation.finish(seen)
    return frames


def _read_places(
    path: Path, places: Places, info: VideoInfo, decoder: Decoder, views: Sequence[View],
    out: Frames, files: OpenFiles,
) -> None:  # fmt: skip
    if info.codec == IMAGES:
        read_image_views(path, places, info.frames, (info.height, info.width), views, out)
    # A file that changed since the probe is one that nobody looked at.
    elif chosen_decoder(info, decoder) == "decord" and _is_unchanged(path, info):
        _read_decord(path, places, info, views, out)
    else:
        _read_pyav(path, places, info, views, out, files)


def _read_pyav(
    path: Path, places: Places, info: VideoInfo, views: Sequence[View], out: Frames,
    files: OpenFiles,
) -> None:  # fmt: skip
    converters = [
        ViewConverter(info.height, info.width, info.rotation, view, info.mirrored)
        for view in views
    ]

    def write(number: int, frame: av.VideoFrame) -> None:
        for converter, seen in zip(converters, out, strict=True):
            converter.write_at(frame, seen, places[number])

    decode_each(path, places, info, files, write)


def decode_each(
    path: Path, wanted: Iterable[int], info: VideoInfo, files: OpenFiles,
    use: Callable[[int, av.VideoFrame], None],
) -> None:  # fmt: skip
    """Call ``use`` with each of the frames ``wanted`` (numbers) of a file, in any order, by PyAV.
    Raises DecodeError."""
    missing = set(wanted)

    def write(number: int, frame: av.VideoFrame) -> None:
        use(number, frame)
        missing.remove(number)

    timeline = _timeline(info)
    if timeline is not None and _is_unchanged(path, info):
        with files.video(path, info.frames, info.reorder_depth) as (container, stream):
            seeking = SeekingReader(container, stream, timeline, info.key_interval, missing)
            for number, frame in seeking.frames():
                write(number, frame)
        if not missing:
            return
        files.forget(path)
    with open_indexed(path, info) as (index, stream):
        for number, frame in frames_by_index(path, stream, index, info, sorted(missing)):
            write(number, frame)


def _timeline(info: VideoInfo) -> Timeline | UnevenTimeline | None:
    """When the frames are shown, where that tells which packet holds which."""
    if info.frame_time:
        return Timeline(info.first_time, info.frame_time)
    if info.seekable and info.uneven_times:
        return UnevenTimeline(info.first_time + unpack_ticks(info.uneven_times))
    return None


def _is_unchanged(path: Path, info: VideoInfo) -> bool:
    try:
        return path.stat().st_size == info.file_size
    except OSError:
        return False  # what is wrong is said on opening it


def _read_decord(
    path: Path, places: Places, info: VideoInfo, views: Sequence[View], out: Frames
) -> None:
    for numbers, frames in _decord_chunks(path, sorted(places), info):
        for view, seen in zip(views, out, strict=True):
            for number, frame in zip(numbers, frames, strict=True):
                if view is None:
                    seen[places[number]] = frame
                else:
                    show_region(region_in(frame, view), view, seen, places[number])


def _decord_chunks(
    path: Path, wanted: list[int], info: VideoInfo
) -> Iterator[tuple[list[int], Frames]]:
    try:
        import decord  # there is none for some platforms, where PyAV reads everything

        decord.logging.set_level(decord.logging.QUIET)
        # Opened here and let go at the end: an idle reader goes on decoding into memory, and one
        # that a loader's process inherits does not work.
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        if len(reader) != info.frames:
            raise ValueError(f"{len(reader)} frames in place of {info.frames}")
        size = (info.height, info.width)
        for first in range(0, len(wanted), CHUNK):
            numbers = wanted[first : first + CHUNK]
            frames = reader.get_batch(numbers).asnumpy()
            if frames.shape[1:3] != size:
                raise ValueError(f"frames of {frames.shape[1:3]} in place of {size} px")
            yield numbers, frames
    except ImportError as error:
        raise DecodeError(path, "Decord is not installed: use --data.decoder auto") from error
    except Exception as error:  # its own error is nothing narrower, and it asserts
        # Without time and place in Decord's source, with which its messages begin.
        line = re.sub(r"\[[\d:]+\] \S+:\d+: |Check failed: ", "", str(error).partition("\n")[0])
        raise DecodeError(path, f"Decord: {line or type(error).__name__}") from error
