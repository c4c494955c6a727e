"""Decoded frames as bytes and back: planes where a region of them can be converted, else RGB.

Views are made of them as of frames that have just been decoded, by the same code: what a view shows
is the same, bit for bit.
"""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from slowfast_dist.video.cache.space import Space
from slowfast_dist.video.cache.store import FrameStore, Kind, Written, stamp_now
from slowfast_dist.video.container import OpenFiles
from slowfast_dist.video.conversion.converter import (
    PixelFormat,
    StoredFrame,
    ViewConverter,
    converts_by_region,
    plane_shape,
)
from slowfast_dist.video.images.decoding import each_image
from slowfast_dist.video.reader import IMAGES, VideoInfo, decode_each
from slowfast_dist.video.views import Pixels, SpatialView

FORMATS = ("rgb24", "yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray")
"""FFmpeg's names of what is kept. A `Kind` has places in it."""

RGB: Kind = (0, 0, 0)

ALIGNMENT = 64
"""Bytes on whose multiples frames begin: a cache line."""


def stored_size(info: VideoInfo) -> tuple[int, int]:
    """Height and width of a video's frames before they are turned."""
    turned = info.rotation // 90 % 2
    return (info.width, info.height) if turned else (info.height, info.width)


# --- written, by the process that decodes ---------------------------------------------------------


def write_frames(
    path: Path, numbers: NDArray[np.int64], info: VideoInfo, space: Space, files: OpenFiles
) -> Written | None:
    """Decode the frames ``numbers`` (N,), rising, of a file and write them to the space. None where
    there is no room for all, where the file changes meanwhile, and for frames of several kinds.
    Raises DecodeError."""
    stamp = stamp_now(path)
    writer = _Writer(numbers, info, space)
    try:
        if info.codec == IMAGES:
            each_image(path, numbers.tolist(), info.frames, writer.size, writer.write)
        else:
            decode_each(path, numbers.tolist(), info, files, writer.write)
    except _NotKept:
        return None
    else:
        if stamp is None or stamp != stamp_now(path):
            return None
        assert writer.first is not None and writer.kind is not None
        first, writer.first = writer.first, None
        return Written(first, writer.stride, writer.kind, stamp)
    finally:
        writer.give_back()


class _NotKept(Exception):
    """The frames of this file cannot be kept."""


class _Writer:
    """Writes the frames of one file, all of the kind of the first one."""

    def __init__(self, numbers: NDArray[np.int64], info: VideoInfo, space: Space) -> None:
        self._ranks = {number: rank for rank, number in enumerate(numbers.tolist())}
        self._space, self.size = space, stored_size(info)
        self._converter = ViewConverter(info.height, info.width, info.rotation, None)
        self.kind: Kind | None = None
        self.first: int | None = None
        self.stride = 0

    def write(self, number: int, frame: av.VideoFrame | Pixels) -> None:
        parts = self._parts(frame)
        if self.first is None:
            size = sum(part.nbytes for part in parts)
            self.stride = size + -size % ALIGNMENT
            self.first = self._space.take(self.stride * len(self._ranks))
            if self.first is None:
                raise _NotKept
        place = self.first + self.stride * self._ranks[number]
        try:
            self._space.write(parts, place)
        except OSError:  # a full disk
            self._space.fill_up()
            raise

    def _parts(self, frame: av.VideoFrame | Pixels) -> list[Pixels]:
        """Of one frame, contiguous."""
        kind = RGB
        if isinstance(frame, np.ndarray):
            self.kind = kind
            return [np.ascontiguousarray(frame)]
        if converts_by_region(frame, self.size):
            place = FORMATS.index(frame.format.name)
            kind = place, int(frame.colorspace), int(frame.color_range)
        self.kind = kind if self.kind is None else self.kind
        if self.kind == RGB:
            return [np.ascontiguousarray(self._converter.rgb_of(frame))]
        if kind != self.kind:
            raise _NotKept
        parts = []
        for plane, (rows, columns) in zip(
            frame.planes, plane_shapes(kind, self.size), strict=True
        ):
            lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            parts.append(np.ascontiguousarray(lines[:rows, :columns]))
        return parts

    def give_back(self) -> None:
        """What was taken for frames that are not kept."""
        if self.first is not None:
            self._space.give_back(self.first, self.stride * len(self._ranks))


# --- read, by the process that wants a clip -------------------------------------------------------


def plane_shapes(kind: Kind, size: tuple[int, int]) -> list[tuple[int, ...]]:
    """Of the planes of a frame of that kind and ``size`` (height, width)."""
    if kind == RGB:
        return [(*size, 3)]
    name = FORMATS[kind[0]]
    return [plane_shape(name, plane, *size) for plane in range(1 if name == "gray" else 3)]


def read_stored(
    store: FrameStore, file: int, places: NDArray[np.int64], info: VideoInfo,
    views: Sequence[SpatialView],
) -> Pixels:  # fmt: skip
    """The frames at ``places`` (T,) of the store, through each of V views: (V, T, size, size, 3).
    A place that comes again is converted once."""
    size, kind = stored_size(info), store.kind(file)
    shapes = plane_shapes(kind, size)
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes]).tolist()
    converters = [
        ViewConverter(info.height, info.width, info.rotation, view, info.mirrored)
        for view in views
    ]
    side = views[0].size
    out = np.empty((len(views), len(places), side, side, 3), np.uint8)
    single, inverse = np.unique(places, return_inverse=True)
    for number, data in enumerate(store.bytes_from(single, ends[-1])):
        planes = [
            part.reshape(shape)
            for part, shape in zip(np.split(data, ends[:-1]), shapes, strict=True)
        ]
        frame: StoredFrame | Pixels = planes[0]
        if kind != RGB:
            frame = StoredFrame(PixelFormat(FORMATS[kind[0]]), *size, kind[1], kind[2], planes)
        where = np.flatnonzero(inverse == number).tolist()
        for converter, seen in zip(converters, out, strict=True):
            converter.write_at(frame, seen, where)
    for view, seen in zip(views, out, strict=True):
        if view.variation is not None:
            view.variation.finish(seen)
    return out
