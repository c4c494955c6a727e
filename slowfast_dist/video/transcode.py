"""One video rewritten for fast loading: small, in H.264, a few frames from keyframe to keyframe.

Frame i of the result is frame i of the source, as the probe counts the frames and training reads
them: upright, at its own time, in its own colours, only smaller, and with square pixels.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from slowfast_dist.config.fields import PixelAspect
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.images.listing import source_sha256, stamp_of
from slowfast_dist.video.ordered_reader import OrderedFrames, OrderedImages, open_in_order
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import VideoInfo, read_frames
from slowfast_dist.video.views import Pixels
from slowfast_dist.video.writer import EncodeError, VideoWriter, WriteError

KEY_INTERVAL = 16
"""Frames from one keyframe to the next. Short side 320, a clip of 32 frames at rate 2, intervals of
4, 8, 12, 16, 24 and 32: 40, 39, 35, 33, 35 and 34 ms of CPU time (give or take 2), 1.7, 1.1, 1.0,
.83, .75 and .67 MB for 10 s. Clips that are spread over the whole video want few."""

ENCODER = {
    "preset": "veryfast", "tune": "fastdecode", "crf": "23",
    "x264-params": "bframes=3:b-adapt=0:b-pyramid=0",
}  # fmt: skip
"""Options of x264. fastdecode (no CABAC, no deblocking) nearly halves the time to read a clip, from
63 ms to 36. Of 3 B-frames to which nothing refers, those that a clip leaves out are not decoded: 33
ms; without B-frames 38. crf 23 takes .7 of the disk of crf 20 for 1.2 to 2 dB; the preset medium
takes half as much time again to encode, up to twice, for .7 to 1.2 dB."""

VERSION = 2
"""Version of what is made of a file: raise it with any change to the pixels or the keyframes."""

@dataclass(frozen=True)
class Transcoded:
    """What was written: ``size`` in bytes, the rest as in VideoInfo."""

    frames: int
    width: int
    height: int
    size: int


def transcode(
    source: Path, target: Path, short_side: int, key_interval: int = KEY_INTERVAL,
    encoder: Mapping[str, str] = ENCODER, pixel_aspect: PixelAspect = "square",
    image_fps: float | None = None,
) -> Transcoded:  # fmt: skip
    """Write all frames of ``source``, a file or a folder of images (``image_fps`` as `probe_file`
    takes it), to ``target``, an mp4 without sound, and read it again. The
    result has closed groups of ``key_interval`` frames, yuv420p, the time stamps of the source
    from 0 on, its colour matrix in limited range. Its pixels are square; with ``pixel_aspect``
    stored it has the shape of the stored picture, and says of what shape its pixels are. ``target``
    is on the disk on return; after an error it holds anything. Raises DecodeError for a source that
    does not decode from its first frame to the last, WriteError where the result cannot be written.
    """
    info = probe_file(source, image_fps)
    aspect = None
    if pixel_aspect == "square":
        size = prepared_size(info.width * info.pixel_aspect, info.height, short_side)
    else:
        size = prepared_size(info.width, info.height, short_side)
        if info.pixel_aspect != 1:
            shape = info.width * info.pixel_aspect / info.height * size[1] / size[0]
            aspect = Fraction(shape).limit_denominator(1000)
    # Keyframes at the interval and nowhere else.
    interval = str(key_interval)
    keys = {"g": interval, "keyint_min": interval, "sc_threshold": "0", "forced-idr": "1"}
    try:
        with open_in_order(source, info) as frames:
            resized = FrameResizer(frames, info, size)
            with VideoWriter(
                target, size[1], size[0], resized.rate, options={**keys, **encoder},
                time_base=resized.base, durable=True, aspect=aspect,
            ) as writer:  # fmt: skip
                for *_, frame in frames.read(range(info.frames)):
                    writer.write_frame(resized.of(frame))
    except EncodeError as error:
        what = f"cannot be written as H.264 of {size[0]} x {size[1]} pixels"
        raise DecodeError(source, f"{what} ({error})") from error
    copy = probe_file(target)
    if (copy.frames, copy.width, copy.height) != (info.frames, *size):
        raise DecodeError(source, f"its copy holds {copy.frames} frames in place of {info.frames}")
    read_frames(target, np.array([0, info.frames - 1]), copy, "pyav", None)
    return Transcoded(info.frames, *size, target.stat().st_size)


def prepared_size(width: float, height: float, short_side: int) -> tuple[int, int]:
    """Width and height of the result, of those of the displayed source, the width in pixels as wide
    as a row is high: never larger than the source, but for what follows.

    4:2:0 has a colour for every 2 x 2 pixels, so both become the nearest even numbers, of two
    equally near the larger: the whole picture is stretched by less than a pixel, nothing is cut.
    """
    scale = min(1.0, short_side / min(width, height))
    columns, rows = (max(2, 2 * int(side * scale / 2 + 0.5)) for side in (width, height))
    return columns, rows


class FrameResizer:
    """Makes yuv420p frames of one size, width and height, of a source's of any size and format."""

    def __init__(
        self, source: OrderedFrames | OrderedImages, info: VideoInfo, size: tuple[int, int]
    ) -> None:
        self._turns, self._mirrored = info.rotation // 90, info.mirrored
        self._width, self._height = size[::-1] if self._turns % 2 else size
        self.rate, self.base = source.rate, source.time_base
        self._step = max(1, round(1 / (self.rate * self.base)))
        self._first: int | None = None
        self._last = -self._step
        self._scaler = VideoReformatter()

    def of(self, frame: VideoFrame) -> VideoFrame:
        """A frame as it came out of the decoder, upright, small, at its time from the first on."""
        small = self._scaler.reformat(
            frame, self._width, self._height, "yuv420p",  # 10 bits become 8, dithered
            # 0 is FFmpeg's AVCOL_SPC_RGB: the frame holds no luma that could be kept.
            dst_colorspace=Colorspace.ITU709 if frame.colorspace == 0 else None,
            dst_color_range=ColorRange.MPEG,  # players guess less wrong than with the full range
            interpolation=Interpolation.BICUBIC,  # as wide as the reduction asks: no aliasing
            threads=1,
        )  # fmt: skip
        planes = np.asarray(small.to_ndarray(), np.uint8)
        planes = _upright(planes, self._height, self._turns, self._mirrored)
        # A new one: the type of the picture, its rotation and so on would go into the result.
        result = VideoFrame.from_ndarray(planes, format="yuv420p")
        result.colorspace, result.color_range = small.colorspace, ColorRange.MPEG
        result.color_primaries, result.color_trc = frame.color_primaries, frame.color_trc
        if self._first is None:
            self._first = frame.pts or 0
        # Where the source does not say its time, or goes back, it comes a step after the last one.
        time = self._last if frame.pts is None else frame.pts - self._first
        self._last = time if time > self._last else self._last + self._step
        result.pts, result.time_base = self._last, self.base
        if frame.duration:
            result.duration = frame.duration
        return result


