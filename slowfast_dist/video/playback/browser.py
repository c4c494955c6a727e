"""One video as any browser plays it: the file itself where that can be, else a copy of a part.

Frame n is shown at the same time in both, in seconds from the video's first frame: the time by
which a segment of an annotation file finds its frames (`VideoInfo.times`). Browsers count from the
beginning of the file, with its sound, and each treats edit lists in its own way: so a file plays
itself only where it holds nothing of the kind.
"""

from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from slowfast_dist.video.container import DecodeError, open_video
from slowfast_dist.video.ordered_reader import frame_times, open_in_order
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.transcode import FrameResizer, prepared_size
from slowfast_dist.video.writer import VideoWriter, WriteError

WHOLE_SECONDS = 60.0
"""Length up to which all of a video is copied: on one CPU that takes seconds."""

AROUND_SECONDS = 5.0
"""What a copy of a part of a longer video holds before that part and behind it, in which its ends
can be moved."""

MOST_SECONDS = 90.0
"""Longest copy, from its beginning on: further on in the video another one is made."""

SHORT_SIDE = 480
"""Pixels of a copy's short side, or of the video's own where that is smaller."""

TICKS = 90_000
"""Ticks a second of a copy's times: MPEG's clock, within 6 us of any time."""

ENCODER = {"preset": "ultrafast", "crf": "24", "bf": "0", "flags": "+frame_duration"}
"""Options of x264: three times as fast as veryfast. Without B-frames the file has no edit list."""

KEY_INTERVAL = 12
"""Frames from one keyframe of a copy to the next: a step back decodes no more than these."""

PLAYED = {"h264", "vp9"}
"""Codecs that all browsers play, of 8 bits and 4:2:0."""


def played_as(path: Path, info: VideoInfo) -> str | None:
    """The media type under which browsers play the file itself, frame n at its own time; None
    where one might not. Raises DecodeError."""
    if not info.decord_exact or info.codec not in PLAYED or info.lost:
        return None
    with open_video(path) as (container, stream):
        formats = container.format.name.split(",")
        starts = [one.start_time for one in container.streams]
        if stream.start_time != 0 or any(start is not None and start < 0 for start in starts):
            return None
        if stream.codec_context.pix_fmt not in ("yuv420p", "yuvj420p"):
            return None
        if "mp4" in formats and container.metadata.get("major_brand", "").strip() != "qt":
            return "video/mp4"
        # Of Matroska only WebM's part is played, and FFmpeg calls both the same.
        return "video/webm" if info.codec == "vp9" and path.suffix.lower() == ".webm" else None


def part_around(info: VideoInfo, start: float, end: float) -> range:
    """The frames that are copied of a video for its part from ``start`` to ``end``, in seconds."""
    times = frame_times(info)
    if times.end <= WHOLE_SECONDS:
        return range(info.frames)
    begin = max(0.0, start - AROUND_SECONDS)
    until = min(end + AROUND_SECONDS, begin + MOST_SECONDS)
    first = max(0, int(np.searchsorted(times.starts, begin, "right")) - 1)
    behind = int(np.searchsorted(times.starts, until, "left"))
    return range(first, max(first + 1, behind))


def write_copy(path: Path, info: VideoInfo, part: range, target: Path) -> None:
    """Write the frames ``part`` to ``target``, an mp4 of H.264, each at its own time from that of
    the first of them on. Raises DecodeError, WriteError."""
    size = prepared_size(info.width * info.pixel_aspect, info.height, SHORT_SIDE)
    options = {**ENCODER, "g": str(KEY_INTERVAL)}
    with open_in_order(path, info) as frames:
        starts = [*frames.times.starts.tolist(), frames.times.end]
        ticks = [round((time - starts[part.start]) * TICKS) for time in starts]
        resizer = FrameResizer(frames, info, size)
        with VideoWriter(
            target, size[1], size[0], frames.rate, options=options, time_base=Fraction(1, TICKS),
        ) as writer:  # fmt: skip
            for number, _, frame in frames.read(part):
                small = resizer.of(frame)
                small.pts = ticks[number]
                small.duration = max(1, ticks[number + 1] - ticks[number])
                writer.write_frame(small)


def playable_or_reason(
    path: Path, target: str, start: float | None, end: float | None, as_it_is: bool,
    image_fps: float | None = None,
) -> dict[str, Any] | str:  # fmt: skip
    """VideoInfo's fields as "info"; "type", the media type where the file itself plays; else the
    frames from "first" to before "behind" are in ``target``: those around ``start`` and ``end``
    (None: the video's). The reason (a str) where it cannot be read.

    ``as_it_is``: whether the file itself may do: a browser may have shown that it does not.
    """
    try:
        info = probe_file(path, image_fps)
        kind = played_as(path, info) if as_it_is and path.is_file() else None
        if kind is not None:
            return {"info": asdict(info), "type": kind}
        whole = frame_times(info)
        begin = 0.0 if start is None else start
        part = part_around(info, begin, whole.end if end is None else end)
        write_copy(path, info, part, Path(target))
        return {"info": asdict(info), "first": part.start, "behind": part.stop}
    except DecodeError as error:
        return error.reason
    except WriteError as error:
        return f"no copy that a browser plays can be made ({error})"
