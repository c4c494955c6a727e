"""Videos that cost what people's videos cost: moving textures and grain, in H.264 as ffmpeg writes.

Nothing in a frame stands still and nothing is flat, so that every macroblock takes its share of
bits; at 1280x720 the result is about as large as a video site's.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slowfast_dist.video.writer import write_video

FPS = 30

GRAIN = 3.0
"""Standard deviation of the noise, in grey levels, as of a camera in good light."""

MARGIN = 0.25
"""How far beyond the frame the background reaches, on each side, for the camera to move over."""

Image = NDArray[np.uint8]


def write_benchmark_video(path: Path, size: str, key_interval: int, frames: int, seed: int) -> None:
    """Encode ``frames`` of a scene, drawn from ``seed``, of a ``size`` such as 1280x720, as
    ``ffmpeg -g KEY_INTERVAL`` does by default: x264's preset medium at crf 23, with B-frames and
    closed groups of pictures. Raises WriteError where ``path`` cannot be written.
    """
    options = {"preset": "medium", "crf": "23", "g": str(key_interval)}
    width, height = map(int, size.split("x"))
    images = scene(width, height, frames, np.random.default_rng(seed))
    write_video(path, images, FPS, options, threads=0)


def scene(width: int, height: int, frames: int, rng: np.random.Generator) -> Iterator[Image]:
    """Frames uint8 (height, width, 3), RGB: a camera in motion over a landscape of blotches, before
    which five textured discs pass, with grain over all."""
    margins = np.array([width, height]) * MARGIN
    background = _texture(width + 2 * int(margins[0]), height + 2 * int(margins[1]), rng)
    discs = [_Disc(width, height, rng) for _ in range(5)]
    grain = [_grain(width, height, rng) for _ in range(6)]
    turns, phases = rng.uniform(0.5, 1.5, 3), rng.uniform(0, 2 * np.pi, 3)
    for frame in range(frames):
        sway = np.sin(0.5 * frame / FPS * turns + phases)
        zoom = 1 + 0.05 * sway[2]
        centre = margins * (1 + 0.8 * sway[:2]) + np.array([width, height]) / 2
        x, y = centre - np.array([width, height]) / (2 * zoom)
        lens = np.array([[1 / zoom, 0, x], [0, 1 / zoom, y]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        image = np.asarray(cv2.warpAffine(background, lens, (width, height), flags=how), np.uint8)
        for disc in discs:
            disc.paint(image, frame / FPS)
        noise = grain[rng.integers(len(grain))]
        yield np.asarray(cv2.addWeighted(image, 1, noise, 1, -128), np.uint8)


class _Disc:
    """A textured disc that crosses the frame in two to six seconds, and comes back."""

    def __init__(self, width: int, height: int, rng: np.random.Generator) -> None:
        radius = max(2, int(height * rng.uniform(0.06, 0.2)))
        self.side = 2 * radius
        self.texture = _texture(self.side, self.side, rng)
        grid = np.hypot(*(np.mgrid[: self.side, : self.side] - radius + 0.5))
        self.inside = np.asarray(grid < radius)[..., None]
        self.frame = np.array([width, height]) + self.side
        self.start = rng.uniform(0, 1, 2) * self.frame
        self.speed = rng.choice([-1, 1], 2) * np.array([width, height]) / rng.uniform(2, 6, 2)

    def paint(self, image: Image, seconds: float) -> None:
        place = (self.start + self.speed * seconds) % self.frame - self.side
        left, top = map(int, place)
        target = image[max(0, top) : top + self.side, max(0, left) : left + self.side]
        rows = slice(max(0, -top), max(0, -top) + target.shape[0])
        columns = slice(max(0, -left), max(0, -left) + target.shape[1])
        np.copyto(target, self.texture[rows, columns], where=self.inside[rows, columns])


def _texture(width: int, height: int, rng: np.random.Generator) -> Image:
    """Blotches of all sizes, the smaller the fainter, as photographs have; of many colours."""
    result = np.full((height, width, 3), 128, np.float32)
    cell = max(width, height) / 3
    while cell >= max(2, height / 400):
        shape = (int(height / cell) + 2, int(width / cell) + 2)
        light, colour = rng.normal(size=(*shape, 1)), rng.normal(size=(*shape, 3))
        coarse = (light + 0.4 * colour).astype(np.float32)
        strength = 45 * (3 * cell / max(width, height)) ** 0.5
        result += strength * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cell /= 2
    return np.clip(result, 0, 255).astype(np.uint8)


def _grain(width: int, height: int, rng: np.random.Generator) -> Image:
    """Noise around 128, the same in red, green and blue."""
    noise = rng.normal(128, GRAIN, (height, width, 1)).astype(np.float32)
    return np.repeat(np.rint(np.clip(noise, 0, 255)).astype(np.uint8), 3, axis=2)
