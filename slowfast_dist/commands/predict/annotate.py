"""Copy a video with the class, its probability and the time drawn into the picture."""

import os
import queue
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from slowfast_dist.config.errors import RunError
from slowfast_dist.inference.drawing.text import (
    draw_text,
    ellipsized,
    format_time,
    printable,
    text_width,
)
from slowfast_dist.inference.drawing.timeline import Palette
from slowfast_dist.inference.segments import SegmentedVideo
from slowfast_dist.system.child import Channel, Ended, Message, StreamProcess
from slowfast_dist.system.files import sync_folder, with_path
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.conversion.converter import ViewConverter
from slowfast_dist.video.guarded_reader import DECODE_SECONDS
from slowfast_dist.video.ordered_reader import BYTES_PER_SECOND, next_message, open_in_order
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.views import square_pixels
from slowfast_dist.video.writer import Sound, VideoWriter, WriteError, can_hold

SegmentCaption = tuple[float, str, str, list[float]]
"""Of a segment: its end in seconds, label, colour, and the label's probability at the moments, a
whole number of steps each, within."""

CAPTION_SECONDS = 0.1
"""Seconds from one change of the probability that is shown to the next: as fast as one can read."""

MAX_CAPTIONS = 100_000
"""Such changes in a whole video, at most: a few megabytes to hand to the process that draws; they
are 0.1 s apart up to almost 3 hours."""

MIN_WIDTH, MIN_HEIGHT = 160, 96
"""Pixels: smaller pictures are enlarged by a whole number, or nothing could be read in them."""

SHADE = 0.3
"""Fraction of the picture's brightness that is left under the text: white letters stay readable on
a white wall, and what happens behind them can still be seen."""


