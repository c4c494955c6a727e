"""A region that is cut out before its colours are converted has the pixels of the whole frame."""

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from slowfast_dist.video.convert import ViewConverter
from slowfast_dist.video.views import SpatialView, apply_view

FORMATS = [
    "yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray",
    "yuv420p10le", "yuv422p10le", "yuv444p10le", "nv12", "gbrp", "rgb24", "yuv410p",
]  # fmt: skip
SIZES = [(256, 340), (97, 131), (240, 322), (64, 63), (2, 2), (1, 40)]


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
    for size in SIZES:
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
