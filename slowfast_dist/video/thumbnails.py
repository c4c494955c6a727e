"""A few small pictures of one video, as it is shown: by which others that look the same are found.
"""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from slowfast_dist.video.container import DecodeError, open_video
from slowfast_dist.video.images.decoding import PngDecoder, read_image
from slowfast_dist.video.images.listing import list_images
from slowfast_dist.video.packets import PacketIndex, decode_all, decode_frames, index_packets
from slowfast_dist.video.seeking import with_moved_frames

PLACES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Where the frames lie that are looked at, as fractions of the video: not at its ends, which are
often black or cut elsewhere in a copy."""

THUMBNAIL_SIDE = 32
"""Height and width in pixels to which a frame is scaled, as in pHash (Zauner, 2010)."""

Thumbnail = NDArray[np.uint8]


def read_thumbnails(path: Path, full: bool, moved_frames: str | None = "") -> list[Thumbnail]:
    """The frames at PLACES, uint8 RGB (THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3), as displayed. ``full``:
    decode every frame on the way. ``moved_frames``: as in VideoInfo; None where the frames are to
    be counted. Raises DecodeError for damage that is met."""
    if path.is_dir():
        return _of_images(path, full)
    with open_video(path) as (container, stream):
        index = index_packets(path, container, stream)
        if moved_frames is None:
            index = replace(index, order=np.empty(0, np.int64))
        elif moved_frames:
            index = with_moved_frames(path, index, moved_frames)
        formats = container.format.name.split(",")
        timed = "mp4" in formats or "matroska" in formats  # AVI has no times of frames
        if timed and len(index.order) and not full:
            wanted = _places(len(index.order))
            try:
                frames = decode_frames(path, stream.codec_context, index, sorted(set(wanted)))
                found = {number: _thumbnail(frame) for number, frame in frames}
                return [found[number] for number in wanted]
            except DecodeError:
                pass  # damaged, or packets that are not frames: decoding everything tells
        return _decode_all(path, index)


def _places(total: int) -> list[int]:
    return [round(place * (total - 1)) for place in PLACES]


def _of_images(folder: Path, full: bool) -> list[Thumbnail]:
    names, png = list_images(folder).names, PngDecoder()
    wanted = _places(len(names))
    thumbs = {}
    for number, name in enumerate(names):
        if full or number in wanted:
            rgb = read_image(folder / name, None, png)
            if number in wanted:
                thumbs[number] = _thumbnail(av.VideoFrame.from_ndarray(rgb, format="rgb24"))
    return [thumbs[number] for number in wanted]


def _decode_all(path: Path, index: PacketIndex) -> list[Thumbnail]:
    expected = _places(len(index.order)) if len(index.order) else None
    thumbs = {
        number: _thumbnail(frame)
        for number, frame in enumerate(decode_all(path, index))
        if expected is None or number in expected
    }
    if not thumbs:
        raise DecodeError(path, "no frame can be decoded")
    if expected is not None and thumbs.keys() >= set(expected):
        return [thumbs[number] for number in expected]
    return [list(thumbs.values())[place] for place in _places(len(thumbs))]


def _thumbnail(frame: av.VideoFrame) -> Thumbnail:
    small = frame.reformat(
        THUMBNAIL_SIDE, THUMBNAIL_SIDE, "rgb24", interpolation="AREA", threads=1
    ).to_ndarray()
    turns = round(frame.rotation / 90) % 4 if abs(frame.rotation) <= 360 else 0
    return np.rot90(small, turns)
