"""Videos of a disc that is round on a screen, whatever the shape of their pixels."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

FRAMES = 40


def disc(height: int, width: int, aspect: float, number: int = 0) -> NDArray[np.uint8]:
    """uint8 RGB (height, width, 3), a white disc on grey in the middle: round where a pixel is
    shown ``aspect`` times as wide as high. ``number`` only tells the frames apart."""
    rows, columns = np.mgrid[0:height, 0:width]
    across = (columns + 0.5 - width / 2) * aspect
    down = rows + 0.5 - height / 2
    radius = 0.3 * min(height, width * aspect)
    edge = np.clip(radius - np.hypot(across, down) + 0.5, 0, 1)[..., None]
    return np.asarray(60 + number % 5 + 150 * edge, np.uint8).repeat(3, axis=2)


def write_disc(
    path: Path, height: int, width: int, sar: Fraction | None, *, codec: str = "libx264",
    rotation: int = 0, pix_fmt: str = "yuv420p", options: dict[str, str] | None = None,
    frames: int = FRAMES, draw: Callable[[int], NDArray[np.uint8]] | None = None, **context: Any,
) -> Path:  # fmt: skip
    """A video of ``height`` x ``width`` stored pixels that say that they are ``sar`` as wide as
    high; it is to be turned by ``rotation`` degrees. ``draw``: other pictures;
    ``context``: of the encoder."""
    aspect = float(sar or 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
        stream.codec_context.thread_count = 1
        if sar is not None:
            stream.codec_context.sample_aspect_ratio = sar
        if rotation:
            stream.set_display_rotation(rotation)
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        for number in range(frames):
            picture = draw(number) if draw else disc(height, width, aspect, number)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.color_trc = context.get("color_trc", 2)  # which some encoders ask each frame for
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def roundness(frame: NDArray[np.uint8]) -> float:
    """Width over height of the disc in a frame (H, W, 3), by its second moments."""
    grey = np.asarray(frame, np.float64).mean(axis=2)
    shade = np.clip(grey - (grey.min() + grey.max()) / 2, 0, 1)
    moments = cv2.moments(shade)
    return float(np.sqrt(moments["mu20"] / moments["mu02"]))
