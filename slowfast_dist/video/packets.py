"""The frames of a video file by its packets, through PyAV: exact, and strict about damage."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.stream import VideoStream
from numpy.typing import NDArray

from slowfast_dist.video.container import (
    ENCRYPTED,
    FAULTS,
    DecodeError,
    message,
    open_video,
)

KEEP_BYTES = 128 * 1024**2
"""Compressed bytes held while a clip is read; a larger file is read a second time instead."""

STATE_SIDE_DATA: tuple[Literal["palette", "new_extradata", "param_change"], ...] = (
    "palette", "new_extradata", "param_change",
)  # fmt: skip
"""Side data of a packet that changes the decoder for all packets behind it."""

NEVER_BLANK = frozenset({
    "av1", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "prores", "vp8", "vp9",
    "vvc",
})  # fmt: skip
"""Codecs no packet of which begins with BLANK_BYTES zeros, as a black picture that is not
compressed does."""

BLANK_BYTES = 64
"""Zeros at the beginning of a packet by which it counts as never written: more than any header."""

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
    ahead: bool
    """Whether a keyframe is to be decoded no later than the one before it is shown."""
    order: NDArray[np.int64]
    """Frame number -> position of its packet. Those that an edit list hides have none, nor have
    those in ``undecodable``."""
    states: NDArray[np.int64]
    """Positions of the packets with STATE_SIDE_DATA, without which what follows is decoded wrong:
    the palette of a video of 8 bits a pixel travels with its first packet alone."""
    undecodable: frozenset[int]
    """Times of packets shown before the first keyframe that lean on what came before the file
    began. Others there decode (HEVC's RADL pictures, as in segments of a stream) and are frames."""
    count: int
    """Packets."""
    false_keys: bool
    """Whether the file calls packets keyframes that lean on others."""
    before: int
    """Packets before the first keyframe, left out."""
    broken: int
    """Packets at the end that are cut off or blank, left out."""
    ragged: bool
    """Whether it begins in the middle of something, so that its first group may not be whole."""
    kept: list[av.Packet] | None
    """The packets themselves, if not too large."""
    times_tell: bool = True
    """Whether the frames are shown in the order of their times; if not, ``order`` is the right one
    all the same, and nothing else is to be concluded from the times."""


def _stands_alone(
    context: VideoCodecContext, packet: av.Packet, first_of_file: bool = False
) -> bool:
    """Whether the packet's picture needs no other one."""
    reorder_depth = context.reorder_depth
    try:
        frames = [*context.decode(packet), *context.decode(None)]
    except FAULTS:
        return False
    finally:
        context.flush_buffers()
        context.reorder_depth = reorder_depth  # FFmpeg may forget it
    if not frames:
        return False
    untold = first_of_file and frames[0].pict_type == PictureType.NONE  # as CineForm leaves it
    return frames[0].key_frame or frames[0].pict_type == PictureType.I or untold


def _undecodable(
    context: VideoCodecContext, packets: Iterable[av.Packet], leading: set[int]
) -> frozenset[int]:
    """The times among ``leading`` of which no whole picture comes out of ``packets``, decoded
    strictly from a fresh start."""
    decoded: set[int] = set()
    reorder_depth = context.reorder_depth
    for packet in (*packets, None):
        try:
            for frame in context.decode(packet):
                if frame.pts is not None and not frame.is_corrupt:
                    decoded.add(frame.pts)
        except FAULTS:  # one picture less; the next may be whole
            continue
    context.flush_buffers()
    context.reorder_depth = reorder_depth  # FFmpeg may forget it
    return frozenset(leading - decoded)


@dataclass
class _Scan:
    """What the packets of a stream say, from the first keyframe to the last whole one."""

    times: list[int | None] = field(default_factory=list)
    keys: list[bool] = field(default_factory=list)
    hidden: list[bool] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    key_dts: list[int | None] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    start: list[av.Packet] = field(default_factory=list)
    """To the second keyframe, or KEEP_BYTES: among them are all leading pictures."""
    second: av.Packet | None = None
    kept: list[av.Packet] | None = field(default_factory=list)
    before: int = 0
    broken: int = 0


def _demux(container: InputContainer, stream: VideoStream) -> Generator[av.Packet, None, bool]:
    """The packets of the stream. Returns whether the file ends in what is none: there, as for the
    ffmpeg program, is its end."""
    try:
        for packet in container.demux(stream):
            if packet.size:  # not the mark of the end
                yield packet
    except av.PermissionError:  # how FFmpeg's GXF ends
        return False
    except FAULTS:
        return True
    return False


def _scan(container: InputContainer, stream: VideoStream) -> _Scan:
    scan, context, size = _Scan(), stream.codec_context, 0
    may_be_blank = context.codec.canonical_name in NEVER_BLANK
    packets = _demux(container, stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration as end:
            scan.broken += end.value
            break
        if packet.has_sidedata("encryption_info"):
            raise ValueError(ENCRYPTED)
        is_key, count = packet.is_keyframe, len(scan.times)
        if not count and not is_key:
            # Some containers (WTV, SWF) mark no keyframe of codecs that FFmpeg does not parse.
            is_key = _stands_alone(context, packet, first_of_file=not scan.before)
            if not is_key:
                scan.before += 1
                continue
        if count == 1:
            scan.second = packet
        # A leading picture comes soon after the keyframe: of a long group the rest is not held.
        if len(scan.start) == count and not (count and is_key) and size <= KEEP_BYTES:
            scan.start.append(packet)
        if any(packet.has_sidedata(kind) for kind in STATE_SIDE_DATA):
            scan.states.append(count)
        if is_key:
            scan.key_dts.append(packet.dts)
        blank = may_be_blank and not any(memoryview(packet)[:BLANK_BYTES])
        scan.times.append(packet.pts)
        scan.keys.append(is_key)
        scan.hidden.append(packet.is_discard)
        scan.whole.append(not packet.is_corrupt and not blank)
        size += packet.size
        if scan.kept is not None:
            scan.kept.append(packet)
            scan.kept = scan.kept if size <= KEEP_BYTES else None
    # What is truncated, or was never written, is no packet at the end of a file that was cut off.
    count = max((place + 1 for place, whole in enumerate(scan.whole) if whole), default=0)
    scan.broken += len(scan.times) - count
    for column in (scan.times, scan.keys, scan.hidden, scan.whole, scan.kept or []):
        del column[count:]
    return scan


def index_packets(path: Path, container: InputContainer, stream: VideoStream) -> PacketIndex:
    """Read all packets of the stream; decoded are only those around an open beginning. Raises
    DecodeError if there is no frame."""
    scan = _scan(container, stream)
    count = len(scan.times)
    if not count:
        if scan.broken:
            raise DecodeError(path, "all its packets are broken or blank: a download cut off?")
        why = "none of its packets is a keyframe" if scan.before else "it holds no video packet"
        raise DecodeError(path, f"{why}: cut off, or cut out of a longer one?")
    keys, second = np.array(scan.keys), scan.second
    # An mp4 without a list of keyframes calls all packets that, and not every decoder minds.
    false_keys = bool(keys.all() and second and not _stands_alone(stream.codec_context, second))
    if false_keys:
        keys[1:] = False
    shown = [time for time, key in zip(scan.times, scan.keys, strict=True) if key][:-1]
    ahead = any(
        pts is None or dts is None or dts <= pts
        for pts, dts in zip(shown, scan.key_dts[1:], strict=False)
    )
    given = [time for time in scan.times if time is not None]
    usable = len(set(given)) == count
    times = np.array(given if usable else [], np.int64)
    hidden = np.array(scan.hidden)
    leading = times < times[0] if usable else np.zeros(count, bool)
    undecodable: frozenset[int] = frozenset()
    if leading.any():
        early = set(times[leading].tolist())
        undecodable = _undecodable(stream.codec_context, scan.start, early)
    visible = np.flatnonzero(~hidden & ~np.isin(times, list(undecodable)) if usable else ~hidden)
    return PacketIndex(
        times=times, keys=np.flatnonzero(keys), ahead=ahead,
        order=visible[np.argsort(times[visible])] if usable else np.empty(0, np.int64),
        states=np.array(scan.states, np.int64), undecodable=undecodable, count=count,
        false_keys=false_keys, before=scan.before, broken=scan.broken,
        ragged=scan.before > 0 or bool(hidden[0]) or bool(leading.any()), kept=scan.kept,
    )  # fmt: skip


def _packets(
    path: Path, index: PacketIndex, first: int, last: int, since: int | None = None
) -> Iterator[av.Packet]:
    """Packets ``first`` (a keyframe) to ``last`` (inclusive), but none shown before ``since``; in
    front of them the one that brought the decoder into the state that they need.

    What precedes a keyframe in time but follows it in the file (open GOP) needs the group before.
    """
    states = index.states[index.states < first]
    if len(states) and first not in index.states:
        yield from packets_between(path, index, int(states[-1]), int(states[-1]))
    for packet in packets_between(path, index, first, last):
        if packet.pts is None or (
            (since is None or packet.pts >= since) and packet.pts not in index.undecodable
        ):
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
        position = -1 if first else -1 - index.before
        for packet in _demux(container, stream):
            if first and position < 0 and not packet.is_keyframe:
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
    """The frames ``wanted`` (numbers, each once) by their packets' times, in any order. Raises
    DecodeError at the first that does not decode whole."""
    total = len(index.order)
    for numbers, first, last in _segments(index, wanted):
        missing = {int(index.times[index.order[number]]): number for number in numbers}
        skip = context.codec.canonical_name in SKIPPABLE
        # Pictures that lead the file's first keyframe need nothing before it.
        since = int(index.times[first]) if first and index.times_tell else None
        packets = _packets(path, index, first, last, since)
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
        before = keys[index.times[keys] <= index.times[last]] if index.times_tell else keys
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
    Returns why it ended before all were found."""
    try:
        for frame in _feed(context, packets, set(missing) if skip else None):
            if frame.pts in missing and not frame.is_corrupt:
                yield missing.pop(frame.pts), frame
            if not missing:
                return ""
    except FAULTS as error:
        return message(error)
    return "damaged or missing"


def decode_all(
    path: Path, index: PacketIndex, strict: bool = True
) -> Generator[av.VideoFrame, None, int]:
    """All frames as they come out of the decoder, without a last picture that is damaged: there a
    recording was cut off. Returns the number of such pictures. Raises DecodeError at any other
    damage, unless it is not ``strict``."""
    done = 0
    for packets in (index.count, index.count - 1):
        read = 0

        def counted(packets: int = packets) -> Iterator[av.Packet]:
            nonlocal read
            for packet in _packets(path, index, 0, packets - 1):
                read += 1
                yield packet

        with open_video(path, strict=strict and not index.ragged) as (_, stream):
            try:
                for number, frame in enumerate(_feed(stream.codec_context, counted())):
                    if frame.is_corrupt and strict:
                        raise ValueError("damaged")
                    if number >= done:
                        yield frame
                        done += 1
                return index.count - packets
            except FAULTS as error:
                # The decoder may hold whole pictures, and the damaged one: again, without its data.
                only_the_last = done and read == index.count - len(index.undecodable)
                if packets < index.count or not only_the_last:
                    at = f"decoding failed at frame {done + 1}"
                    raise DecodeError(path, f"{at}: {message(error)}") from error
    return 1


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
