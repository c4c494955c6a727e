"""A long video of the demo's motions, parted by pauses, with the list of its segments, and the same
segments cut out: what a training on the one gives it must give on the other."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.data.synthetic import DEMO_SIZE, MOTIONS, moving_disc
from slowfast_dist.video.writer import write_video

FPS = 15

Frames = Iterator[NDArray[np.uint8]]


@dataclass(frozen=True)
class Part:
    """A segment of the long video: its class, its frames (first, end), and its side."""

    label: str
    first: int
    end: int
    side: str


def plan(count: int, seconds: float, seed: int = 0, val_share: float = 0.25) -> list[Part]:
    """``count`` segments of 2 to 4 s in a video of so many ``seconds``, of each motion equally
    many, in random order; the last ones in time are for validation."""
    rng = np.random.default_rng(seed)
    labels = [list(MOTIONS)[number % len(MOTIONS)] for number in range(count)]
    rng.shuffle(labels)
    slot = seconds * FPS / count
    parts = []
    for number, label in enumerate(labels):
        frames = int(rng.integers(2 * FPS, 4 * FPS + 1))
        first = int(number * slot + rng.uniform(0, slot - frames - 1))
        side = "val" if number >= round(count * (1 - val_share)) else "train"
        parts.append(Part(label, first, first + frames, side))
    return parts


def pictures(parts: Sequence[Part], total: int, size: int = DEMO_SIZE) -> Frames:
    """The video: in a pause the last picture stands still."""
    picture = np.full((size, size, 3), 112, np.uint8)
    place = 0
    for part in parts:
        yield from repeat(picture, part.first - place)
        for picture in part_pictures(part, size):
            yield picture
        place = part.end
    yield from repeat(picture, total - place)


def part_pictures(part: Part, size: int = DEMO_SIZE) -> Frames:
    rng = np.random.default_rng([1, part.first])
    return moving_disc(MOTIONS[part.label], size, part.end - part.first, rng)


def encoder(key_seconds: float) -> dict[str, str]:
    """Options of x264: a keyframe every so many seconds, and no others."""
    interval = str(round(key_seconds * FPS))
    return {
        "preset": "veryfast", "qp": "20", "g": interval, "keyint_min": interval,
        "sc_threshold": "0", "bf": "0",
    }  # fmt: skip


def write_long(
    folder: Path, parts: Sequence[Part], seconds: float, key_seconds: float = 10,
    size: int = DEMO_SIZE, name: str = "long.mp4",
) -> Path:  # fmt: skip
    """The video, and the list of its segments: returns that."""
    folder.mkdir(parents=True, exist_ok=True)
    write_video(folder / name, pictures(parts, round(seconds * FPS), size), FPS,
                encoder(key_seconds))  # fmt: skip
    table = folder / "segments.csv"
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "start", "end", "split"))
        for part in parts:
            times = (f"{frame / FPS:.3f}" for frame in (part.first, part.end))
            writer.writerow((name, part.label, *times, part.side))
    return table


def pauses(parts: Sequence[Part], label: str, margin: float = 0.5) -> list[tuple[Part, Part]]:
    """What lies between two segments of one side, ``margin`` seconds from each, 1 to 4 s of it, as
    segments of the class ``label``, each with the one before it; as many, evenly over the time, as
    a motion has segments."""
    found = []
    for before, after in pairwise(parts):
        first, end = before.end + round(margin * FPS), after.first - round(margin * FPS)
        if before.side == after.side and end - first >= FPS:
            pause = Part(label, first, min(end, first + 4 * FPS), before.side)
            found.append((pause, before))
    return found[:: max(1, len(found) * len(MOTIONS) // len(parts))]


def write_cut(
    folder: Path, parts: Sequence[Part], key_seconds: float = 10, size: int = DEMO_SIZE,
    still: Sequence[tuple[Part, Part]] = (),
) -> Path:  # fmt: skip
    """The same segments, each in a file of its own, and the ``still`` ones, as `pauses` gives them;
    returns their list."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "cut.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        clips = [(part, part_pictures(part, size)) for part in parts]
        for part, before in still:
            *_, last = part_pictures(before, size)
            clips.append((part, repeat(last, part.end - part.first)))
        for number, (part, shown) in enumerate(clips):
            name = f"clip_{number:04}.mp4"
            write_video(folder / name, shown, FPS, encoder(key_seconds))
            writer.writerow((name, part.label, part.side))
    return folder / "cut.csv"
