"""A head that starts as a linear probe of loaded weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.sampler import ViewKey
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.training.run import build_trainer, run_training
from slowfast_dist.training.weights.probe import start_head
from tests.helpers.training_runs import TINY, rows, trained

pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 10, seed=0, size=32, frames=10, classes=("moves left", "moves right"))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(SlowFast("slowfast_tiny", 7, 0.5).state_dict(), path)
    return path


def arguments(root: Path, weights: Path) -> tuple[str, ...]:
    return (
        *TINY, "--data.root", str(root), "--global-batch-size", "8", "--micro-batch-size", "4",
        "--model.weights", str(weights), "--model.probe", "--epochs", "1",
    )  # fmt: skip


def test_the_head_is_the_probe_and_nothing_else_changes(
    root: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "slowfast_dist")
    config = parse_training([*arguments(root, weights)])
    assert config is not None
    accelerator = make_accelerator("no", 120.0)
    videos = find_videos(config.data, config.seed)
    trainer = build_trainer(config, accelerator, videos)
    net = trainer.state.network
    before = {name: value.clone() for name, value in net.state_dict().items()}
    start_head(trainer.config, accelerator, videos, net)
    assert net.training and net.num_classes == 2
    changed = [name for name, value in net.state_dict().items()
               if not torch.equal(value, before[name])]  # fmt: skip
    assert changed == ["blocks.6.proj.weight", "blocks.6.proj.bias"]
    [line] = [message for message in caplog.messages if "linear probe" in message]
    assert "of 16 training clips right, each by a probe of other clips (3 folds)" in line
    # What it was fitted to it gets right more often than the new head.
    reader = EvaluationClips(videos.train, config.data)
    read = [reader[ViewKey(video, 0)].frames for video in range(len(videos.train))]
    frames = torch.stack([clip for clip in read if clip is not None])
    labels = torch.from_numpy(np.array(videos.train.labels)).long()
    net.eval()
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(net(frames), labels)
    assert len(labels) == 16 and loss < 0.6  # ln(2) is .69


@pytest.mark.slow
def test_processes_start_alike(root: Path, weights: Path, tmp_path: Path) -> None:
    one = trained(tmp_path / "one", *arguments(root, weights))
    two = trained(tmp_path / "two", *arguments(root, weights), processes=2)
    for first, second in zip(rows(one, "step"), rows(two, "step"), strict=True):
        assert second["step/loss"] == pytest.approx(first["step/loss"], abs=1e-4)
    assert "| Head began as | a linear probe |" in (one / "models/README.md").read_text()


def test_it_needs_a_backbone_that_was_loaded(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    flags = (*TINY, "--data.root", str(root), "--model.probe", "--output-dir", str(output))
    config = parse_training([*flags])
    assert config is not None
    with pytest.raises(UserError, match="--model.probe true: slowfast_tiny starts from scratch"):
        run_training(config)
    assert not output.exists()
    for more in (("--model.head", "keep"), ("--loss.name", "bce")):
        with pytest.raises(UserError, match="--model.probe true: .* leave one"):
            parse_training([*flags, *more])
