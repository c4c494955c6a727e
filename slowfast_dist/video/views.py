"""The spatial part of a view: crop, resize and flip, on uint8 frames.

The crop is cut out of the source frame before it is resized, which gives what resizing the whole
frame and then cropping gives, up to rounding to whole source pixels, at a fraction of the cost.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.training import DataConfig

cv2.setNumThreads(1)  # the loader's processes already fill the CPUs


@dataclass(frozen=True)
class SpatialView:
    """A region of the displayed frame, in source pixels, and the square it becomes."""

    top: int
    left: int
    height: int
    width: int
    size: int
    """Height and width of the result, in pixels."""
    flip: bool


def training_view(
    height: int, width: int, data: DataConfig, rng: np.random.Generator
) -> SpatialView:
    """A random short side within ``data.short_side``, a random crop, mirrored every second time.

    With resize ``square`` the region is the whole frame. Always takes the same number of draws.
    """
    low, high = data.short_side
    short_side = int(rng.integers(low, high + 1))
    vertical, horizontal, coin = rng.random(3)
    flip = data.flip and coin < 0.5
    return _view(height, width, data, short_side, float(vertical), float(horizontal), bool(flip))


def evaluation_view(
    height: int, width: int, data: DataConfig, crop: int, crops: int
) -> SpatialView:
    """The centre crop of the smaller short side, or crop 0, 1 or 2 of 3 along the longer side."""
    assert crops in (1, 3) and 0 <= crop < crops
    along = 0.5 if crops == 1 else crop / 2
    vertical, horizontal = (along, 0.5) if height > width else (0.5, along)
    return _view(height, width, data, data.short_side[0], vertical, horizontal, flip=False)


def _view(
    height: int,
    width: int,
    data: DataConfig,
    short_side: int,
    vertical: float,
    horizontal: float,
    flip: bool,
) -> SpatialView:
    """The region at a position (0 top or left, 1 bottom or right) among those that fit."""
    assert height > 0 and width > 0
    if data.resize == "square":
        return SpatialView(0, 0, height, width, data.crop_size, flip)
    # One scale for both axes, so that the aspect ratio is kept. At least one pixel: in a video of
    # 2 x 2 or 1 x 4000 pixels the crop may be a fraction of one.
    source = data.crop_size * min(height, width) / short_side
    rows, columns = (min(max(1, round(source)), length) for length in (height, width))
    top = min(int(vertical * (height - rows + 1)), height - rows)
    left = min(int(horizontal * (width - columns + 1)), width - columns)
    return SpatialView(top, left, rows, columns, data.crop_size, flip)


def apply_view(frames: NDArray[np.uint8], view: SpatialView) -> NDArray[np.uint8]:
    """(t, H, W, 3) to (t, size, size, 3): cut the region out, resize it linearly, mirror it."""
    bottom, right = view.top + view.height, view.left + view.width
    assert 0 <= view.top < bottom <= frames.shape[1], (view, frames.shape)
    assert 0 <= view.left < right <= frames.shape[2], (view, frames.shape)
    result = np.empty((len(frames), view.size, view.size, 3), np.uint8)
    for source, target in zip(frames, result, strict=True):
        resize_region(source[view.top : bottom, view.left : right], view, target)
    return result


def resize_region(region: NDArray[np.uint8], view: SpatialView, out: NDArray[np.uint8]) -> None:
    """The view's region (h, w, 3) into ``out`` (size, size, 3), mirrored where the view says so."""
    assert region.shape[:2] == (view.height, view.width), (view, region.shape)
    size = (view.size, view.size)
    if view.flip:  # numpy takes 40 times as long to mirror, more than the rest of it all
        cv2.flip(cv2.resize(region, size, interpolation=cv2.INTER_LINEAR), 1, dst=out)
    else:
        cv2.resize(region, size, dst=out, interpolation=cv2.INTER_LINEAR)


_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


def turn(frame: NDArray[np.uint8], turns: int) -> NDArray[np.uint8]:
    """(h, w, 3) turned ``turns`` times by 90 degrees anticlockwise; itself for 0."""
    return np.asarray(cv2.rotate(frame, _TURNS[turns]), np.uint8) if turns else frame
