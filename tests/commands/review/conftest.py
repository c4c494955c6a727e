"""A run with its videos, of which some have a wrong label, and the page in a process of its own."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.training import Config
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.predictions import write_predictions
from tests.helpers.made_runs import ENVIRONMENT
from tests.helpers.serving import Server

CLASSES = ("moves left", "moves right", "turns clockwise")


def write_run(
    folder: Path, root: Path, names: list[str], labels: list[str], classes: list[str],
    logits: np.ndarray,
) -> Path:  # fmt: skip
    """A finished run that was validated on every second of its videos."""
    run = RunFolder(folder)
    run.describe(Config(output_dir=folder, data=DataConfig(root=root)), classes, ENVIRONMENT)
    with open(folder / "split.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "class", "split", "group"])
        for place, (name, label) in enumerate(zip(names, labels, strict=True)):
            writer.writerow([name, label, ("val", "train")[place % 2], name])
    numbers = np.array([classes.index(label) for label in labels[::2]])
    write_predictions(run.predictions, names[::2], numbers, logits[::2], classes)
    run.set_status("finished")
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of each of three classes, 24 frames at 30 a second."""
    root = tmp_path_factory.mktemp("clips")
    make_videos(root, 4, 0, size=64, frames=24, classes=CLASSES)
    return root


@pytest.fixture(scope="session")
def run(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its model is sure that the third video validated, moves right/clip_000.mp4, moves left, and
    knows little of the fourth."""
    names = [f"{name}/clip_{number:03}.mp4" for name in CLASSES for number in range(4)]
    labels = [name for name in CLASSES for _ in range(4)]
    logits = np.full((12, 3), -2.0)
    logits[np.arange(12), np.repeat(np.arange(3), 4)] = 2.0 + 0.1 * np.arange(12)
    logits[4] = [3.0, -1.0, -2.0]
    logits[6] = [0.5, 1.0, -2.0]
    folder = tmp_path_factory.mktemp("runs") / "demo"
    return write_run(folder, clips, names, labels, list(CLASSES), logits)


Start = Callable[..., Server]


@pytest.fixture
def review(tmp_path: Path) -> Iterator[Start]:
    """Starts the command on a run, a list or a folder; its list is annotations.csv in tmp_path."""
    servers = list[Server]()

    def start(word: Path, *flags: str, output: Path = tmp_path / "annotations.csv") -> Server:
        folder = tmp_path / f"server{len(servers)}"
        more = ("--output", str(output), *flags)
        servers.append(Server(word, folder, *more, command="review"))
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__()
