"""Which validation clips are near each other, in real runs: by the features of the best model that
the validation's own pass gave, among other groups, and the same of any number of processes."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.loaders import make_evaluation_loader
from slowfast_dist.data.sampler import ViewKey
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.workers import WorkerPlan
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import load_best
from slowfast_dist.runs.predictions import find_predictions, neighbours_of
from slowfast_dist.training import evaluation
from slowfast_dist.training.evaluation import Scores, evaluate, holds_features
from slowfast_dist.training.run import run_training
from slowfast_dist.video.probe import probe_file
from tests.helpers.training_runs import TINY, trained
from tests.helpers.video_tables import table_of

DATA = DataConfig(num_frames=8, sampling_rate=1, short_side=(40, 40), crop_size=32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 classes of 10 videos in 5 groups, c_0 to c_4."""
    folder = tmp_path_factory.mktemp("videos") / "all"
    make_videos(folder, 10, seed=0, size=48, frames=12, classes=("moves left", "moves right"))
    for path in sorted(folder.rglob("*.mp4")):
        number = int(path.stem[-3:])
        path.rename(path.with_name(f"c_{number % 5}_{number}.mp4"))
    return folder


def table(root: Path) -> VideoTable:
    records = list(list_videos(root, "data").videos)
    return table_of(records, [probe_file(record.path) for record in records])


def frames_of(clips: EvaluationClips, video: int, view: int) -> torch.Tensor:
    frames = clips[ViewKey(video, view)].frames
    assert frames is not None
    return frames


# The pass of an evaluation


def scored(network: SlowFast, clips: EvaluationClips, features: bool, flip: bool) -> Scores:
    loader = make_evaluation_loader(clips, 6, WorkerPlan(0), 0, 1, pin=False)
    accelerator = make_accelerator("no", 120.0)
    found = evaluate("test", network, loader, accelerator, flip, features=features)
    assert found is not None
    return found


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(
    ("views", "flip"), [((1, 1), False), ((2, 3), False), ((1, 1), True)], ids=str
)
def test_features_are_the_networks_and_the_logits_stay_to_the_bit(
    root: Path, views: tuple[int, int], flip: bool
) -> None:
    torch.manual_seed(0)
    network = SlowFast("slowfast_tiny", 2, 0.5).eval()
    clips = EvaluationClips(table(root), DATA, *views)
    bare, found = (scored(network, clips, features, flip) for features in (False, True))
    assert bare.features is None and found.features is not None
    assert bare.logits.tobytes() == found.logits.tobytes()
    units = []
    for video in range(len(clips.videos)):
        for view in range(clips.views):
            read = frames_of(clips, video, view)
            frames = [read, read.flip(-1)] if flip else [read]
            with torch.inference_mode():
                own = network.features(torch.stack(frames))
            units.append(torch.nn.functional.normalize(own, dim=1).mean(dim=0).numpy())
    expected = np.stack(units).reshape(len(clips.videos), clips.views, -1).mean(axis=1)
    assert found.features.shape == expected.shape
    np.testing.assert_allclose(found.features, expected, atol=2e-3)
    assert np.ptp(expected, axis=0).max() > 0.02, "the videos differ by more than that"


def test_memory_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, clips = SlowFast("slowfast_tiny", 2, 0.5), EvaluationClips(table(root), DATA, 2, 3)
    size = 20 * 6 * network.head.proj.in_features * 2
    monkeypatch.setattr(evaluation, "MOST_FEATURE_BYTES", size)
    assert holds_features(network, clips)
    monkeypatch.setattr(evaluation, "MOST_FEATURE_BYTES", size - 1)
    assert not holds_features(network, clips)


# Trainings


def arguments(root: Path) -> tuple[str | Path, ...]:
    return (
        *TINY, "--data.root", root, "--data.group-pattern", r"c_\d", "--data.val-fraction", "0.6",
        "--epochs", "1", "--global-batch-size", "4", "--micro-batch-size", "2",
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory, on_cpu: None) -> Path:
    """An epoch, validated on 12 videos of 3 groups."""
    return trained_here(tmp_path_factory.mktemp("runs") / "run", *arguments(root))


def trained_here(output: Path, *words: str | Path) -> Path:
    """In this process."""
    config = parse_training([*map(str, words), "--output-dir", str(output)])
    assert config is not None
    assert run_training(config)["status"] == "finished"
    return output


def test_a_run_knows_the_nearest_of_other_groups(run: Path, root: Path) -> None:
    found = find_predictions(run / "predictions" / "val_best.csv")
    assert found is not None and found.nearest is not None
    best, network = load_best(run)
    clips = EvaluationClips(table(root), best.data)
    places = {name: place for place, name in enumerate(clips.videos.names)}
    frames = [frames_of(clips, places[name], 0) for name in found.names]
    with torch.inference_mode():
        units = network.features(torch.stack(frames))
    unit = torch.nn.functional.normalize(units, dim=1).double().numpy()
    groups = [Path(name).stem[:3] for name in found.names]
    assert len(groups) == 12 and len(set(groups)) == 3
    for row, nearest in enumerate(found.nearest.tolist()):
        near = [one for one in nearest if one >= 0]
        assert len(near) == 3, "half of what a class has"
        others = [one for one in range(12) if groups[one] != groups[row]]
        assert set(near) <= set(others)
        cosines = sorted((float(unit[row] @ unit[one]) for one in others), reverse=True)[:3]
        np.testing.assert_allclose([unit[row] @ unit[one] for one in near], cosines, atol=1e-3)


def test_the_list_and_the_page_say_it(run: Path) -> None:
    found = find_predictions(run / "predictions" / "val_best.csv")
    assert found is not None
    with open(run / "wrong_labels.csv", newline="") as file:
        listed = list(csv.DictReader(file))
    assert listed, "an epoch teaches a model so little that it doubts some"
    page = (run / "report.html").read_text()
    for one in listed:
        words = one["reason"].rpartition("; ")[2]
        assert words in page
        assert words.partition(" ")[0].replace("none", "0") == one["nearest_suggested"]
        assert "of its 3 nearest clips" in words and one["nearest"] == "3"


@pytest.mark.slow
def test_two_processes_say_the_same(root: Path, tmp_path: Path) -> None:
    """With weights that stay as they are, to the byte."""
    still = (
        *arguments(root), "--model.norm", "frozen", "--optimizer.lr", "1e-30",
        "--optimizer.weight-decay", "0",
    )  # fmt: skip
    one, two = (trained(tmp_path / str(n), *still, processes=n) for n in (1, 2))
    for name in (Path("predictions/val_best.csv"), Path("predictions/val_best_neighbours.json")):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    told = json.loads(neighbours_of(one / "predictions" / "val_best.csv").read_text())
    assert len({tuple(row) for row in told["nearest"]}) > 3


@pytest.mark.usefixtures("on_cpu")
def test_several_labels_have_none(root: Path, tmp_path: Path) -> None:
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.mp4"))
    listed = tmp_path / "list.csv"
    rows = [f"{name},{'left|any' if 'left' in name else 'any'}" for name in names]
    listed.write_text("\n".join(["path,labels", *rows, ""]))
    words = (*arguments(listed), "--data.videos", root, "--loss.name", "bce")
    run = trained_here(tmp_path / "run", *words)
    assert not neighbours_of(run / "predictions" / "val_best.csv").exists()
    assert (run / "predictions" / "val_best.csv").exists()
