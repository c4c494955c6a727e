"""Crop, resize and flip, against resizing the whole frame first.

And a region that is cut out before its colours are converted has the pixels of the whole frame.
"""

from dataclasses import replace
from typing import Literal

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig
from slowfast_dist.video.conversion.converter import ViewConverter
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


# --- decoded frames ------------------------------------------------------------------------------

FORMATS = [
    "yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray",
    "yuv420p10le", "yuv422p10le", "yuv444p10le", "nv12", "gbrp", "rgb24", "yuv410p",
]  # fmt: skip
STORED_SIZES = [(256, 340), (97, 131), (240, 322), (64, 63), (2, 2), (1, 40)]


def noise(format: str, height: int, width: int) -> av.VideoFrame:
    rng = np.random.default_rng(0)
    frame = av.VideoFrame(width, height, format)
    for plane in frame.planes:
        memory = np.frombuffer(memoryview(plane), np.uint8)
        if "10le" in format:
            memory[:] = rng.integers(0, 1024, len(memory) // 2).astype("<u2").view(np.uint8)
        else:
            memory[:] = rng.integers(0, 256, len(memory))
    return frame


def whole(frame: av.VideoFrame, rotation: int, **size: int) -> np.ndarray:
    return np.rot90(frame.reformat(format="rgb24", threads=1, **size).to_ndarray(), rotation // 90)


def views(height: int, width: int, count: int) -> list[SpatialView]:
    rng = np.random.default_rng(1)
    found = [SpatialView(0, 0, height, width, 56, False)]
    for _ in range(count):
        rows, columns = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
        top = int(rng.integers(0, height - rows + 1))
        left = int(rng.integers(0, width - columns + 1))
        found.append(SpatialView(top, left, rows, columns, 56, bool(rng.integers(2))))
    return found


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_view_of_a_frame_is_that_of_its_whole_conversion(format: str, rotation: int) -> None:
    for size in STORED_SIZES:
        frame = noise(format, *size)
        upright = whole(frame, rotation)
        height, width, _ = upright.shape
        for view in views(height, width, 6):
            out = np.empty((view.size, view.size, 3), np.uint8)
            converter = ViewConverter(height, width, rotation, view)
            for _ in range(2):
                converter.write(frame, out)
                np.testing.assert_array_equal(out, apply_view(upright[None], view)[0])
        out = np.empty((height, width, 3), np.uint8)
        ViewConverter(height, width, rotation, None).write(frame, out)
        np.testing.assert_array_equal(out, upright)


@pytest.mark.parametrize("colorspace", [0, 1, 2, 5, 6, 9])
@pytest.mark.parametrize("color_range", [ColorRange.UNSPECIFIED, ColorRange.MPEG, ColorRange.JPEG])
def test_colour_space_and_range_are_those_of_each_frame(
    colorspace: int, color_range: ColorRange
) -> None:
    """Also where they change within the video, as in some that were put together."""
    frame, plain = noise("yuv420p", 64, 96), noise("yuv420p", 64, 96)
    frame.colorspace, frame.color_range = colorspace, color_range
    view = SpatialView(7, 9, 41, 50, 32, False)
    converter = ViewConverter(64, 96, 0, view)
    out = np.empty((32, 32, 3), np.uint8)
    for shown in (plain, frame, plain):
        converter.write(shown, out)
        np.testing.assert_array_equal(out, apply_view(whole(shown, 0)[None], view)[0])
    if colorspace in (1, 9) or color_range == ColorRange.JPEG:
        assert not np.array_equal(whole(frame, 0), whole(plain, 0))


def test_a_frame_of_another_size_or_format_is_scaled_to_the_first() -> None:
    view = SpatialView(10, 20, 30, 40, 32, True)
    converter = ViewConverter(64, 96, 0, view)
    out = np.empty((32, 32, 3), np.uint8)
    for frame in (
        noise("yuv420p", 64, 96), noise("yuv420p", 128, 192), noise("yuv444p", 64, 96),
        noise("yuv420p10le", 64, 96), noise("yuv420p", 64, 96),
    ):  # fmt: skip
        converter.write(frame, out)
        scaled = whole(frame, 0, height=64, width=96)
        np.testing.assert_array_equal(out, apply_view(scaled[None], view)[0])
