"""Draw where and when a network saw its class: over the frames, as a playing clip and a strip."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from slowfast_dist.inference.drawing.text import (
    draw_text,
    ellipsized,
    format_time,
    printable,
)
from slowfast_dist.inference.drawing.timeline import COLOURS, INK, LINES, PAPER, SOFT
from slowfast_dist.video.views import Pixels
from slowfast_dist.video.writer import VideoWriter

TILE = 256
"""Pixels a side to which smaller frames are enlarged: less shows nothing on a screen."""

STRIP_FRAMES = 8
"""Frames of a strip: as many as one looks at side by side, and as the slow pathway mostly sees."""

GAP, HEAD, TEXT, CURVE = 8, 30, 18, 96
"""Pixels between pictures, of a line of text, of its type, and of the height of the curve."""

SHORTEST = 4.0
"""Seconds that a clip plays at least, slowed down if need be: of a second one sees nothing."""

STRONGEST = 0.75
"""Share of the colour in the picture where a map is 1: what is below can still be seen."""


@dataclass(frozen=True)
class Picture:
    """What is drawn of one clip."""

    frames: Pixels
    """uint8 RGB (T, S, S, 3), as the network saw them."""
    times: NDArray[np.float64]
    """Seconds of the video at which each is shown, (T,)."""
    maps: Mapping[str, NDArray[np.float32]]
    """Title -> how much to colour each pixel (T, S, S), 0 to 1; drawn beside each other."""
    when: NDArray[np.float64]
    """Share of the first map that each frame holds, (T,)."""
    title: str

    def overlays(self) -> list[tuple[str, Pixels]]:
        """Titles with the frames (T, S', S', 3), coloured where their map is high."""
        factor = max(1, -(-TILE // self.frames.shape[1]))
        size = factor * self.frames.shape[1]
        result = []
        for title, values in self.maps.items():
            frames = [
                _overlay(frame, one, size) for frame, one in zip(self.frames, values, strict=True)
            ]
            result.append((title, np.stack(frames)))
        return result


def _overlay(frame: Pixels, values: NDArray[np.float32], size: int) -> Pixels:
    large = cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR)
    heat = cv2.resize(values, (size, size), interpolation=cv2.INTER_LINEAR)
    levels = np.rint(255 * np.clip(heat, 0, 1)).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]
    share = STRONGEST * np.sqrt(np.clip(heat, 0, 1))[..., None]
    return np.rint(large * (1 - share) + colours * share).astype(np.uint8)


def write_clip(path: Path, picture: Picture) -> None:
    """An mp4: the frames, beside them those with each map, below the curve with a mark that moves.
    Raises WriteError."""
    overlays = picture.overlays()
    size = overlays[0][1].shape[1]
    width = (1 + len(overlays)) * size + len(overlays) * GAP
    plain = [cv2.resize(frame, (size, size)) for frame in picture.frames]
    tiles = [("as it was seen", np.stack(plain)), *overlays]
    page = Image.new("RGB", (width, 2 * HEAD + size + GAP + CURVE + HEAD), PAPER)
    draw = ImageDraw.Draw(page)
    slower = slowed(picture.times)
    title = picture.title if slower == 1 else f"{picture.title}, {slower:g} times slower"
    draw_text(draw, (GAP, HEAD / 2), ellipsized(printable(title), TEXT, width - 2 * GAP), TEXT, INK)
    for place, (name, _) in enumerate(tiles):
        name = ellipsized(name, TEXT, size)
        draw_text(draw, (place * (size + GAP) + GAP, 1.5 * HEAD), name, TEXT, SOFT)
    top = 2 * HEAD + size + GAP
    _draw_curve(draw, picture, (GAP, top, width - GAP, top + CURVE))
    base = np.asarray(page)
    steps = slower * _steps(picture.times)
    shown = np.concatenate([[0.0], np.cumsum(steps)])
    height, width, _ = base.shape
    with VideoWriter(path, height, width, 1 / float(np.median(steps))) as writer:
        for number in range(len(picture.frames)):
            now = base.copy()
            for place, (_, frames) in enumerate(tiles):
                left = place * (size + GAP)
                now[2 * HEAD : 2 * HEAD + size, left : left + size] = frames[number]
            middle = round(_x(number, len(picture.frames), GAP, width - GAP))
            now[top : top + CURVE, middle - 1 : middle + 2] = (0, 0, 0)
            writer.write(now, float(shown[number]), float(steps[number]))


def slowed(times: NDArray[np.float64]) -> int:
    """How many times slower than it was a clip plays, to last SHORTEST."""
    return max(1, round(SHORTEST / float(_steps(times).sum())))


def _steps(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds that each frame is shown, (T,). One that a short video's clip repeats, or after which
    it starts again, is shown as long as most, and where all are one frame 1/25."""
    steps = np.diff(times)
    rising = steps > 0
    usual = float(np.median(steps[rising])) if rising.any() else 0.04
    return np.append(np.where(rising, steps, usual), usual)


def draw_strip(picture: Picture) -> Image.Image:
    """Frames evenly out of the clip, a row for each map, and the curve."""
    overlays = picture.overlays()
    size, count = overlays[0][1].shape[1], len(picture.frames)
    chosen = np.unique(np.linspace(0, count - 1, min(STRIP_FRAMES, count)).round().astype(int))
    width = len(chosen) * (size + GAP) + GAP
    row = HEAD + size
    image = Image.new("RGB", (width, HEAD + len(overlays) * row + HEAD + CURVE + HEAD), PAPER)
    draw = ImageDraw.Draw(image)
    draw_text(draw, (GAP, HEAD / 2), ellipsized(printable(picture.title), TEXT, width), TEXT, INK)
    for line, (name, frames) in enumerate(overlays):
        top = HEAD + line * row
        draw_text(draw, (GAP, top + HEAD / 2), name, TEXT, SOFT)
        for place, number in enumerate(chosen):
            left = GAP + place * (size + GAP)
            image.paste(Image.fromarray(frames[number]), (left, top + HEAD))
    below = HEAD + len(overlays) * row
    for place, number in enumerate(chosen):
        text = f"{format_time(float(picture.times[number]), 0.01)}  {picture.when[number]:.0%}"
        draw_text(draw, (GAP + place * (size + GAP), below + HEAD / 2), text, TEXT, INK)
    _draw_curve(draw, picture, (GAP, below + HEAD, width - GAP, below + HEAD + CURVE))
    return image


def _x(number: int, count: int, left: float, right: float) -> float:
    return left + (right - left) * (number + 0.5) / count


def _draw_curve(
    draw: ImageDraw.ImageDraw, picture: Picture, box: tuple[int, int, int, int]
) -> None:
    """A bar for each frame, the highest as high as the box; a line where all would be alike."""
    left, top, right, bottom = box
    count, highest = len(picture.when), max(float(picture.when.max()), 1e-12)
    for number, share in enumerate(picture.when):
        x = _x(number, count, left, right)
        half = max(1.0, 0.4 * (right - left) / count)
        y = bottom - (bottom - top) * float(share) / highest
        draw.rectangle((x - half, min(y, bottom - 1), x + half, bottom), fill=COLOURS[0])
    even = bottom - (bottom - top) / (count * highest)
    if even >= top:
        draw.line((left, even, right, even), fill=LINES, width=2)
    first, last = (format_time(float(picture.times[place]), 0.01) for place in (0, -1))
    draw_text(draw, (left, bottom + HEAD / 2), f"{first}  when", TEXT, SOFT)
    draw_text(draw, (right, bottom + HEAD / 2), last, TEXT, SOFT, "rm")
