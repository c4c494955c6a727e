"""The frames of a video file by its packets, through PyAV: exact, and strict about damage."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.stream import VideoStream
from numpy.typing import NDArray

from slowfast_dist.video.container import FAULTS, DecodeError, message, open_video

KEEP_BYTES = 128 * 1024**2
"""Compressed bytes held while a clip is read; a larger file is read a second time instead."""

BLANK_BYTES = 64
"""A packet that begins with so many zeros is none: no codec has such a header."""

SKIPPABLE = frozenset({"h264", "hevc", "mpeg4", "vp9"})
"""Codecs whose non-reference frames may be left undecoded without a change to the others."""


@dataclass(frozen=True)
class PacketIndex:
    """The packets of a video stream in file order, from the first keyframe to the last whole one.

    Sorted by presentation time they are the frames: exact wherever the times are all there and all
    different, without decoding (on 46 files of every common kind, against a full decode).
    """

    times: NDArray[np.int64]
    """Presentation times of the packets; empty where some are missing or equal."""
    keys: NDArray[np.int64]
    """Positions of the keyframes."""
    order: NDArray[np.int64]
    """Frame number -> position of its packet. Those that an edit list hides have none, nor have
    those shown before the first keyframe, which lean on what came before the file began."""
    count: int
    """Packets."""
    false_keys: bool
    """Whether the file calls packets keyframes that lean on others."""
    dropped: int
    """Packets before the first keyframe and broken ones at the end, left out."""
    ragged: bool
    """Whether it begins in the middle of something, so that its first group may not be whole."""
    kept: list[av.Packet] | None
    """The packets themselves, if not too large."""


def _stands_alone(context: VideoCodecContext, packet: av.Packet) -> bool:
    """Whether the packet's picture needs no other one."""
    reorder_depth = context.reorder_depth
    try:
        frames = [*context.decode(packet), *context.decode(None)]
    except FAULTS:
        return False
    finally:
        context.flush_buffers()
        context.reorder_depth = reorder_depth  # FFmpeg may forget it
    return bool(frames) and (frames[0].key_frame or frames[0].pict_type == PictureType.I)


def index_packets(path: Path, container: InputContainer, stream: VideoStream) -> PacketIndex:
    """Read all packets of the stream, decoding none. Raises DecodeError if there is no frame."""
    kept: list[av.Packet] | None = []
    found: list[tuple[int | None, bool, bool, bool]] = []
    second: av.Packet | None = None
    read, before, size = 0, 0, 0
    for packet in container.demux(stream):
        if not packet.size:
            continue  # the mark of the end
        read += 1
        if not found and not packet.is_keyframe:
            before += 1
            continue
        if len(found) == 1:
            second = packet
        broken = packet.is_corrupt or not any(memoryview(packet)[:BLANK_BYTES])
        found.append((packet.pts, packet.is_keyframe, packet.is_discard, broken))
        size += packet.size
        if kept is not None:
            kept.append(packet)
            kept = kept if size <= KEEP_BYTES else None
    while found and found[-1][3]:
        found.pop()  # the packet in which a file ends that was truncated or not filled to the end
    if not found:
        if before < read:
            raise DecodeError(path, "all its packets are broken or blank: a download cut off?")
        why = "none of its packets is a keyframe" if read else "it holds no video packet"
        raise DecodeError(path, f"{why}: cut off, or cut out of a longer one?")
    keys = np.array([key for _, key, _, _ in found])
    # An mp4 without a list of keyframes calls all packets that, and not every decoder minds.
    false_keys = bool(keys.all() and second and not _stands_alone(stream.codec_context, second))
    if false_keys:
        keys[1:] = False
    given = [time for time, *_ in found if time is not None]
    usable = len(set(given)) == len(found)
    times = np.array(given if usable else [], np.int64)
    hidden = np.array([discard for _, _, discard, _ in found])
    leading = times < times[0] if usable else np.zeros(len(found), bool)
    visible = np.flatnonzero(~hidden & ~leading)
    return PacketIndex(
        times=times,
        keys=np.flatnonzero(keys),
        order=visible[np.argsort(times[visible])] if usable else np.empty(0, np.int64),
        count=len(found),
        false_keys=false_keys,
        dropped=read - len(found),
        ragged=before > 0 or bool(hidden[0]) or bool(leading.any()),
        kept=kept if kept is None else kept[: len(found)],
    )


def _packets(
    path: Path, index: PacketIndex, first: int, last: int, since: int | None = None
) -> Iterator[av.Packet]:
    """Packets ``first`` (a keyframe) to ``last`` (inclusive), but none shown before ``since``.

    What precedes a keyframe in time but follows it in the file (open GOP) needs the group before.
    """
    for packet in packets_between(path, index, first, last):
        if since is None or packet.pts is None or packet.pts >= since:
            yield packet


