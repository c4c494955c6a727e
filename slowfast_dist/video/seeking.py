"""The frames of a video whose times are even, by seeking: its packets are not all read.

Of such a video the probe remembers the time of the first frame and the time between two. From these
follows which frame each packet holds, so only those that lead to the wanted frames are read.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import av
from av.container import InputContainer
from av.stream import Discard
from av.video.stream import VideoStream

from slowfast_dist.video.container import FAULTS
from slowfast_dist.video.packets import KEEP_BYTES, SKIPPABLE


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


def seek_frames(
    container: InputContainer,
    stream: VideoStream,
    timeline: Timeline,
    longest_group: int,
    wanted: Iterable[int],
) -> Iterator[tuple[int, av.VideoFrame]]:
    """The frames ``wanted`` (numbers, each once) with their numbers, in any order.

    ``longest_group``: most frames from one keyframe to the next. It ends early at damage and at
    whatever the timeline does not explain: the caller needs the index of all packets for the rest.
    """
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all  # sound is not even read
    missing = set(wanted)
    context = stream.codec_context
    reorder_depth = context.reorder_depth
    may_skip = context.codec.canonical_name in SKIPPABLE
    targets = frozenset(missing)
    try:
        skips = False
        for number, packet in _needed_packets(container, stream, timeline, longest_group, targets):
            if packet is None:
                frames = context.decode(None)
                context.flush_buffers()
                context.reorder_depth = reorder_depth  # FFmpeg may forget it, and then lose frames
            else:
                if skips != (may_skip and number not in targets):
                    skips = not skips
                    context.skip_frame = "NONREF" if skips else "DEFAULT"
                frames = context.decode(packet)
            for frame in frames:
                shown = -1 if frame.pts is None else timeline.number(frame.pts)
                if shown in missing and not frame.is_corrupt:
                    missing.remove(shown)
                    yield shown, frame
            if not missing:
                return
    except FAULTS:
        return


def _needed_packets(
    container: InputContainer,
    stream: VideoStream,
    timeline: Timeline,
    longest_group: int,
    wanted: Iterable[int],
) -> Iterator[tuple[int, av.Packet | None]]:
    """Packets to decode for the frames ``wanted``, with the number of the frame in each; None where
    the decoder begins afresh, and at the end.

    From a keyframe on packets are held back until one is wanted: a group without any is not
    decoded. A group too far away to be read through is sought.
    """
    unread = set(wanted)
    may_seek, reached, back = True, -1, 0
    while True:
        container.seek(timeline.seek_time(max(0, min(unread) - back)), stream=stream)
        held: list[tuple[int, av.Packet]] | None = []  # of this group; None once it is decoded
        held_bytes, begun, follows, origin = 0, False, True, 0
        for packet in container.demux(stream):
            if not packet.size:
                continue  # the mark of the end
            if packet.pts is None:
                return
            number = timeline.number(packet.pts)
            # In an open group, what follows the keyframe in the file may precede it in time, and
            # leans on the group before, which then is not over.
            if packet.is_keyframe and number <= (soonest := min(unread)):
                if begun and may_seek and soonest - number > 2 * longest_group:
                    break
                may_seek = may_seek and number > reached  # a later index may not be known yet
                follows = begun and held is None
                begun, reached, held, held_bytes = True, number, [], 0
            elif not begun:
                if not packet.is_keyframe:
                    continue
                if back:
                    return
                # It was sought by the time of decoding, which is earlier than that of showing.
                back = stream.codec_context.reorder_depth + 1
                break
            if held is not None:
                held.append((number, packet))
                held_bytes += packet.size
                if number not in unread and held_bytes <= KEEP_BYTES:
                    continue
                if not follows:
                    yield -1, None
                    origin = reached
                ready, held = held, None
            else:
                ready = [(number, packet)]
            for shown, one in ready:
                unread.discard(shown)
                if shown >= origin:  # else it leans on what was not decoded
                    yield shown, one
            if not unread:
                break
        else:
            unread.clear()  # the end of the file
        yield -1, None
        if not unread:
            return
