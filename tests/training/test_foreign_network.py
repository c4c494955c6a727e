"""A training from weights of another network: it stays that network, also when it goes on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.model.description import NetworkDescription, network_defaults
from slowfast_dist.runs.best_model import read_best
from slowfast_dist.runs.checkpoint import Checkpoint
from slowfast_dist.training.network import network_of, set_up_network
from slowfast_dist.training.start_weights import find_weights
from tests.helpers.small_model import CLIP, write_model
from tests.helpers.training_runs import TINY, train, trained
from tests.model.test_variants import FOUR_BY_SIXTEEN, OPEN_MMLAB

MOTIONS = ("moves left", "moves right", "turns clockwise")
FLAGS = (
    *TINY, "--epochs", "1", "--global-batch-size", "8", "--micro-batch-size", "4",
    "--checkpoint.every-steps", "1", "--checkpoint.keep", "3", "--data.short-videos", "loop",
    "--schedule.warmup-epochs", "0",
)  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some are shorter than a clip."""
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 6, seed=0, size=32, frames=6, classes=MOTIONS)
    return root


def their_models(folder: Path, network: NetworkDescription) -> Path:
    return write_model(
        folder, MOTIONS, data=replace(CLIP, short_videos="loop"), network=network
    )


@pytest.mark.slow
def test_it_goes_on_to_the_bit_where_the_weights_are_gone(videos: Path, tmp_path: Path) -> None:
    models = their_models(tmp_path / "theirs" / "models", OPEN_MMLAB)
    flags = (*FLAGS, "--data.root", videos, "--model.weights", models)
    done = train(*flags, "--output-dir", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    assert "is that of the weights: slowfast_tiny with fusion_kernel 5, slow_f" in done.stdout
    assert "head: kept, the same 3 classes" in done.stdout
    assert "saw other clips: --data.short-side 40 (here 32)\n" in done.stdout  # and loop, as here
    shutil.rmtree(tmp_path / "theirs")
    first = tmp_path / "whole" / "checkpoints" / "step_00000001"
    resumed = trained(tmp_path / "resumed", *flags, "--resume", first)
    found = []
    for run in (tmp_path / "whole", resumed):
        best = read_best(run)
        assert best.load().description == OPEN_MMLAB and best.data.short_videos == "loop"
        found.append(torch.load(run / "models" / "best_model_weights.pth"))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    # And so do the weights of a checkpoint, taken by themselves.
    assert find_weights(first / "model.safetensors")[0].description == OPEN_MMLAB
    content = json.loads((resumed / "models" / "best_model.json").read_text())
    assert content["model"]["slow_frames"] == "stride" and not content["model"]["lateral_norm"]


def test_a_checkpoint_of_an_older_version_is_of_the_published_network() -> None:
    assert network_of({}, "slowfast_r101") == network_defaults("slowfast_r101")
    assert network_of({"network": OPEN_MMLAB.as_json()}, "slowfast_r101") == OPEN_MMLAB
    damaged: list[Any] = [None, [], {"name": 3}, OPEN_MMLAB.as_json() | {"alpha": 0}]
    for broken in damaged:
        with pytest.raises(RunError, match="the checkpoint's network is not one of this version"):
            network_of({"network": broken}, "slowfast_r101")


@pytest.mark.usefixtures("on_cpu")
def test_a_run_that_goes_on_looks_for_no_published_weights() -> None:
    """There are none of this name, and who begins with it is told so."""
    config, accelerator = ModelConfig("slowfast_tiny", pretrained="ssv2"), Accelerator(cpu=True)
    state = {"norm": "local", "network": OPEN_MMLAB.as_json()}
    network, loaded = set_up_network(config, 3, accelerator, Checkpoint({}, {}, {}, state))
    assert network.description == OPEN_MMLAB and network.norm == "local" and loaded.head is None
    with pytest.raises(UserError, match="published weights of slowfast_r50, not of slowfast_tiny"):
        set_up_network(config, 3, accelerator, None)


def test_frames_that_its_slow_pathway_cannot_take_are_one_line(
    videos: Path, tmp_path: Path
) -> None:
    models = their_models(tmp_path / "models", FOUR_BY_SIXTEEN)
    done = train(
        *FLAGS, "--data.root", videos, "--model.weights", models, "--output-dir", tmp_path / "run",
        "--data.num-frames", "12",
    )  # fmt: skip
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line == (
        "error: --data.num-frames 12: give a multiple of 8, as the slow pathway of this "
        "slowfast_tiny takes one frame in 8"
    )
