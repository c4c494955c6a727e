"""Crop, resize and flip, against resizing the whole frame first."""

from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from slowfast_dist.config.training import DataConfig
from slowfast_dist.video.views import SpatialView, apply_view, evaluation_view, training_view

Resize = Literal["short-side", "square"]
DATA = DataConfig()
SIZES = [
    (240, 320),
    (320, 240),
    (1080, 1920),
    (256, 256),
    (225, 301),
    (720, 406),
    (2, 2),
    (16, 16),
    (1, 4000),
    (4000, 1),
    (1, 1),
]


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """A frame whose colour tells the place: red from left to right, green from top to bottom."""
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.zeros((height, width, 3))
    image[..., 0] = 255 * (columns + 0.5) / width
    image[..., 1] = 255 * (rows + 0.5) / height
    image[..., 2] = 255 * ((columns + 0.5) / width + (rows + 0.5) / height) / 2
    return image.round().astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("resize", ["short-side", "square"])
def test_every_view_lies_inside_the_frame(height: int, width: int, resize: Resize) -> None:
    data = replace(DATA, resize=resize)
    rng = np.random.default_rng(0)
    views = [training_view(height, width, data, rng) for _ in range(200)]
    views += [
        evaluation_view(height, width, data, crop, crops)
        for crop, crops in ((0, 1), (0, 3), (1, 3), (2, 3))
    ]
    for view in views:
        assert 0 <= view.top < view.top + view.height <= height
        assert 0 <= view.left < view.left + view.width <= width
    frames = np.zeros((2, height, width, 3), np.uint8)
    assert apply_view(frames, views[0]).shape == (2, 224, 224, 3)


@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 240), (1080, 1920), (225, 301)])
@pytest.mark.parametrize("crop", [0, 1, 2])
def test_crop_then_resize_is_resize_then_crop(height: int, width: int, crop: int) -> None:
    frame = smooth(height, width)
    ours = apply_view(frame[None], evaluation_view(height, width, DATA, crop, 3))[0]
    scale = 256 / min(height, width)
    whole = cv2.resize(frame, (round(width * scale), round(height * scale)))
    top, left = (whole.shape[0] - 224) // 2, (whole.shape[1] - 224) // 2
    if height > width:
        top = [0, top, whole.shape[0] - 224][crop]
    else:
        left = [0, left, whole.shape[1] - 224][crop]
    theirs = whole[top : top + 224, left : left + 224]
    # A source pixel is at most 255 / 225 levels wide in these colours.
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 2


def test_the_centre_view_is_the_middle_crop_of_three() -> None:
    assert evaluation_view(240, 320, DATA, 0, 1) == evaluation_view(240, 320, DATA, 1, 3)


def test_training_draws_short_side_place_and_flip_over_their_whole_range() -> None:
    rng = np.random.default_rng(0)
    views = [training_view(480, 640, DATA, rng) for _ in range(2000)]
    sides = np.array([view.height for view in views])
    # crop 224 of a short side from 256 to 320 is 224 / 320 to 224 / 256 of the frame's height
    assert sides.min() == round(480 * 224 / 320) and sides.max() == round(480 * 224 / 256)
    assert np.median(sides) == pytest.approx(480 * 224 / 288, abs=3)
    assert min(view.top for view in views) == 0 == min(view.left for view in views)
    assert max(view.top + view.height for view in views) == 480
    assert max(view.left + view.width for view in views) == 640
    assert sum(view.flip for view in views) == pytest.approx(1000, abs=100)


def test_without_flip_the_rest_of_the_view_is_the_same() -> None:
    first, second = np.random.default_rng(1), np.random.default_rng(1)
    for _ in range(50):
        free = training_view(480, 640, DATA, first)
        fixed = training_view(480, 640, replace(DATA, flip=False), second)
        assert not fixed.flip and replace(free, flip=False) == fixed


def test_square_squeezes_the_whole_frame() -> None:
    data = replace(DATA, resize="square", flip=False)
    frame = smooth(180, 320)
    expected = cv2.resize(frame, (224, 224))
    for view in (
        training_view(180, 320, data, np.random.default_rng(0)),
        evaluation_view(180, 320, data, 0, 1),
    ):
        np.testing.assert_array_equal(apply_view(frame[None], view)[0], expected)


def test_flip_mirrors_left_and_right() -> None:
    frames = np.stack([smooth(60, 80), smooth(60, 80)[::-1]])
    view = SpatialView(10, 20, 40, 50, 32, flip=False)
    mirrored = apply_view(frames, replace(view, flip=True))
    np.testing.assert_array_equal(mirrored, apply_view(frames, view)[:, :, ::-1])
    assert mirrored.flags.c_contiguous


def test_frames_may_be_turned_views_of_memory() -> None:
    frame = smooth(60, 80)
    view = SpatialView(10, 20, 30, 20, 32, flip=True)
    turned = np.rot90(frame)
    np.testing.assert_array_equal(
        apply_view(turned[None], view), apply_view(turned.copy()[None], view)
    )
