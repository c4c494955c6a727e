"""Small videos of every kind that breaks readers, each frame with its number written into it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]

BITS = 8
X264 = {"preset": "veryfast"}
CLOSED = {**X264, "x264-params": "open-gop=0:bframes=3:b-pyramid=2:scenecut=0:keyint=12"}
OPEN = {**X264, "x264-params": "open-gop=1:bframes=3:scenecut=0:keyint=12:min-keyint=12"}
STRICT = {**X264, "x264-params": "open-gop=1:bframes=5:b-pyramid=1:b-adapt=0:scenecut=0:keyint=12"}


def picture(number: int, height: int, width: int) -> Frame:
    """The number as a bar code in the upper half, a moving texture in the lower one."""
    image = np.zeros((height, width, 3), np.uint8)
    for bit in range(BITS):
        left, right = width * bit // BITS, width * (bit + 1) // BITS
        image[: height // 2, left:right] = 230 if number >> bit & 1 else 20
    rows, columns = np.mgrid[0 : height - height // 2, 0:width]
    for channel in range(3):
        wave = np.sin(rows / 7 + channel) + np.cos((columns + 3 * number) / 9)
        image[height // 2 :, :, channel] = (128 + 60 * wave).astype(np.uint8)
    return image


def read_number(frame: Frame) -> int:
    height, width, _ = frame.shape
    number = 0
    for bit in range(BITS):
        centre = width * (2 * bit + 1) // (2 * BITS)
        block = frame[height // 8 : 3 * height // 8, centre - 2 : centre + 3]
        number |= int(block.mean() > 128) << bit
    return number


@dataclass(frozen=True)
class Kind:
    """How to write a video, and what the readers make of it."""

    suffix: str
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: dict(CLOSED))
    decord_exact: bool = True
    even: bool = True
    """Whether its times are even, so that it is read by seeking."""
    frames: int = 40
    rate: int = 25
    size: tuple[int, int] = (64, 128)
    pix_fmt: str = "yuv420p"
    format: str | None = None
    gop: int = 12
    b_frames: int | None = None
    rotation: int = 0
    varying: bool = False
    movflags: str = ""
    cut: bool = False
    key_list: bool = True
    """Whether an mp4 says which packets are keyframes; without, it calls all of them that."""
    retimed: Callable[[list[int]], list[int]] | None = None
    """What makes other presentation times of the packets' own, in the order of the file."""


