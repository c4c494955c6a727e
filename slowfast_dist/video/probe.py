"""What one file really holds."""

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream
from numpy.typing import NDArray

from slowfast_dist.system.files import file_sha256
from slowfast_dist.video.container import FAULTS, DecodeError, obstacle, open_video
from slowfast_dist.video.images.probe import probe_folder
from slowfast_dist.video.packets import (
    PacketIndex,
    decode_all,
    decode_frames,
    index_packets,
    packets_between,
)  # fmt: skip
from slowfast_dist.video.pictures import picture_facts
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.seeking import (
    Timeline,
    pack_moved_frames,
    pack_uneven_times,
    rate_of_times,
)

VERSION = f"9, av {av.__version__}"
"""Version of a probe's result: raise the number when the same file gives another one."""

NO_TIMESTAMPS = 0x80
"""FFmpeg's AVFMT_NOTIMESTAMPS: a raw stream, as .h264. Its average rate is 25 whatever it holds, as
is that of pictures one behind the other (jpeg_pipe); the true one is in the stream's own headers,
or nowhere."""

PACKET_IS_FRAME = frozenset({"h264", "hevc", "mpeg4", "vp9", "av1"})
"""Codecs of which every packet in an mp4, mov or Matroska file is a frame with its own time."""

DECORD_CODECS = PACKET_IS_FRAME - {"av1"}
"""Those of them that Decord 0.6 decodes; it was right on every file of plain order."""


def probe_file(path: Path, image_fps: float | None = None) -> VideoInfo:
    """Scan the packets of the file; decode its first frame and the last one that is a keyframe.

    Where the packets may not tell the frames (AVI, MPEG-TS, rare codecs, missing times) it decodes
    everything and counts; where their times may not tell the order (they are uneven, or the decoder
    shows that they do not) it decodes everything and compares. Of a folder it reads the images,
    of which ``image_fps`` are shown a second where no fps.txt tells. Raises DecodeError for what
    cannot be read.
    """
    if path.is_dir():
        return probe_folder(path, image_fps)
    try:
        return _probe(path)
    except DecodeError as error:
        named = obstacle(path)
        raise DecodeError(path, named or error.reason) from error


def _probe(path: Path) -> VideoInfo:
    with open_video(path) as (container, stream):
        formats = container.format.name.split(",")
        index = index_packets(path, container, stream)
        codec = stream.codec_context.codec.canonical_name
        reorder_depth = stream.codec_context.reorder_depth
        timed = codec in PACKET_IS_FRAME and ("mp4" in formats or "matroska" in formats)
        plain = timed and len(index.order) > 0
        # A file without a list of keyframes calls all packets that: it cannot be sought in.
        listed = sum(entry.is_keyframe for entry in stream.index_entries)
        false_keys = index.false_keys or listed > len(index.keys)
        # Of several video streams FFmpeg may choose another one after a quicker look.
        one_video = len(container.streams.video) == 1
        may_seek = plain and not false_keys and one_video and not len(index.states)
        timeline = _timeline(index) if may_seek else None
        key_interval = int(np.diff(index.keys, append=index.count).max())
        moved_frames, lost = "", 0
        if plain:
            frames, by_packets = len(index.order), True
            times = np.sort(index.times[index.order]).tolist()
            keys = np.flatnonzero(np.isin(index.order, index.keys)).tolist()
            wanted = sorted({0, *keys[-1:]})
            first = dict(decode_frames(path, stream.codec_context, index, wanted))[0]
        else:
            times, by_packets, first, lost = _decode_and_count(path, index)
            frames = len(times)
        decode_ms, rising = _decode_ms(path, stream.codec_context, index, key_interval)
        if plain and not (_step(index.times) and rising and _sorts(index, reorder_depth)):
            ranks, presented, lost = _presented_ranks(path, index)
            frames, by_packets = len(ranks), sorted(ranks) == list(range(frames))
            times = times if by_packets else presented
            moved_frames = pack_moved_frames(ranks) if by_packets else ""
            timeline = timeline if by_packets and not moved_frames else None
        rotation, mirrored = _orientation(first)
        size = (first.height, first.width)
        height, width = size[::-1] if rotation in (90, 270) else size
        decord_exact = (
            plain and by_packets and not moved_frames
            and not false_keys and not mirrored and not len(index.states)
            and codec in DECORD_CODECS
            and stream.frames in (0, frames)
            and (rotation == 0 or "mp4" in formats)  # in Matroska, Decord overlooks it
            and _plain_order(index)
        )  # fmt: skip
        fps = _frame_rate(stream, index)
        # Raw streams and AVI have none: FFmpeg makes some up, in the order of the packets.
        made_up = _has_no_times(stream) or ("avi" in formats and not by_packets)
        told = [] if made_up else times
        uneven_times = pack_uneven_times(told, stream.time_base, fps)
        seekable = bool(
            may_seek and uneven_times and by_packets and not moved_frames and _is_whole(index)
        )
        return VideoInfo(
            frames=frames, fps=fps,
            width=width, height=height, rotation=rotation, mirrored=mirrored, codec=codec,
            decord_exact=decord_exact, by_packets=by_packets,
            key_interval=min(key_interval, frames), decode_ms=decode_ms,
            first_time=int(index.times.min()) if timeline or seekable else 0,
            frame_time=timeline.step if timeline else 0.0,
            reorder_depth=reorder_depth, file_size=path.stat().st_size,
            digest=int(file_sha256(path)[:16], 16) >> 1,
            uneven_times=uneven_times, uneven_rate=rate_of_times(uneven_times),
            seekable=seekable and timeline is None, moved_frames=moved_frames,
            lost=max(index.broken + lost, _never_read(path, container, stream, index)),
            **picture_facts(stream, first, rotation),
        )  # fmt: skip


