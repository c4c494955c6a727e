"""predict --segments, end to end with a trained model: videos of several classes in turn."""

import json
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from slowfast_dist.data.synthetic import Motion, moving_disc
from slowfast_dist.video.writer import write_video
from tests.helpers.training_runs import TINY, launch, trained

FPS = 15
CLASSES = {
    "falls": (Motion(y=1), (1.0, 0.6, 0.6)),
    "passes": (Motion(x=1), (0.6, 1.0, 0.6)),
    "turns": (Motion(turn=1), (0.6, 0.6, 1.0)),
}
"""Motion and tint. It is the tint that a training of seconds learns: motions alone take longer."""

ORDERS = (
    {"falls": 50, "turns": 70, "passes": 40},
    {"passes": 64, "falls": 38, "turns": 55},
    {"turns": 45, "passes": 45, "falls": 80},
)
"""Classes of each video, in turn, and how many frames of each."""

WINDOW = 15 / FPS
"""Seconds that a clip of 8 frames at rate 2 spans: predict's own window here."""


def scene(name: str, frames: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    motion, tint = CLASSES[name]
    rng = np.random.default_rng([seed, frames])
    for frame in moving_disc(motion, 32, frames, rng):
        yield np.rint(frame * np.array(tint)).astype(np.uint8)


@pytest.mark.slow
def test_the_timeline_of_three_classes_in_turn(tmp_path: Path) -> None:
    """Each boundary found within a window, one to one, none too many, and the labels in order."""
    for name in CLASSES:
        (tmp_path / "videos" / name).mkdir(parents=True)
        for number in range(12):
            path = tmp_path / "videos" / name / f"{number}.mp4"
            write_video(path, scene(name, 24, number), FPS)
    run = trained(
        tmp_path / "run", *TINY, "--data.sampling-rate", "2", "--data.root", tmp_path / "videos",
        "--data.val-fraction", "0.25", "--epochs", "5", "--global-batch-size", "4",
        "--micro-batch-size", "4", "--model.norm", "local", "--optimizer.lr", "0.002",
        "--model.dropout", "0",
    )  # fmt: skip
    (tmp_path / "long").mkdir()
    for number, order in enumerate(ORDERS):
        scenes = (scene(name, count, 100 + number) for name, count in order.items())
        write_video(tmp_path / "long" / f"{number}.mp4", chain.from_iterable(scenes), FPS)
    done = launch(
        "-m", "slowfast_dist", "predict", run, tmp_path / "long", "--json", "--segments",
        "--output", tmp_path / "timelines",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(ORDERS)
    for row, order in zip(rows, ORDERS, strict=True):
        found = row["segments"]
        assert [segment["class"] for segment in found] == list(order)
        ends = np.cumsum(list(order.values())) / FPS
        off = [abs(segment["end"] - end) for segment, end in zip(found, ends, strict=True)]
        print(f"\nmeasured: boundaries off by {off[0]:.2f} and {off[1]:.2f} s, windows of 1 s")
        assert max(off) < WINDOW
        assert all(before["end"] == after["start"] for before, after in pairwise(found))