def write(path: Path, kind: Kind) -> Path:
    height, width = kind.size
    rate, base = kind.rate, Fraction(1, 1000)
    gaps = np.random.default_rng(0).integers(5, 90, kind.frames) if kind.varying else None
    muxer = {"movflags": kind.movflags} if kind.movflags else {}
    with av.open(str(path), "w", format=kind.format, options=muxer) as container:
        stream = container.add_stream(kind.codec, rate=rate, options=kind.options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, kind.pix_fmt
        context = stream.codec_context
        context.gop_size, context.thread_count = kind.gop, 1
        if kind.b_frames is not None:
            context.max_b_frames = kind.b_frames
        if kind.varying:
            context.time_base = base
        if kind.rotation:
            stream.set_display_rotation(kind.rotation)
        for number in range(kind.frames):
            frame = av.VideoFrame.from_ndarray(picture(number, height, width), format="rgb24")
            frame.pts = number if gaps is None else int(gaps[:number].sum())
            frame.time_base = Fraction(1, rate) if gaps is None else base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if not kind.key_list:
        path.write_bytes(path.read_bytes().replace(b"stss", b"free"))
    if kind.retimed:
        retime(path.rename(path.with_stem("timed")), path, kind.retimed)
    if kind.cut:
        whole = path.rename(path.with_stem("whole"))
        cut(whole, path, frames=5)
    return path


def cut(source: Path, target: Path, frames: int) -> None:
    """As ``ffmpeg -ss -c copy`` does: from the second keyframe on, with an edit list that hides the
    first frames."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        packets = [packet for packet in reader.demux(stream) if packet.size]
        second = [i for i, packet in enumerate(packets) if packet.is_keyframe][1]
        assert stream.time_base is not None
        shift = (packets[second].pts or 0) + int(Fraction(frames, 25) / stream.time_base)
        for packet in packets[second:]:
            assert packet.pts is not None and packet.dts is not None
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
            writer.mux(packet)


def retime(source: Path, target: Path, retimed: Callable[[list[int]], list[int]]) -> None:
    """The same packets in the same order with other presentation times."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        packets = [packet for packet in reader.demux(stream) if packet.size]
        times = retimed([packet.pts or 0 for packet in packets])
        before = max(times)  # the times of decoding only have to be earlier, and to rise
        for number, (packet, time) in enumerate(zip(packets, times, strict=True)):
            packet.pts, packet.dts, packet.stream = time + before, number, copy
            writer.mux(packet)


def one_late(times: list[int]) -> list[int]:
    """The frame that is shown fourth gets a time behind that of the seventh, as a camera did."""
    fourth, seventh, eighth = (sorted(times)[number] for number in (3, 6, 7))
    return [(seventh + eighth) // 2 if time == fourth else time for time in times]


def as_decoded(times: list[int]) -> list[int]:
    """They rise from packet to packet, as where a writer knows no times of presentation."""
    return sorted(times)


KINDS: dict[str, Kind] = {
    "H.264": Kind(".mp4"),
    "H.264 mov": Kind(".mov"),
    "H.264 mkv": Kind(".mkv"),
    "H.264 variable frame rate": Kind(".mp4", varying=True, even=False),
    "H.264 odd size 4:4:4": Kind(".mp4", size=(97, 131), pix_fmt="yuv444p"),
    "H.264 gray": Kind(".mp4", pix_fmt="gray"),
    "H.264 intra": Kind(".mp4", options={**X264, "x264-params": "keyint=1"}, gop=1),
    "H.264 30 fps mkv": Kind(".mkv", rate=30),  # times in ms, which are rounded
    "H.264 10 bit": Kind(".mp4", pix_fmt="yuv420p10le"),
    "H.264 interlaced": Kind(
        ".mp4", options={**X264, "flags": "+ildct+ilme", "x264-params": "tff=1:keyint=12"}
    ),
    "H.264 no list of keyframes": Kind(".mp4", key_list=False, decord_exact=False, even=False),
    "MPEG-4 no list of keyframes": Kind(
        ".mp4", "mpeg4", {}, b_frames=0, key_list=False, decord_exact=False, even=False
    ),
    "H.264 4:2:2": Kind(".mp4", pix_fmt="yuv422p"),
    "H.264 fragmented": Kind(".mp4", movflags="frag_keyframe+empty_moov"),
    "H.264 many groups": Kind(
        ".mp4", options={**X264, "x264-params": "keyint=12:min-keyint=1"}, frames=250
    ),
    "H.264 open GOP": Kind(".mp4", options=OPEN, decord_exact=False),
    "H.264 open GOP, strict pyramid": Kind(".mp4", options=STRICT, decord_exact=False),
    "H.264 cut": Kind(".mp4", cut=True, decord_exact=False, even=False),
    "H.264 open GOP, cut": Kind(".mp4", options=OPEN, cut=True, decord_exact=False, even=False),
    "H.264 MPEG-TS": Kind(".mp4", format="mpegts", decord_exact=False, even=False),
    "H.264 AVI": Kind(".avi", decord_exact=False, even=False),
    "HEVC open GOP": Kind(
        ".mp4",
        "libx265",
        decord_exact=False,
        options={"x265-params": "keyint=12:min-keyint=12:bframes=3:pools=1:log-level=none"},
    ),
    "HEVC": Kind(
        ".mp4",
        "libx265",
        decord_exact=False,
        options={"x265-params": "pools=1:log-level=none"},
        frames=256,
        gop=250,
    ),
    "HEVC keyint 48": Kind(
        ".mp4",
        "libx265",
        decord_exact=False,
        options={"x265-params": "keyint=48:pools=1:log-level=none"},
        frames=120,
    ),
    "HEVC closed GOP": Kind(
        ".mp4",
        "libx265",
        options={"x265-params": "open-gop=0:keyint=12:bframes=3:pools=1:log-level=none"},
    ),
    "MPEG-4 B-frames": Kind(".mp4", "mpeg4", {}, b_frames=2, decord_exact=False),
    "MPEG-4 B-frames AVI": Kind(".avi", "mpeg4", {}, b_frames=2, decord_exact=False, even=False),
    "MPEG-4": Kind(".mp4", "mpeg4", {}, b_frames=0),
    "MPEG-2": Kind(".mpg", "mpeg2video", {}, b_frames=2, decord_exact=False, even=False),
    "VP8": Kind(
        ".webm",
        "libvpx",
        {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"},
        decord_exact=False,
        even=False,
    ),
    "VP9": Kind(
        ".webm",
        "libvpx-vp9",
        {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8", "deadline": "realtime"},
    ),
    "AV1": Kind(".mp4", "libsvtav1", {"preset": "12"}, decord_exact=False),
    # The order of the packets' times is not that in which the decoder shows them.
    "H.264 a late time": Kind(".mkv", decord_exact=False, even=False, retimed=one_late),
    "H.264 open GOP, a late time": Kind(
        ".mp4", options=OPEN, decord_exact=False, even=False, retimed=one_late
    ),
    "HEVC a late time": Kind(
        ".mkv", "libx265", {"x265-params": "keyint=12:bframes=3:pools=1:log-level=none"},
        decord_exact=False, even=False, retimed=one_late,
    ),
    "MPEG-4 a late time": Kind(
        ".mp4", "mpeg4", {}, b_frames=2, decord_exact=False, even=False, retimed=one_late
    ),
    "H.264 times of decoding": Kind(".mkv", decord_exact=False, even=False, retimed=as_decoded),
    "HEVC times of decoding": Kind(
        ".mp4", "libx265", {"x265-params": "keyint=12:bframes=3:pools=1:log-level=none"},
        decord_exact=False, even=False, retimed=as_decoded,
    ),
    # Its container marks no keyframes.
    "Sorenson Spark, SWF": Kind(".swf", "flv", {}, decord_exact=False, even=False),
    # The palette of 8 bits a pixel is with the first packet alone, whatever is sought.
    "QuickTime Animation, gray": Kind(
        ".mov", "qtrle", {}, pix_fmt="gray", decord_exact=False, even=False
    ),
}


class Videos:
    """What the tests of this folder use of this file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths: dict[str, Path] = {}

    def path(self, name: str) -> Path:
        """The video of a kind, written when it is first asked for."""
        if name not in self._paths:
            folder = self.folder / f"{len(self._paths)}"
            folder.mkdir()
            self._paths[name] = write(folder / f"video{KINDS[name].suffix}", KINDS[name])
        return self._paths[name]

    kinds = KINDS
    number = staticmethod(read_number)
    write = staticmethod(write)

    @staticmethod
    def whole(path: Path, view: Callable[[Frame], Frame] = np.asarray) -> list[Frame]:
        """The reference: all frames from the beginning on, as displayed, by PyAV alone."""
        frames: list[Frame] = []
        with av.open(str(path)) as container:
            for frame in container.decode(container.streams.best("video")):
                assert isinstance(frame, av.VideoFrame)
                rgb = frame.reformat(format="rgb24").to_ndarray()
                frames.append(view(np.rot90(rgb, frame.rotation // 90)))
        return frames
