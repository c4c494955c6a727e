"""The spatial part of a view: crop, resize and flip, on uint8 frames.

The crop is cut out of the source frame before it is resized (and, by `conversion`, before it is
converted to RGB), which gives what resizing the whole frame and then cropping gives, up to rounding
to whole source pixels, at a fraction of the cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.fields import is_fraction
from slowfast_dist.video.augmentation.affine import warp
from slowfast_dist.video.augmentation.variation import Variation

cv2.setNumThreads(1)  # the loader's processes already fill the CPUs

Pixels = NDArray[np.uint8]

NEARLY_SQUARE = 0.01
"""Share by which a pixel's width may differ from its height and the pixel still count as square:
programs that scale a video to even sizes keep its shape by ratios such as 1279:1280, which a player
turns into a pixel more or less. The nearest ratio that cameras and discs use is 16:15."""

MOST_ASPECT = 4.0
"""Times as wide as high, or as high as wide, that a pixel may be: the most that is in use is 2.9
(32:11, half the columns of PAL in 16:9). What claims more is a mistake of the file's writer."""


@dataclass(frozen=True)
class SpatialView:
    """A region of the displayed frame, in source pixels, and the square that shows it."""

    top: int
    left: int
    height: int
    width: int
    size: int
    """Height and width of the result, in pixels."""
    flip: bool
    place: tuple[int, int, int, int] | None = None
    """Where in the square the region is shown, mirrored or not: top, left, height and width; black
    around it. None: all over it."""
    variation: Variation | None = None
    """What else is done to each frame of a training clip; with maps of its own, the region is what
    these look at, and crop, resize and mirror are theirs."""


class Region(NamedTuple):
    """A part of the displayed frame, in whole stored pixels."""

    top: int
    left: int
    height: int
    width: int


Box = tuple[float, float, float, float]
"""A region of interest as people give it: x and y of its upper left corner, width and height, in
pixels of the picture as a player shows it, or, where none is above 1, as fractions of it."""


def region_of(box: Box, height: int, width: int, aspect: float = 1.0) -> tuple[Region, bool]:
    """The stored pixels of a displayed frame that a box shows, and whether it reaches beyond the
    frame by half a pixel or more, which is cut off. ``aspect``: width of a pixel of the frame over
    its height. Raises ValueError, with a reason for people, where nothing is left of it."""
    x, y, w, h = box
    across, down = (width, height) if is_fraction(box) else (1 / aspect, 1)
    edges = [x * across, (x + w) * across], [y * down, (y + h) * down]
    beyond = any(
        low <= -0.5 or high >= size + 0.5
        for (low, high), size in zip(edges, (width, height), strict=True)
    )
    (left, right), (top, bottom) = (
        [min(max(floor(edge + 0.5), 0), size) for edge in pair]
        for pair, size in zip(edges, (width, height), strict=True)
    )
    if right <= left or bottom <= top:
        shown = max(1, round(width * aspect))
        raise ValueError(f"holds no pixel of its picture of {shown} x {height}")
    return Region(top, left, bottom - top, right - left), beyond


def used_aspect(stated: float) -> float:
    """Width over height with which a pixel is shown, of what the file states: 1 for what is nearly
    square or makes no sense."""
    nearly = abs(stated - 1) <= NEARLY_SQUARE
    return 1.0 if nearly or not is_sensible(stated) else stated


def is_sensible(stated: float) -> bool:
    return 1 / MOST_ASPECT <= stated <= MOST_ASPECT


def square_pixels(frame: Pixels, width: int) -> Pixels:
    """(h, w, 3) as (h, width, 3), as a player shows it; itself where that is its width."""
    if frame.shape[1] == width:
        return frame
    how = cv2.INTER_AREA if width < frame.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, (width, frame.shape[0]), interpolation=how), np.uint8)


def training_view(
    height: int, width: int, data: DataConfig, rng: np.random.Generator, aspect: float = 1.0,
    region: Region | None = None,
) -> SpatialView:
    """A random short side within ``data.short_side``, a random crop, mirrored every second time;
    with resize ``square`` or ``pad`` the whole frame. Always takes the same number of draws.

    ``aspect``: width of a pixel of the displayed frame over its height. ``region``: what of it is
    looked at, as if that were the frame; None: all."""
    low, high = data.short_side
    short_side = int(rng.integers(low, high + 1))
    vertical, horizontal, coin = rng.random(3)
    flip = data.flip and coin < 0.5
    place = float(vertical), float(horizontal)
    if region is not None:
        height, width = region.height, region.width
    return _within(region, _view(height, width, data, short_side, place, bool(flip), aspect))


def evaluation_view(
    height: int, width: int, data: DataConfig, crop: int, crops: int, aspect: float = 1.0,
    region: Region | None = None,
) -> SpatialView:
    """The centre crop of the smaller short side, or crop 0, 1 or 2 of 3 along the longer side.

    ``aspect`` and ``region`` as for `training_view`."""
    assert crops in (1, 3) and 0 <= crop < crops
    along = 0.5 if crops == 1 else crop / 2
    if region is not None:
        height, width = region.height, region.width
    upright = height > width * shown_aspect(data, aspect)
    place = (along, 0.5) if upright else (0.5, along)
    view = _view(height, width, data, data.short_side[0], place, False, aspect)
    return _within(region, view)