def _never_read(
    path: Path, container: InputContainer, stream: VideoStream, index: PacketIndex
) -> int:
    """Pictures that the file's header lists, or has time for, and that are not there: it was cut
    off. 0 where it does not tell."""
    formats = container.format.name.split(",")
    here = index.before + index.count
    if "mp4" in formats:
        return max(0, sum(entry.size > 0 for entry in stream.index_entries) - here)
    if "avi" in formats and index.broken:
        return max(0, stream.frames - here)
    if "matroska" in formats and _segment_is_cut(path):
        seconds = (container.duration or 0) / av.time_base
        return max(0, round(seconds * float(stream.average_rate or 0)) - here)
    return 0


def _segment_is_cut(path: Path) -> bool:
    """Whether a Matroska file is shorter than the one segment that it says to hold (RFC 9559)."""
    with open(path, "rb") as file:
        head = file.read(4096)
    place = head.find(b"\x18\x53\x80\x67") + 4
    if place < 4 or not head[place : place + 1].strip(b"\0"):
        return False
    width = 9 - head[place].bit_length()  # of the size, whose leading zeros tell its bytes
    size = int.from_bytes(head[place : place + width]) & (1 << 7 * width) - 1
    unknown = size == (1 << 7 * width) - 1
    return not unknown and place + width + size > path.stat().st_size


def _unknown_side_data(kind: Any, value: object) -> Any:
    """A member of PyAV's enumeration for a value that it does not know.

    FFmpeg 8 attaches more types to frames than PyAV 18.1 has names for (EXIF of MJPEG, multi-view
    HEVC), and looking for one type then raises ValueError because of another.
    """
    member = object.__new__(kind)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return member


SideDataType._missing_ = classmethod(_unknown_side_data)  # type: ignore[assignment]


def _orientation(frame: av.VideoFrame) -> tuple[int, bool]:
    """Degrees anticlockwise, 0, 90, 180 or 270, and whether it is mirrored left to right then."""
    degrees, mirrored = float(frame.rotation), False
    side_data: Any = frame.side_data
    matrix = side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is not None:
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
        mirrored = a * d < b * c
        if mirrored:  # FFmpeg's angle is of no use then: this is that of what is left unmirrored
            degrees = -math.degrees(math.atan2(b, -a))
    # A matrix without meaning gives any number at all.
    return round(degrees / 90) * 90 % 360 if abs(degrees) <= 360 else 0, mirrored


def _has_no_times(stream: VideoStream) -> bool:
    form = stream.container.format
    return bool(form.flags & NO_TIMESTAMPS) or form.name.endswith("_pipe")


def _frame_rate(stream: VideoStream, index: PacketIndex) -> float:
    """Frames a second on average; 0 where the file does not say."""
    if _has_no_times(stream):
        return float(stream.codec_context.framerate or 0)
    rate, tick = float(stream.average_rate or stream.guessed_rate or 0), stream.time_base
    if tick and rate * tick == 1 and len(index.order) > 1:
        # A frame a tick is what FFmpeg says of DV and GXF, where a frame takes several.
        shown = 1 / float(np.median(np.diff(index.times[index.order])) * tick)
        return shown if shown < 0.6 * rate else rate
    return rate


def _timeline(index: PacketIndex) -> Timeline | None:
    """The times of the frames if they are even, and the file can be read by seeking."""
    if not _is_whole(index):
        return None
    step = _step(index.times)
    return Timeline(int(index.times.min()), step) if step else None