def _upright(planes: Pixels, height: int, turns: int, mirrored: bool) -> Pixels:
    """yuv420p (3/2 H, W) turned anticlockwise, then mirrored left to right."""
    if not turns and not mirrored:
        return planes
    luma = np.rot90(planes[:height], turns)
    chroma = np.rot90(planes[height:].reshape(2, height // 2, -1), turns, axes=(1, 2))
    if mirrored:
        luma, chroma = luma[:, ::-1], chroma[..., ::-1]
    return np.concatenate([luma.ravel(), chroma.ravel()]).reshape(-1, luma.shape[1])


# --- what processes of `map_in_children` answer --------------------------------------------------


def part_name(source: Path) -> str:
    """Under which `transcode_or_reason` leaves the result for ``source`` in its folder."""
    return hashlib.sha256(os.fsencode(source)).hexdigest() + ".mp4"


def transcode_or_reason(
    path: Path, folder: str, short_side: int, pixel_aspect: PixelAspect,
    image_fps: float | None = None,
) -> dict[str, Any] | str:
    """Transcoded's fields and the source's sha256, the reason why the source cannot be read (a
    str), or {"write_error": reason}; the result is in ``folder``."""
    part = Path(folder, part_name(path))
    try:
        before = stamp_of(path)
        digest = source_sha256(path)
        result = transcode(
            path, part, short_side, pixel_aspect=pixel_aspect, image_fps=image_fps
        )
        if before != stamp_of(path):
            raise DecodeError(path, "it changed while it was read")
        return {**asdict(result), "sha256": digest}
    except (WriteError, DecodeError, OSError) as error:
        part.unlink(missing_ok=True)
        if isinstance(error, WriteError):
            return {"write_error": str(error)}
        if isinstance(error, DecodeError):
            return error.reason
        return error.strerror or str(error)


def sha256_or_nothing(path: Path) -> str | None:
    """None where the file cannot be read."""
    try:
        return source_sha256(path)
    except (OSError, DecodeError):
        return None
