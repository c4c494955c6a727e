"""Decoded frames as RGB, upright; of a view the region alone, cut out before it is converted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter

from slowfast_dist.video.views import Pixels, SpatialView, resize_region, show_region, turn

_SHIFTS = {
    "yuv420p": (1, 1), "yuvj420p": (1, 1), "yuv422p": (0, 1), "yuvj422p": (0, 1),
    "yuv444p": (0, 0), "yuvj444p": (0, 0), "gray": (0, 0),
}  # fmt: skip
"""Formats of 8 bits whose conversion FFmpeg does block by block, so that a region gives the pixels
that the whole frame gives: log2 of the rows and columns that share a chroma sample. It filters the
chroma of others across the blocks (10 bits), and that of frames of an odd size."""


class PixelFormat(NamedTuple):
    name: str
    """FFmpeg's."""


@dataclass(frozen=True)
class StoredFrame:
    """What the converter takes of a decoded frame that `converts_by_region`, once its decoder is
    gone: ``planes`` are uint8 (rows, columns)."""

    format: PixelFormat
    height: int
    width: int
    colorspace: int
    color_range: int
    planes: Sequence[Pixels]
    interlaced_frame: bool = False


def converts_by_region(frame: av.VideoFrame | StoredFrame, size: tuple[int, int]) -> bool:
    """Whether a region, cut out before it is converted to RGB, gets the pixels that it has in the
    whole frame; ``size``: height and width of the video's frames, as they are stored."""
    name, height, width = frame.format.name, frame.height, frame.width
    if frame.interlaced_frame:
        return False  # its two fields are converted apart, the copy's would not be
    # With odd widths and heights FFmpeg takes another way, for those with shared chroma.
    uneven = any(_SHIFTS.get(name, ())) and (height % 2 or width % 2)
    return name in _SHIFTS and (height, width) == size and not uneven


class ViewConverter:
    """Writes frames of one video as RGB, upright, cut out and resized as ``view`` says."""

    def __init__(
        self, height: int, width: int, rotation: int, view: SpatialView | None,
        mirrored: bool = False,
    ) -> None:  # fmt: skip
        """``height`` and ``width`` of the displayed frame; ``rotation`` and ``mirrored`` as in
        `VideoInfo`."""
        if view is not None and mirrored:
            varied = view.variation and view.variation.of_mirrored(view.width)
            left = width - view.left - view.width
            view = replace(view, left=left, flip=not view.flip, variation=varied)
        self._mirrored = mirrored
        self._turns = rotation // 90 % 4
        self._size = (width, height) if self._turns % 2 else (height, width)
        self._view = view
        self._region = None if view is None else _stored(view, height, width, self._turns)
        self._reformatter = VideoReformatter()
        self._kind: tuple[str, int, int] | None = None
        self._cut: _Cut | None = None

    def write(self, frame: av.VideoFrame | StoredFrame | Pixels, out: Pixels) -> None:
        """``out``: (H, W, 3), or (size, size, 3) with a view. A frame of another size than the
        first one is scaled to that. Pixels are what `rgb_of` gave."""
        if self._view is None:
            assert isinstance(frame, av.VideoFrame)
            upright = turn(self.rgb_of(frame), self._turns)
            out[:] = upright[:, ::-1] if self._mirrored else upright
            return
        resize_region(turn(self.region_of(frame), self._turns), self._view, out)

    def write_at(
        self, frame: av.VideoFrame | StoredFrame | Pixels, out: Pixels, places: Sequence[int]
    ) -> None:
        """As `write`, into each of the ``places`` of the frame in a clip ``out`` (T, ...)."""
        if self._view is not None:
            region = turn(self.region_of(frame), self._turns)
            show_region(region, self._view, out, places)
            return
        self.write(frame, out[places[0]])
        for place in places[1:]:
            out[place] = out[places[0]]

    def rgb_of(self, frame: av.VideoFrame) -> Pixels:
        """All of a frame as it is stored, (h, w, 3); valid until the next one."""
        return self._rgb(frame, *self._size)

    def region_of(self, frame: av.VideoFrame | StoredFrame | Pixels) -> Pixels:
        """RGB (h, w, 3) of what the view shows, as it is stored; valid until the next frame."""
        assert self._region is not None
        top, left, height, width = self._region
        if isinstance(frame, np.ndarray):
            source = frame
        elif (cut := self._cut_for(frame)) is None:
            assert isinstance(frame, av.VideoFrame)
            source = self.rgb_of(frame)
        else:
            source = self._rgb(cut.of(frame), cut.height, cut.width)
            top, left = top - cut.top, left - cut.left
        return source[top : top + height, left : left + width]

    def _cut_for(self, frame: av.VideoFrame | StoredFrame) -> "_Cut | None":
        """What cuts the region out before it is converted; None where that changes its pixels."""
        kind = frame.format.name, frame.height, frame.width
        if frame.interlaced_frame:
            return None
        if kind != self._kind:
            self._kind, self._cut = kind, None
            if self._region and converts_by_region(frame, self._size):
                self._cut = _Cut(kind[0], self._region, self._size)
        return self._cut

    def _rgb(self, frame: av.VideoFrame, height: int, width: int) -> Pixels:
        """(height, width, 3), valid until the next frame."""
        # More threads than one only take the CPU from the loader's other processes.
        rgb = self._reformatter.reformat(frame, width, height, "rgb24", threads=1)
        return _rows(rgb.planes[0])[:height, : 3 * width].reshape(height, width, 3)


def _stored(view: SpatialView, height: int, width: int, turns: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a view of the displayed frame in the stored one, which was
    turned anticlockwise: each step turns it back by 90 degrees."""
    top, left, rows, columns = view.top, view.left, view.height, view.width
    for _ in range(turns):
        top, left, rows, columns = left, height - top - rows, columns, rows
        height, width = width, height
    return top, left, rows, columns


class _Cut:
    """Copies a region, grown to whole blocks of chroma, into a small frame of the same format."""

    def __init__(
        self, format: str, region: tuple[int, int, int, int], size: tuple[int, int]
    ) -> None:
        top, left, height, width = region
        step = 2 if any(_SHIFTS[format]) else 1
        self.top, self.left = top // step * step, left // step * step
        self.height = -(-(top + height - self.top) // step) * step
        self.width = -(-(left + width - self.left) // step) * step
        assert self.top + self.height <= size[0] and self.left + self.width <= size[1]
        self._small = av.VideoFrame(self.width, self.height, format)
        self._targets = []
        for number, plane in enumerate(self._small.planes):
            rows, columns = _SHIFTS[format] if number else (0, 0)
            height, width = plane_shape(format, number, self.height, self.width)
            top, left = self.top >> rows, self.left >> columns
            target = _rows(plane)[:height, :width]
            self._targets.append((target, slice(top, top + height), slice(left, left + width)))

    def of(self, frame: av.VideoFrame | StoredFrame) -> av.VideoFrame:
        small = self._small
        small.colorspace, small.color_range = frame.colorspace, frame.color_range
        planes: Sequence[VideoPlane | Pixels] = frame.planes
        for plane, (target, rows, columns) in zip(planes, self._targets, strict=True):
            target[:] = _rows(plane)[rows, columns]
        return small


def plane_shape(format: str, plane: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a plane of a frame that `converts_by_region`."""
    rows, columns = _SHIFTS[format] if plane else (0, 0)
    return height >> rows, width >> columns


def _rows(plane: VideoPlane | Pixels) -> Pixels:
    """(rows, bytes of a line) over the plane's own memory."""
    if isinstance(plane, np.ndarray):
        return plane
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