def _within(region: Region | None, view: SpatialView) -> SpatialView:
    """The view of a region, in the whole frame."""
    if region is None:
        return view
    return replace(view, top=view.top + region.top, left=view.left + region.left)


def reads_stored(data: DataConfig) -> bool:
    """Whether pixels are taken as square where that shows: a squeezed picture has no shape."""
    return data.pixel_aspect == "stored" and data.resize != "square"


def shown_aspect(data: DataConfig, aspect: float) -> float:
    """Width of a pixel over its height with which a view counts."""
    return aspect if data.pixel_aspect == "square" else 1.0


def _view(
    height: int, width: int, data: DataConfig, short_side: int, at: tuple[float, float],
    flip: bool, aspect: float,
) -> SpatialView:  # fmt: skip
    """The region at a place (vertical and horizontal; 0 top or left, 1 bottom or right) among those
    that fit."""
    assert height > 0 and width > 0 and aspect > 0
    if data.resize == "square":  # all of it becomes a square, whatever shape a player gives it
        return SpatialView(0, 0, height, width, data.crop_size, flip)
    aspect = shown_aspect(data, aspect)
    if data.resize == "pad":
        place = _padded(height, width * aspect, data.crop_size, flip)
        return SpatialView(0, 0, height, width, data.crop_size, flip, place)
    # A square of the picture as it is shown, its side measured in rows; columns are ``aspect`` as
    # wide. At least one pixel: in a video of 2 x 2 or 1 x 4000 the crop may be a fraction of one.
    source = data.crop_size * min(height, width * aspect) / short_side
    rows = min(max(1, round(source)), height)
    columns = min(max(1, round(source / aspect)), width)
    vertical, horizontal = at
    top = min(int(vertical * (height - rows + 1)), height - rows)
    left = min(int(horizontal * (width - columns + 1)), width - columns)
    return SpatialView(top, left, rows, columns, data.crop_size, flip)


def _padded(
    height: float, width: float, size: int, flip: bool
) -> tuple[int, int, int, int]:
    """Where all of a picture lies in a square of ``size``: its longer side fills it, the other one
    is in the middle; an odd row or column more of black is below, or on the right. A mirrored one
    is the mirror image of the square, borders and all."""
    scale = size / max(height, width)
    rows, columns = (min(size, max(1, round(side * scale))) for side in (height, width))
    left = (size - columns) // 2
    return (size - rows) // 2, size - columns - left if flip else left, rows, columns


def apply_view(frames: Pixels, view: SpatialView) -> Pixels:
    """All frames of a clip (T, H, W, 3) to (T, size, size, 3): cut the region out, resize it
    linearly, mirror it, and vary it."""
    result = np.empty((len(frames), view.size, view.size, 3), np.uint8)
    for place, frame in enumerate(frames):
        show_region(region_in(frame, view), view, result, [place])
    if view.variation is not None:
        view.variation.finish(result)
    return result


def region_in(frame: Pixels, view: SpatialView) -> Pixels:
    """The view's region (h, w, 3) of a displayed frame (H, W, 3)."""
    bottom, right = view.top + view.height, view.left + view.width
    assert 0 <= view.top < bottom <= frame.shape[0], (view, frame.shape)
    assert 0 <= view.left < right <= frame.shape[1], (view, frame.shape)
    return frame[view.top : bottom, view.left : right]


def show_region(
    region: Pixels, view: SpatialView, out: Pixels, places: Sequence[int]
) -> None:
    """As `resize_region`, into each of the ``places`` of one frame in a clip ``out`` (T, size,
    size, 3)."""
    moves = view.variation is not None and view.variation.maps
    for place in places:
        if moves or place == places[0]:  # a map of its own for each time of the clip
            resize_region(region, view, out[place], place)
        else:
            out[place] = out[places[0]]


def resize_region(region: Pixels, view: SpatialView, out: Pixels, place: int = 0) -> None:
    """The view's region (h, w, 3) into ``out`` (size, size, 3), mirrored where the view says so, or
    mapped as the frame in that ``place`` of the clip. Colours change once the clip is whole
    (`Variation.finish`)."""
    assert region.shape[:2] == (view.height, view.width), (view, region.shape)
    varied = view.variation
    if varied is not None and varied.maps:
        warp(region, varied.maps[place], varied.fill, out)
    else:
        _resize(region, view, out)


def _resize(region: Pixels, view: SpatialView, out: Pixels) -> None:
    size = (view.size, view.size)
    if view.place is not None:
        top, left, rows, columns = view.place
        small = cv2.resize(region, (columns, rows), interpolation=cv2.INTER_LINEAR)
        out[:] = 0
        out[top : top + rows, left : left + columns] = cv2.flip(small, 1) if view.flip else small
        return
    if view.flip:  # numpy takes 40 times as long to mirror, more than the rest of it all
        cv2.flip(cv2.resize(region, size, interpolation=cv2.INTER_LINEAR), 1, dst=out)
    else:
        cv2.resize(region, size, dst=out, interpolation=cv2.INTER_LINEAR)


_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


def turn(frame: Pixels, turns: int) -> Pixels:
    """(h, w, 3) turned ``turns`` times by 90 degrees anticlockwise; itself for 0."""
    return np.asarray(cv2.rotate(frame, _TURNS[turns]), np.uint8) if turns else frame
