"""The ways in which a pretraining shows clips: which frames, in which order, what of each picture.

The way is the label: whoever tells them apart has to see motion. Direction and order of time:
Misra et al., Shuffle and Learn (2016); Wei et al., Learning and Using the Arrow of Time (2018).
Speed: Benaim et al., SpeedNet (2020). Motion of the picture over that of the clip: as of Jing and
Tian (2018), who turn it. A way is made of the frames of a usual clip, so that it costs nothing.
"""

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.video.reader import Frames

WAYS = (
    "forwards", "backwards", "half speed", "double speed", "to and fro", "shuffled", "speeding up",
    "slowing down", "moving left", "moving right", "zooming in", "zooming out",
)  # fmt: skip
"""The classes of a pretraining, in their order. Those before moving left are of time alone; in the
others the clip plays forwards while its picture moves or grows."""

SHOWINGS = 4
"""Clips of each video in an epoch, each in another way, which follow each other: what the video
shows then tells nothing of the way, so that a network cannot do with what it remembers of it."""

SEGMENTS = 4
"""Parts of a shuffled clip: few enough that each shows some motion, and a clip of the least length
has a frame for each."""

WAY = 3
"""Behind (seed, epoch, video), what tells the draws of ways from those of where a clip lies, which
have no fourth number, of gaps, which have 1, and of augmentation, which have 2."""

SHOWN = 0.75
"""Share of the picture's height and width that is shown while it moves: so it moves by a third of
what is shown."""

ZOOMED = 0.6
"""The same at the small end of a zoom, whose other end is the whole picture."""


def way_of(seed: int, epoch: int, sample: int) -> tuple[int, np.random.Generator]:
    """The way of a training clip, and what draws the rest of it. The SHOWINGS of a video are the
    samples that have it in common."""
    video, showing = divmod(sample, SHOWINGS)
    ways = np.random.default_rng([seed, epoch, video, WAY]).permutation(len(WAYS))
    return int(ways[showing]), np.random.default_rng([seed, epoch, sample, WAY, 1])


def speed_of(way: int) -> float:
    """How much faster than usual the frames of the clip are taken, as of `clip_indices`. At double
    speed it is the usual clip that is shown, twice: no clip need be longer than usual."""
    return 0.5 if WAYS[way] == "half speed" else 1.0


def order(way: int, frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which of the clip's frames are shown, (frames,)."""
    forwards = np.arange(frames, dtype=np.int64)
    share = forwards / max(1, frames - 1)
    match WAYS[way]:
        case "backwards":
            return forwards[::-1]
        case "double speed":
            return 2 * forwards % frames
        case "to and fro":
            return np.minimum(2 * forwards, 2 * (frames - 1 - forwards) + 1)
        case "shuffled":
            return np.concatenate(_shuffled(np.array_split(forwards, SEGMENTS), rng))
        case "speeding up":
            return _nearest(share**2 * (frames - 1))
        case "slowing down":
            return _nearest((1 - (1 - share) ** 2) * (frames - 1))
    return forwards


def _shuffled(
    parts: list[NDArray[np.int64]], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """In an order in which no part follows the one that it follows in the clip."""
    while True:
        places = rng.permutation(len(parts))
        if not (np.diff(places) == 1).any():
            return [parts[place] for place in places]


def _nearest(places: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.floor(places + 0.5).astype(np.int64)


def windows(way: int, frames: int, rng: np.random.Generator) -> NDArray[np.float64] | None:
    """What of the picture each frame shows, (frames, 4): top, left, height and width as shares of
    it; None: all of it. A picture that moves to the left is seen through a window that moves to
    the right."""
    share = np.arange(frames) / max(1, frames - 1)
    if WAYS[way] in ("moving right", "zooming out"):
        share = share[::-1]
    if WAYS[way].startswith("moving"):
        top = np.full(frames, (1 - SHOWN) * rng.random())
        return np.stack([top, (1 - SHOWN) * share, *np.full((2, frames), SHOWN)], axis=1)
    if WAYS[way].startswith("zooming"):
        size = 1 - (1 - ZOOMED) * share
        corner = (1 - size) * rng.random((2, 1))
        return np.stack([*corner, size, size], axis=1)
    return None


def shown(way: int, clip: Frames, rng: np.random.Generator) -> Frames:
    """The clip uint8 (T, H, W, 3), whose frames were taken at `speed_of` the way, in that way; of
    each window the nearest pixels."""
    frames = len(clip)
    clip, parts = clip[order(way, frames, rng)], windows(way, frames, rng)
    if parts is None:
        return clip
    height, width = clip.shape[1:3]
    seen = np.empty_like(clip)
    for number, (top, left, high, wide) in enumerate(parts):
        rows = ((top + high * (np.arange(height) + 0.5) / height) * height).astype(np.int64)
        columns = ((left + wide * (np.arange(width) + 0.5) / width) * width).astype(np.int64)
        seen[number] = clip[number][rows[:, None], columns]
    return seen