def _is_whole(index: PacketIndex) -> bool:
    """Whether each packet is a frame, and nothing is cut off at either end."""
    return not (index.broken or index.ragged or len(index.order) < index.count)


def _step(times: NDArray[np.int64]) -> float:
    """Ticks from one of the times to the next; 0 where they are uneven."""
    times = np.sort(times)
    numbers = np.arange(len(times))
    step = float(times[-1] - times[0]) / max(1, len(times) - 1) or 1.0
    # Further off its place, in frames, one might be taken for its neighbour.
    return step if np.abs((times - times[0]) / step - numbers).max() <= 0.4 else 0.0


def _decode_ms(
    path: Path, context: VideoCodecContext, index: PacketIndex, key_interval: int
) -> tuple[float, bool]:
    """CPU ms a frame, from the first 8 of the last group; 0 if they do not decode alone. The
    keyframe, which takes longer, counts as often as there are keyframes. And whether these came in
    the order of their times."""
    first, seconds = int(index.keys[-1]), []
    last = min(first + 8, index.count) - 1
    times: list[int] = []
    try:
        context.flush_buffers()
        context.skip_frame = "DEFAULT"
        for packet in (*packets_between(path, index, first, last), None):
            start = time.process_time()
            frames = context.decode(packet)
            if packet is not None:
                seconds.append(time.process_time() - start)
            times += [frame.pts for frame in frames if frame.pts is not None]
    except FAULTS:  # of frames that lean on the group before; what matters is checked elsewhere
        pass
    rising = times == sorted(times)
    if not seconds:
        return 0.0, rising
    others = seconds[1:] or seconds
    mean = (seconds[0] + (key_interval - 1) * sum(others) / len(others)) / key_interval
    return round(1000 * mean, 3), rising


def _sorts(index: PacketIndex, reorder_depth: int) -> bool:
    """Whether a decoder that holds back so many frames could bring the packets into the order of
    their times."""
    ranks = np.argsort(np.argsort(index.times))
    return bool((np.arange(index.count) - ranks).max() <= reorder_depth)


def _presented_ranks(
    path: Path, index: PacketIndex
) -> tuple[list[int], list[int | None], int]:
    """Of each frame, in the order in which a decode of everything gives them, the place that its
    packet's time has among all, -1 for what has no such place; their own times; and the number of
    damaged ones at the end.

    Where damage is met the order is that of a decode that overlooks it: whoever reads a damaged
    frame is told then. Raises DecodeError where that is no order of all frames.
    """
    shown = index.times[index.order].tolist()
    places: dict[int | None, int] = {time: place for place, time in enumerate(shown)}
    try:
        times, _, lost = _decode_everything(path, index)
    except DecodeError:
        times, _, lost = _decode_everything(path, index, strict=False)
        if sorted(places.get(time, -1) for time in times) != list(range(len(places))):
            raise
    return [places.get(time, -1) for time in times], times, lost


def _decode_and_count(
    path: Path, index: PacketIndex
) -> tuple[list[int | None], bool, av.VideoFrame, int]:
    """The frames' times in ticks, whether they come in the order of the packets' times, the first
    frame, and the number of damaged ones at the end."""
    times, first, lost = _decode_everything(path, index)
    if first is None:
        raise DecodeError(path, "no frame can be decoded")
    return times, times == index.times[index.order].tolist(), first, lost


def _decode_everything(
    path: Path, index: PacketIndex, strict: bool = True
) -> tuple[list[int | None], av.VideoFrame | None, int]:
    """The times of all frames, the first of them, and the number of damaged ones at the end."""
    first: av.VideoFrame | None = None
    times: list[int | None] = []
    decoding = decode_all(path, index, strict)
    while True:
        try:
            frame = next(decoding)
        except StopIteration as end:
            return times, first, end.value
        first = first or frame
        times.append(frame.pts)


def _plain_order(index: PacketIndex) -> bool:
    """Whether Decord, which seeks by the rank of keyframes in the file, lands on the right ones.

    Nothing left out or hidden by an edit list, every keyframe's rank by time is its rank in the
    file, and none is to be decoded before the last one is shown: mp4 is sought in by the times of
    decoding. On 46 files this told the ones in which Decord is right from the others.
    """
    if index.before or index.broken or index.ahead or len(index.order) < index.count:
        return False
    ranks = np.empty(index.count, np.int64)
    ranks[index.order] = np.arange(index.count)
    return bool((ranks[index.keys] == index.keys).all())


def probe_or_reason(path: Path, image_fps: float | None = None) -> dict[str, Any] | str:
    """The fields of VideoInfo, or why the file cannot be read: what a probing process answers."""
    try:
        return asdict(probe_file(path, image_fps))
    except DecodeError as error:
        return error.reason
