"""Small videos whose class is how they move, and nothing else: for the demo and for tests.

A disc with a random texture lies on a random background, at a random place and angle. Then it
moves in a straight line, coming back on the other side when it leaves the frame, or it turns on
the spot. At every moment place and angle are as random as at the start, so one frame alone tells
nothing about the class.
"""

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.video.container import message
from slowfast_dist.video.writer import WriteError, write_video

DEMO_CLIPS_PER_CLASS = 60
DEMO_SIZE = 72
DEMO_FRAMES = 32
DEMO_SEED = 0

Colour = tuple[int, int, int]
BACKGROUND: tuple[Colour, Colour] = ((94, 108, 118), (124, 138, 146))
DISC: tuple[Colour, Colour] = ((16, 24, 84), (255, 224, 136))
"""Darkest and lightest RGB. One scale of brightness each: textures of many colours are learned by
heart (192 clips, 8 epochs, one seed: validation accuracy .65 with many, .90 with one)."""


@dataclass(frozen=True)
class Motion:
    """Direction of the movement in the image (x to the right, y down); turn 1 is clockwise."""

    x: int = 0
    y: int = 0
    turn: int = 0


MOTIONS: Mapping[str, Motion] = {
    "moves down": Motion(y=1),
    "moves left": Motion(x=-1),
    "moves right": Motion(x=1),
    "moves up": Motion(y=-1),
    "turns anticlockwise": Motion(turn=-1),
    "turns clockwise": Motion(turn=1),
}
"""Class name -> its motion."""


def make_videos(
    root: Path, clips_per_class: int, seed: int, *, size: int = DEMO_SIZE,
    frames: int = DEMO_FRAMES, fps: int = 15, classes: tuple[str, ...] = tuple(MOTIONS),
) -> None:  # fmt: skip
    """Write ``root/CLASS/clip_000.mp4`` and so on: square H.264 videos of ``size`` x ``size`` px.

    The same arguments give the same pixels; a clip does not depend on how many others there are.
    """
    assert size % 2 == 0, f"H.264 with 4:2:0 colour needs an even size, not {size}"
    for name in classes:
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(clips_per_class):
            rng = np.random.default_rng([seed, list(MOTIONS).index(name), index])
            clip = moving_disc(MOTIONS[name], size, frames, rng)
            write_video(folder / f"clip_{index:03d}.mp4", clip, fps)


def make_demo_videos(root: Path) -> bool:
    """Make the demo's videos in ``root`` unless that exists; return whether they were made.

    A folder that exists is left as it is, whatever it holds. The folder appears complete or not at
    all, also when several processes ask for it at once: all may work, the first one's result is
    kept. Raises UserError where ``root`` cannot be written.
    """
    if root.exists():
        return False
    temporary = root.with_name(f".{root.name}.{uuid.uuid4().hex}.tmp")
    try:
        make_videos(temporary, DEMO_CLIPS_PER_CLASS, DEMO_SEED)
        try:
            os.rename(temporary, root)
        except OSError:
            if not root.is_dir():  # else another process was first
                raise
            return False
    except (OSError, WriteError) as error:
        raise UserError(
            f"--data.root {root}: the demo's videos cannot be written there ({message(error)}): "
            "give a folder that can be made"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def moving_disc(
    motion: Motion, size: int, frames: int, rng: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    """Frames uint8 (size, size, 3), RGB. Whatever the motion, ``rng`` is drawn from alike."""
    for frame, _ in covered_frames(motion, size, frames, rng):
        yield frame


def covered_frames(
    motion: Motion, size: int, frames: int, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """The frames of `moving_disc`, and which share of each pixel the disc covers, float32 (size,
    size)."""
    background = _texture(rng, 4, size, BACKGROUND)
    radius = size * rng.uniform(0.3, 0.4)
    disc = _texture(rng, 7, size, DISC)
    start_x, start_y = rng.uniform(0, size, 2)
    start_angle = rng.uniform(0, 2 * np.pi)
    speed = size * rng.uniform(0.035, 0.05)  # px a frame
    turning = rng.uniform(0.15, 0.25)  # radians a frame
    grid_y, grid_x = np.mgrid[:size, :size].astype(np.float32)
    for frame in range(frames):
        # From the disc's centre to each pixel, the shortest way round the torus.
        x = (grid_x - start_x - motion.x * speed * frame + size / 2) % size - size / 2
        y = (grid_y - start_y - motion.y * speed * frame + size / 2) % size - size / 2
        angle = start_angle + motion.turn * turning * frame
        u = np.cos(angle) * x + np.sin(angle) * y
        v = -np.sin(angle) * x + np.cos(angle) * y
        scale = size / (2 * radius)  # the texture spans the disc
        surface = cv2.remap(
            disc,
            ((u * scale + size) / 2).astype(np.float32),
            ((v * scale + size) / 2).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        cover = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)  # a soft edge
        picture = background + cover[..., None] * (surface - background)
        yield np.rint(picture).astype(np.uint8), cover.astype(np.float32)


def _texture(
    rng: np.random.Generator, cells: int, size: int, colours: tuple[Colour, Colour]
) -> NDArray[np.float32]:
    """Random smooth blotches from one colour to the other, float32 (size, size, 3)."""
    coarse = rng.uniform(size=(cells, cells)).astype(np.float32)
    light = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)[..., None]
    light = (light - light.min()) / (light.max() - light.min())
    dark_end, light_end = np.array(colours, np.float32)
    return np.asarray(dark_end + light * (light_end - dark_end), np.float32)
