"""Measured statistics are those of torch's update_bn over the same micro-batches."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.model.slowfast import live_batchnorms
from slowfast_dist.training.run import build_trainer
from slowfast_dist.training.trainer import Trainer
from slowfast_dist.training.weights.precise_norm import USUAL_CLIPS, clips_measured
from tests.helpers.training_runs import TINY

pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 8, seed=0, size=32, frames=10, classes=("moves left", "moves right"))
    return folder


def trainer_of(root: Path, *flags: str) -> Trainer:
    config = parse_training([
        *TINY, "--data.root", str(root), "--global-batch-size", "4", "--micro-batch-size", "2",
        "--model.norm", "local", *flags,
    ])  # fmt: skip
    assert config is not None
    accelerator = make_accelerator("no", 120.0)
    return build_trainer(config, accelerator, find_videos(config.data, config.seed))


def statistics(trainer: Trainer) -> dict[str, Tensor]:
    state = trainer.state.network.state_dict()
    return {name: value.clone() for name, value in state.items() if ".running_" in name}


def test_statistics_are_those_of_update_bn_and_go_again(root: Path) -> None:
    trainer = trainer_of(root, "--evaluation.precise-norm", "7")
    net, before = trainer.state.network, trainer.state.network.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    with trainer.precise.in_network(epoch=2) as done:
        assert done
        measured = statistics(trainer)
    after = net.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert {layer.momentum for layer in live_batchnorms(net)} == {0.1}
    # 7 clips: two steps of 4, each of two micro-batches.
    clips = TrainingClips(trainer.videos.train, trainer.config.data, trainer.config.seed)
    sampler = trainer.sampler
    sampler.set_epoch(2)
    keys = list(sampler)[:4]
    assert [len(some) for some in keys] == [2, 2, 2, 2] and keys[0][0].epoch == 2
    update_bn([torch.stack([frames(clips, key) for key in some]) for some in keys], net)
    assert len(measured) == 2 * len(list(live_batchnorms(net)))
    for name, value in statistics(trainer).items():
        torch.testing.assert_close(measured[name], value, rtol=1e-4, atol=1e-6)


def frames(clips: TrainingClips, key: ClipKey) -> Tensor:
    read = clips[key].frames
    assert read is not None
    return read


def test_at_most_an_epoch_is_measured_and_nothing_where_norm_is_frozen(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert trainer_of(root, "--evaluation.precise-norm", "999").precise.steps == 3  # all 12 clips
    said = "--evaluation.precise-norm 999 measures nothing, as no BatchNorm trains "
    assert said not in caplog.text
    frozen = trainer_of(root, "--evaluation.precise-norm", "999", "--model.norm", "frozen")
    assert caplog.text.count(f"{said}(--model.norm frozen, --model.freeze none)") == 1
    before = statistics(frozen)
    with frozen.precise.in_network(epoch=0) as done:
        assert done and all(torch.equal(v, before[n]) for n, v in statistics(frozen).items())


@pytest.mark.parametrize(
    ("given", "of_epoch", "of_average"), [("auto", 0, USUAL_CLIPS), ("0", 0, 0), ("7", 7, 7)]
)
def test_auto_measures_for_an_average_of_epochs_alone(
    given: str, of_epoch: int, of_average: int
) -> None:
    config = parse_training(["--data.root", "videos", "--evaluation.precise-norm", given])
    assert config is not None
    assert clips_measured(config.evaluation) == of_epoch
    assert clips_measured(config.evaluation, averaged_epochs=True) == of_average