def annotate(
    path: Path,
    info: VideoInfo,
    target: Path,
    video: SegmentedVideo,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> str | None:
    """Write the copy, an mp4, atomically; in a process of its own, as the decoder may hang.

    Every frame at its own time, upright, in square pixels, in its own size but for what
    `VideoWriter` and MIN_WIDTH say; the sound is copied. Returns what became of the sound where it
    was not. Raises DecodeError for the video, RunError where the copy cannot be written.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    duration = video.scores.duration
    step = max(CAPTION_SECONDS, duration / MAX_CAPTIONS)
    captions = _captions(video, np.arange(0.0, duration + step, step))
    request = {
        "path": str(path), "part": str(part), "info": asdict(info), "step": step,
        "captions": captions,
    }  # fmt: skip
    messages: queue.Queue[Message | Ended] = queue.Queue()
    limit = DECODE_SECONDS + info.file_size / BYTES_PER_SECOND
    try:
        with StreamProcess(serve_annotate, request, messages.put):
            while True:
                header = next_message(messages, path, limit, lambda: None).header
                if "write_error" in header:
                    raise RunError(f"{target}: cannot be written ({header['write_error']})")
                if "done" in header:
                    break
                on_progress((header["number"] + 1) / info.frames)
        try:
            os.replace(part, target)
            sync_folder(target.parent)
        except OSError as error:
            raise with_path(error, target) from error
    finally:
        part.unlink(missing_ok=True)
    sound: str | None = header["done"]
    return sound


def _captions(video: SegmentedVideo, moments: NDArray[np.float64]) -> list[SegmentCaption]:
    palette, segments = Palette(list(video.seconds())), video.segments
    ends = [segment.end for segment in segments]
    places = np.minimum(np.searchsorted(ends, moments, side="right"), len(segments) - 1)
    captions = []
    for number, segment in enumerate(segments):
        chances = video.curves([segment.label], moments[places == number])[:, 0]
        values = np.round(chances, 3).tolist() or [round(segment.probability, 3)]
        captions.append((segment.end, segment.label, palette.colour(segment.label), values))
    return captions


# --- in the process ------------------------------------------------------------------------------


def _caption_at(time: float, captions: list[SegmentCaption], step: float) -> tuple[str, str, float]:
    """Label, colour and probability."""
    number = min(bisect_right(captions, time, key=itemgetter(0)), len(captions) - 1)
    start = captions[number - 1][0] if number else 0.0
    _, label, colour, values = captions[number]
    # The first of the moments at or after the segment's start.
    first = int(np.ceil(start / step - 1e-9))
    place = int(time / step + 1e-9) - first
    return label, colour, values[max(0, min(place, len(values) - 1))]


def serve_annotate(line: Channel, request: dict[str, Any]) -> None:
    """What the process runs."""
    try:
        line.send({"done": _write_copy(line, request)})
    except DecodeError as error:
        line.send({"unreadable": error.reason})
    except WriteError as error:
        line.send({"write_error": str(error)})


def _write_copy(line: Channel, request: dict[str, Any]) -> str | None:
    path, part, info = Path(request["path"]), Path(request["part"]), VideoInfo(**request["info"])
    factor = max(1, -(-MIN_WIDTH // info.shown_width), -(-MIN_HEIGHT // info.height))
    height, width = info.height * factor, info.shown_width * factor
    converter = ViewConverter(info.height, info.width, info.rotation, None, info.mirrored)
    rgb = np.empty((info.height, info.width, 3), np.uint8)
    overlay = CaptionOverlay(height, width)
    with Sound(path) as sound, open_in_order(path, info) as frames:
        times = frames.times
        lengths = np.append(times.starts[1:], times.end) - times.starts
        copied = sound if sound.stream is not None and can_hold(sound.stream) else None
        fps = info.fps or 25.0
        with VideoWriter(part, height, width, fps, copied) as writer:
            for number, time, frame in frames.read(range(info.frames)):
                converter.write(frame, rgb)
                large = square_pixels(rgb, info.shown_width)
                large = large.repeat(factor, axis=0).repeat(factor, axis=1)
                if number == 0 and frame.time is not None:
                    sound.origin = float(frame.time)
                caption = _caption_at(time, request["captions"], request["step"])
                overlay.draw(large, time, *caption)
                writer.write(large, time, float(lengths[number]))
                line.send({"number": number})
        if sound.stream is None or copied is not None:
            return None
        return f"its sound ({sound.stream.codec_context.name}) does not go into an mp4: left out"


class CaptionOverlay:
    """Draws captions into the lower part of pictures of one size."""

    def __init__(self, height: int, width: int) -> None:
        self._size = max(11, min(72, round(min(height, 0.75 * width) / 16)))
        self._pad = self._size // 2
        self._height = min(height, round(3.2 * self._size))
        self._width = width

    def draw(
        self, picture: NDArray[np.uint8], time: float, label: str, colour: str, probability: float
    ) -> None:
        """Into ``picture`` uint8 RGB (H, W, 3)."""
        size, pad, width = self._size, self._pad, self._width
        region = picture[-self._height :]
        dark = Image.fromarray((region * SHADE).astype(np.uint8))
        pen = ImageDraw.Draw(dark)
        upper, lower = round(1.05 * size), round(2.35 * size)
        clock = format_time(time, 0.1)
        clock_width = text_width(clock, size)
        space: float = width - 2 * pad
        if space > 3 * clock_width:
            draw_text(pen, (width - pad, upper), clock, size, "#cccccc", "rm")
            space -= clock_width + pad
        draw_text(pen, (pad, upper), ellipsized(printable(label), size, space), size, "#ffffff")
        right = width - 2 * pad - text_width("100%", size)
        box = (pad, lower - size * 0.3, right, lower + size * 0.3)
        pen.rectangle(box, fill="#555555")
        end = pad + (right - pad) * probability
        if end - pad >= 1:
            pen.rectangle((box[0], box[1], end, box[3]), fill=colour)
        draw_text(pen, (width - pad, lower), f"{probability:.0%}", size, "#ffffff", "rm")
        region[:] = np.asarray(dark)
