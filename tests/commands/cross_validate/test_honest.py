"""The out-of-fold figure is honest: of labels that mean nothing it is chance, within its interval,
also where the videos of a recording give each other away."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.commands.cross_validate.command import run_cross_validation
from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.listing.folds.dealing import deal
from slowfast_dist.data.listing.listing import Listing
from slowfast_dist.data.listing.manifest import list_root
from slowfast_dist.metrics.uncertainty import bootstrap_intervals, group_intervals
from slowfast_dist.video.writer import write_video
from tests.commands.cross_validate.test_command import parsed
from tests.helpers.training_runs import TINY

GROUPS, CLASSES, COPIES = 20, 4, 3


def listing_of(folder: Path, labels: np.ndarray, grouped: bool) -> Listing:
    """Labels (GROUPS, CLASSES): of each recording one clip a class, each COPIES times."""
    lines = ["path,label,group"]
    for group in range(GROUPS):
        for clip in range(CLASSES):
            for copy in range(COPIES):
                name = f"{group:02d}_{clip}_{copy}.mp4"
                (folder / name).touch()
                lines.append(f"{name},c{labels[group, clip]},{group if grouped else ''}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return list_root(DataConfig(root=folder / "list.csv"))


def by_nearest(listing: Listing, looks: np.ndarray) -> np.ndarray:
    """Out of fold, what the most similar training clip is: copies look alike."""
    folds = deal(listing, 5)
    said = np.empty(len(folds), np.int64)
    labels = listing.videos.labels
    for fold in range(5):
        inside = folds == fold
        away = ((looks[inside][:, None] - looks[~inside][None]) ** 2).sum(axis=2)
        said[inside] = labels[~inside][away.argmin(axis=1)]
    return said


def test_labels_shuffled_by_recording_give_chance_within_the_interval(tmp_path: Path) -> None:
    """Where one copy of a clip may stand beside another, the same classifier is nearly always
    right; and intervals that take copies as independent miss chance too often."""
    held, missed, leaked = 0, 0, []
    for draw in range(20):
        rng = np.random.default_rng(draw)
        labels = np.stack([rng.permutation(CLASSES) for _ in range(GROUPS)])
        clips = rng.normal(size=(GROUPS * CLASSES, 16))
        for grouped in (True, False):
            folder = tmp_path / f"{draw}_{grouped}"
            folder.mkdir()
            listing = listing_of(folder, labels, grouped)
            names = [name.split("_") for name in listing.videos.names]
            place = np.array([int(group) * CLASSES + int(clip) for group, clip, _ in names])
            looks = clips[place] + 0.05 * rng.normal(size=(len(place), 16))
            said, truth = by_nearest(listing, looks), listing.videos.labels.astype(np.int64)
            if not grouped:
                leaked.append(float((said == truth).mean()))
                continue
            groups = place // CLASSES
            low, high = group_intervals(truth, said, groups, CLASSES)["accuracy"]
            held += low <= 1 / CLASSES <= high
            low, high = bootstrap_intervals(truth, said, CLASSES)["accuracy"]
            missed += not low <= 1 / CLASSES <= high
    assert held >= 17  # of 20, where 19 are expected
    assert missed > 20 - held
    assert min(leaked) > 0.9


def write_recordings(folder: Path, shuffled: bool) -> Path:
    """10 recordings, each with a dark and a light clip, each twice, and a look of its own."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["path,label,group"]
    for group in range(10):
        look = rng.integers(0, 60, (32, 32, 3))
        swapped = shuffled and rng.random() < 0.5
        for bright in (0, 1):
            for copy in range(2):
                level = 20 + 130 * bright + rng.integers(0, 20)
                noise = rng.integers(0, 8, (10, 32, 32, 3))
                frames = np.clip(look + level + noise, 0, 255).astype(np.uint8)
                name = f"r{group}_{bright}_{copy}.mp4"
                write_video(folder / name, list(frames), 15)
                lines.append(f"{name},{'ab'[bright ^ swapped]},r{group}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


@pytest.mark.slow
@pytest.mark.usefixtures("on_cpu")
def test_a_network_gains_nothing_from_shuffled_labels(tmp_path: Path) -> None:
    """The same network, with labels that mean something, is nearly always right."""
    found: dict[bool, Any] = {}
    for shuffled in (False, True):
        videos = write_recordings(tmp_path / f"videos_{shuffled}", shuffled)
        output = tmp_path / f"run_{shuffled}"
        words = [
            *TINY, "--data.root", str(videos), "--folds", "2", "--epochs", "3", "--model.dropout",
            "0", "--optimizer.lr", "3e-3", "--global-batch-size", "8", "--output-dir", str(output),
        ]  # fmt: skip
        assert run_cross_validation(parsed(*words))["status"] == "finished"
        found[shuffled] = json.loads((output / "cross_validation.json").read_text())
    assert found[False]["metrics"]["accuracy"] > 0.85
    for name in ("accuracy", "f1_macro"):
        low, high = found[True]["intervals"][name]
        assert low <= 0.5 <= high
    assert found[True]["intervals_over"] == "groups" and found[True]["groups"] == 10