def packets_between(path: Path, index: PacketIndex, first: int, last: int) -> Iterator[av.Packet]:
    """Packets ``first`` (a keyframe) to ``last`` (inclusive) of the stream, in file order."""
    if index.kept is not None:
        yield from index.kept[first : last + 1]
        return
    positions = {int(time): position for position, time in enumerate(index.times)}
    with open_video(path) as (container, stream):
        if first:
            container.seek(int(index.times[first]), stream=stream)
        position = -1
        for packet in container.demux(stream):
            if not packet.size or (position < 0 and not packet.is_keyframe):
                continue
            if first and packet.pts is not None:
                position = positions.get(packet.pts, position)
            else:
                position += 1
            if position > last:
                return
            if position >= first:
                yield packet


# --- frames --------------------------------------------------------------------------------------


def decode_frames(
    path: Path, context: VideoCodecContext, index: PacketIndex, wanted: Sequence[int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """The frames ``wanted`` (numbers, each once) by their packets' times, in any order.

    Raises DecodeError at the first that does not decode whole.
    """
    total = len(index.order)
    for numbers, first, last in _segments(index, wanted):
        missing = {int(index.times[index.order[number]]): number for number in numbers}
        skip = context.codec.canonical_name in SKIPPABLE
        packets = _packets(path, index, first, last, int(index.times[first]))
        problem = yield from _decode_segment(context, packets, missing, skip)
        earlier = index.keys[index.keys < first]
        for start in dict.fromkeys([int(earlier[-1]) if len(earlier) else 0, 0]):
            if missing:  # a frame may lean on what lies before its keyframe
                packets = _packets(path, index, start, last)
                problem = yield from _decode_segment(context, packets, missing, skip=False)
        if missing and index.ragged:  # references to what was cut away: faults that do no harm
            with open_video(path, strict=False) as (_, stream):
                packets = _packets(path, index, 0, last)
                yield from _decode_segment(stream.codec_context, packets, missing, skip=False)
        if missing:
            at = f"decoding failed at frame {min(missing.values()) + 1} of {total}"
            raise DecodeError(path, f"{at}: {problem}")


def _segments(index: PacketIndex, wanted: Sequence[int]) -> list[tuple[list[int], int, int]]:
    """(frames, first, last): runs of packets, each from a keyframe on, that decode the frames."""
    runs: list[tuple[int, int, int]] = []
    for number in wanted:
        last = int(index.order[number])
        keys = index.keys[: np.searchsorted(index.keys, last, side="right")]
        # In an open GOP a frame may follow a keyframe in the file that it precedes in time.
        before = keys[index.times[keys] <= index.times[last]]
        runs.append((int(before[-1]) if len(before) else 0, last, number))
    segments: list[tuple[list[int], int, int]] = []
    for first, last, number in sorted(runs):
        if segments and first <= segments[-1][2] + 1:
            numbers, start, end = segments[-1]
            segments[-1] = ([*numbers, number], start, max(end, last))
        else:
            segments.append(([number], first, last))
    return segments


def _decode_segment(
    context: VideoCodecContext, packets: Iterator[av.Packet], missing: dict[int, int], skip: bool
) -> Generator[tuple[int, av.VideoFrame], None, str]:
    """Yield the whole frames among those ``missing`` (time -> number), and take them out of it.

    Returns why it ended before all were found.
    """
    try:
        for frame in _feed(context, packets, set(missing) if skip else None):
            if frame.pts in missing and not frame.is_corrupt:
                yield missing.pop(frame.pts), frame
            if not missing:
                return ""
    except FAULTS as error:
        return message(error)
    return "damaged or missing"


def decode_all(path: Path, index: PacketIndex) -> Iterator[av.VideoFrame]:
    """All frames as they come out of the decoder. Raises DecodeError at damage."""
    done = 0
    since = int(index.times[0]) if len(index.times) else None
    packets = _packets(path, index, 0, index.count - 1, since)
    with open_video(path, strict=not index.ragged) as (_, stream):
        try:
            for frame in _feed(stream.codec_context, packets):
                if frame.is_corrupt:
                    raise ValueError("damaged")
                yield frame
                done += 1
        except FAULTS as error:
            at = f"decoding failed at frame {done + 1}"
            raise DecodeError(path, f"{at}: {message(error)}") from error


def _feed(
    context: VideoCodecContext, packets: Iterator[av.Packet], wanted: set[int] | None = None
) -> Iterator[av.VideoFrame]:
    """Decode from a fresh start to the last drop; with ``wanted`` times, as little as possible."""
    if context.is_open:
        context.flush_buffers()
    context.skip_frame = "DEFAULT"
    for packet in packets:
        if wanted is not None:
            context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        yield from context.decode(packet)
    yield from context.decode(None)
