"""Classes of unlike sizes: the loss of drawn clips with adjusted logits is that of plain torch."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.system.progress import Progress
from slowfast_dist.training.run import build_trainer
from tests.helpers.training_runs import TINY


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten videos of one class and four of the other."""
    root = tmp_path_factory.mktemp("videos")
    make_videos(root, 10, seed=0, size=32, frames=12, classes=("moves left", "moves up"))
    for clip in sorted((root / "moves up").iterdir())[4:]:
        clip.unlink()
    return root


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(("sampling", "power"), [("natural", 1.0), ("sqrt", 0.5)])
def test_adjusted_logits_are_those_of_plain_torch(root: Path, sampling: str, power: float) -> None:
    """Menon et al. 2021, with the shares of the classes as they are drawn."""
    config = parse_training([
        *TINY, "--data.root", str(root), "--global-batch-size", "8", "--micro-batch-size", "2",
        "--loss.label-smoothing", "0.1", "--optimizer.clip-norm", "none", "--model.norm", "frozen",
        "--model.dropout", "0", "--optimizer.name", "sgd", "--loss.logit-adjustment", "1.5",
        "--data.class-sampling", sampling,
    ])  # fmt: skip
    assert config is not None
    videos = find_videos(config.data, 0)
    trainer = build_trainer(config, make_accelerator("no", 120.0), videos)
    plain = copy.deepcopy(trainer.state.network)
    trainer.sampler.set_epoch(0, 0)
    keys = [key for some in list(trainer.sampler)[:4] for key in some]
    trainer.run_step(iter(trainer.loaders.train), Progress("", 1, silent=True))

    clips = TrainingClips(videos.train, config.data, 0)
    samples = [clips[key] for key in keys]
    labels = torch.tensor([int(sample.label) for sample in samples])
    counts = np.bincount(videos.train.labels)
    assert counts.tolist() == [8, 3]
    shares = counts**power / (counts**power).sum()
    logits = plain(torch.stack([sample.frames for sample in samples]))  # type: ignore[misc]
    adjusted = logits + 1.5 * torch.tensor(np.log(shares), dtype=torch.float32)
    loss = functional.cross_entropy(adjusted, labels, label_smoothing=0.1)
    loss.backward()
    assert trainer.state.history.loss() == pytest.approx(loss.item(), rel=1e-5)
    # Predictions that count for train/accuracy are of the logits as they are.
    rows = torch.cat(trainer.state.history.rows)
    assert rows[:, 3].tolist() == logits.argmax(dim=1).tolist()
    for ours, own in zip(trainer.state.network.parameters(), plain.parameters(), strict=True):
        if own.grad is not None:
            torch.testing.assert_close(ours.grad, own.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("wrong", [False, True])
def test_a_first_loss_is_high_beside_guessing_of_the_same_clips(
    root: Path, wrong: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Guessing costs 3 of 11 clips 10 ln(8 / 3), 2.67 in the mean; .69 without the adjustment."""
    config = parse_training([
        *TINY, "--data.root", str(root), "--global-batch-size", "11", "--micro-batch-size", "11",
        "--loss.logit-adjustment", "10", "--loss.label-smoothing", "0",
    ])  # fmt: skip
    assert config is not None
    videos = find_videos(config.data, 0)
    trainer = build_trainer(config, make_accelerator("no", 120.0), videos)
    if wrong:  # sure of the rarer class
        bias = trainer.state.network.head.proj.bias
        bias.data += torch.tensor([0.0, 30.0])
    trainer.sampler.set_epoch(0, 0)
    trainer.run_step(iter(trainer.loaders.train), Progress("", 1, silent=True))
    assert trainer.state.history.loss() > 2.5
    trainer.checks.read()
    said = [one.message for one in caplog.records if "the first loss" in one.message]
    assert len(said) == wrong
    assert not wrong or "far above that of guessing, 2.68: " in said[0]
