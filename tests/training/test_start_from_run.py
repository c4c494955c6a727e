"""A training that starts from another run's model, and one that diverges: what a user is told."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.model.slowfast import SlowFast
from tests.helpers.model_folders import replace_weights
from tests.helpers.training_runs import TINY, train, trained

MOTIONS = ("moves left", "moves right", "turns clockwise")
FLAGS = (
    *TINY, "--data.val-fraction", "0.4", "--epochs", "1", "--global-batch-size", "16",
    "--schedule.warmup-epochs", "0",
)  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 6, seed=0, size=32, frames=12, classes=MOTIONS)
    return root


@pytest.fixture(scope="module")
def run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its head is as sure of every video's being "moves left" as a trained one would be."""
    folder = trained(tmp_path_factory.mktemp("run") / "run", *FLAGS, "--data.root", videos)
    weights = folder / "models" / "best_model_weights.pth"
    state = torch.load(weights)
    state["blocks.6.proj.bias"] += torch.tensor([9.0, 0.0, 0.0])
    replace_weights(folder / "models", state)
    return folder


@pytest.fixture(scope="module")
def others(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many classes: one is the same, at another place, two are not."""
    root = tmp_path_factory.mktemp("others") / "all"
    for old, new in zip(MOTIONS, ("jumps", "moves left", "bows"), strict=True):
        shutil.copytree(videos / old, root / new)
    return root


@pytest.mark.slow
def test_a_run_gives_its_head_to_classes_of_the_same_names(
    run: Path, others: Path, tmp_path: Path
) -> None:
    output = tmp_path / "new"
    done = train(
        *FLAGS, "--data.root", others, "--model.weights", run, "--output-dir", output,
        "--optimizer.lr", "1e-9", "--data.crop-size", "28",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lists = "1 kept by name (moves left), 2 new (bows, jumps), 2 dropped (moves right, turns clock"
    assert done.stdout.count(f"head: classes {lists}") == 1
    assert done.stdout.count("saw other clips: --data.crop-size 32 (here 28)\n") == 1
    # Two of three videos are not of the only class that it is sure of: the mean is 6 nats.
    assert done.stdout.count("warning: the first loss, ") == 1
    best = json.loads((output / "models" / "best_model.json").read_text())
    head = {"kept": ["moves left"], "new": ["bows", "jumps"]}
    assert best["training"]["head"] == head | {"dropped": ["moves right", "turns clockwise"]}
    new = torch.load(output / "models" / "best_model_weights.pth")["blocks.6.proj.bias"]
    old = torch.load(run / "models" / "best_model_weights.pth")["blocks.6.proj.bias"]
    torch.testing.assert_close(new[best["classes"].index("moves left")], old[0])
    for text in ((output / "report.html").read_text(), (output / "models/README.md").read_text()):
        assert lists[:40] in text
    # A resume has the lists from its checkpoint, for the best models to come.
    shutil.rmtree(output / "models")
    (output / "status").write_text("failed\n")
    again = train(
        *FLAGS, "--data.root", others, "--model.weights", run, "--output-dir", output,
        "--optimizer.lr", "1e-9", "--data.crop-size", "28", "--epochs", "2", "--resume", "auto",
        "--resume-changed",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "first loss" not in again.stdout and "head:" not in again.stdout
    best = json.loads((output / "models" / "best_model.json").read_text())
    assert best["epoch"] == 2 and best["training"]["head"]["new"] == ["bows", "jumps"]


@pytest.mark.slow
def test_a_run_that_goes_on_with_its_classes_is_not_warned_of(
    run: Path, videos: Path, tmp_path: Path
) -> None:
    weights = torch.load(run / "models" / "best_model_weights.pth")
    weights["blocks.6.proj.bias"] -= torch.tensor([9.0, 0.0, 0.0])
    shutil.copytree(run / "models", tmp_path / "models")
    replace_weights(tmp_path / "models", weights)
    done = train(
        *FLAGS, "--data.root", videos, "--model.weights", tmp_path / "models", "--output-dir",
        tmp_path / "new",
    )  # fmt: skip
    assert done.returncode == 0 and "head: kept, the same 3 classes\n" in done.stdout
    assert "warning" not in done.stdout


@pytest.mark.slow
def test_a_run_that_diverged_is_none_that_finished(videos: Path, tmp_path: Path) -> None:
    """Its weights are numbers, and so is its loss."""
    output = tmp_path / "run"
    flags = (*FLAGS, "--data.root", videos, "--output-dir", output, "--optimizer.lr", "300")
    for resume in ("never", "auto"):
        done = train(*flags, "--resume", resume)
        assert done.returncode == 1, done.stdout
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert "the training diverged: val/loss of epoch 1, the last, is " in line
        assert "no best model was written" in line and "--optimizer.lr than 300" in line
        assert (output / "status").read_text() == "failed\n"
        assert "best so far" not in done.stdout and not (output / "models").exists()
        assert list((output / "checkpoints").iterdir())
    assert "The training diverged after 1 epoch of 1" in (output / "report.html").read_text()


def test_frozen_weights_that_are_no_numbers_are_refused_before_the_first_step(
    videos: Path, tmp_path: Path
) -> None:
    """Fused kernels would make numbers of them, and no gradient reaches a frozen backbone."""
    state = SlowFast("slowfast_tiny", 3, 0.0).state_dict()
    key = "blocks.1.multipathway_blocks.0.res_blocks.0.branch2.conv_a.weight"
    state[key][0, 0] = torch.nan
    torch.save(state, tmp_path / "nan.pth")
    done = train(
        *FLAGS, "--data.root", videos, "--output-dir", tmp_path / "run", "--model.freeze",
        "backbone", "--model.weights", tmp_path / "nan.pth",
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: --model.weights {tmp_path}/nan.pth: {key} (")
    assert not (tmp_path / "run").exists()
