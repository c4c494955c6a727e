"""Trainings with all augmentation: their loss is torch's, and processes and resumes agree."""

import copy
import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config
from slowfast_dist.data.mixing import mix
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.data.samples.batch import collate
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.metrics.task import SeveralLabels, task_of
from slowfast_dist.system.progress import Progress
from slowfast_dist.training.recorder import train_targets
from slowfast_dist.training.run import build_trainer
from tests.helpers.training_runs import TINY, rows, trained

CLASSES = ("moves left", "moves right", "moves up")
VARIED = (
    "--augment.crop-scale", "0.3", "1", "--augment.rand-augment", "9", "--augment.erasing", "0.5",
    "--augment.speed", "0.8", "1.25", "--data.flip", "true", "--data.flip-pairs",
    "moves left:moves right",
)  # fmt: skip
MIXED = ("--augment.mixup", "0.4", "--augment.cutmix", "1")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of 15 videos with weights."""
    root = tmp_path_factory.mktemp("augmented")
    make_videos(root / "videos", 5, seed=0, size=48, frames=16, classes=CLASSES)
    clips = sorted((root / "videos").rglob("*.mp4"))
    lines = [f"{clip.relative_to(root)},{clip.parent.name},{1 + n % 3 / 2:g}"
             for n, clip in enumerate(clips)]  # fmt: skip
    (root / "list.csv").write_text("\n".join(("path,label,weight", *lines)) + "\n")
    return root


def words(root: Path, *more: str) -> tuple[str, ...]:
    return (
        *TINY, "--data.root", str(root / "list.csv"), "--data.val-fraction", "0.34", "--epochs",
        "2", "--global-batch-size", "6", "--micro-batch-size", "3", "--checkpoint.every-steps",
        "1", "--checkpoint.keep", "9", *VARIED, *MIXED, *more,
    )  # fmt: skip


def settings(root: Path, *more: str) -> Config:
    config = parse_training([*words(root, *more), "--output-dir", str(root / "none")])
    assert config is not None
    return config


def labels_of_several(root: Path) -> Path:
    """Each video of one class has the next one's label, too."""
    with open(root / "list.csv", newline="") as file:
        listed = list(csv.DictReader(file))
    cells = {"moves left": "moves left|moves up", "moves right": "moves right", "moves up": ""}
    lines = [f"{row['path']},{cells[row['label']]},{row['weight']}" for row in listed]
    (root / "several.csv").write_text("\n".join(("path,label,weight", *lines)) + "\n")
    return root / "several.csv"


@pytest.mark.parametrize("loss", ["ce", "bce"])
@pytest.mark.parametrize("only", ["mixup", "cutmix"])
def test_the_loss_of_mixed_clips_is_torchs_of_their_mixed_labels(
    root: Path, loss: str, only: str
) -> None:
    """With label smoothing, weights of classes and of videos."""
    other = {"mixup": "cutmix", "cutmix": "mixup"}[only]
    config = settings(
        root, "--model.norm", "frozen", "--model.dropout", "0", "--loss.label-smoothing", "0.1",
        "--loss.name", loss, "--loss.class-weights", "balanced", "--optimizer.clip-norm", "none",
        f"--augment.{other}", "0", "--checkpoint.monitor", "val/loss",
        *(("--data.root", str(labels_of_several(root))) if loss == "bce" else ()),
    )  # fmt: skip
    videos = find_videos(config.data, 0, several=loss == "bce")
    trainer = build_trainer(config, make_accelerator("no", 120.0), videos)
    network = copy.deepcopy(trainer.state.network)
    trainer.sampler.set_epoch(0, 0)
    batches = list(trainer.loaders.train)[:2]
    trainer.run_step(iter(batches), Progress("", 1, silent=True))

    assert videos.train.weights is not None and videos.swaps is not None
    weights = torch.tensor(videos.train.weights, dtype=torch.float32)
    of_class = torch.tensor(videos.balanced_weights(), dtype=torch.float32)
    total, over = torch.zeros(()), torch.zeros(())
    for number, batch in enumerate(batches):
        mixed = mix(batch, config.augment, [0, 0, number])
        assert mixed is not None and 0.5 <= mixed.share < 1
        logits = network(mixed.batch.frames)
        for share, part in ((mixed.share, batch), (1 - mixed.share, mixed.partner)):
            if loss == "ce":
                one = functional.cross_entropy(
                    logits, part.labels, reduction="none", label_smoothing=0.1
                )
                weight = weights[part.videos] * of_class[part.labels]
            else:
                target = part.labels.float() * 0.9 + 0.05
                one = functional.binary_cross_entropy_with_logits(
                    logits, target, reduction="none", pos_weight=of_class
                ).mean(dim=1)
                weight = weights[part.videos]
            total, over = total + share * (one * weight).sum(), over + share * weight.sum()
        if loss == "ce":  # with all weights 1 it is that of torch's own soft labels
            one_hot = functional.one_hot(batch.labels, 3), functional.one_hot(
                mixed.partner.labels, 3
            )
            soft = mixed.share * one_hot[0] + (1 - mixed.share) * one_hot[1]
            mine = sum(
                share * functional.cross_entropy(logits, part.labels, reduction="none")
                for share, part in ((mixed.share, batch), (1 - mixed.share, mixed.partner))
            )
            torch.testing.assert_close(
                mine, functional.cross_entropy(logits, soft, reduction="none")
            )
    assert trainer.state.history.loss() == pytest.approx((total / over).item(), rel=1e-5)
    assert trainer.state.history.all_steps()[0, 1].item() == pytest.approx(over.item(), rel=1e-5)
    read = trainer.state.history.rows[0]
    own = batches[0].labels if loss == "ce" else batches[0].labels.sum(dim=1)
    assert torch.equal(read[:, 2], own)  # counted by the label of the larger share


def test_train_metrics_of_several_labels_count_those_of_mirrored_clips(root: Path) -> None:
    """A network that is right about what it sees scores 1."""
    config = settings(root, "--data.root", str(labels_of_several(root)), "--loss.name", "bce",
                      "--augment.mixup", "0", "--augment.cutmix", "0")  # fmt: skip
    videos = find_videos(config.data, 0, several=True)
    clips = TrainingClips(videos.train, config.data, 0, augment=config.augment, swaps=videos.swaps)
    batch = collate([clips[ClipKey(0, row)] for row in range(len(videos.train))])
    trainer = build_trainer(config, make_accelerator("no", 120.0), videos)
    step = trainer.step
    logits = torch.where(batch.labels, 5.0, -5.0)
    read = step._rows(logits, batch).numpy()
    assert 0 < batch.views.sum() < len(batch)
    assert not np.array_equal(videos.train.targets(np.arange(len(batch))), batch.labels.numpy())

    targets = train_targets(read, videos)
    assert np.array_equal(targets, batch.labels.numpy())
    task = task_of("bce")
    assert isinstance(task, SeveralLabels)
    assert task.scores(logits.numpy(), targets)["map_micro"] == 1


def test_mixing_needs_two_clips_in_a_micro_batch(root: Path) -> None:
    with pytest.raises(UserError, match=r"^--micro-batch-size 1: --augment.mixup and"):
        settings(root, "--micro-batch-size", "1", "--model.norm", "frozen")
    auto = "--global-batch-size", "1", "--micro-batch-size", "auto", "--model.norm", "frozen"
    config = settings(root, *auto)
    videos = find_videos(config.data, 0)
    with pytest.raises(UserError, match=r"^--micro-batch-size 1: --augment.mixup and"):
        build_trainer(config, make_accelerator("no", 120.0), videos)


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
def test_two_processes_and_a_resume_give_the_same_curve(
    root: Path, tmp_path: Path, several: bool
) -> None:
    """A resume from the middle of an epoch to the bit, two processes to rounding."""
    more: tuple[str, ...] = ("--model.norm", "local")
    if several:
        more += ("--data.root", str(labels_of_several(root)), "--loss.name", "bce")
    one = trained(tmp_path / "one", *words(root, *more))
    two = trained(tmp_path / "two", *words(root, *more), processes=2)
    steps = rows(one, "step")
    assert len(steps) == 4  # 10 videos: the second step of an epoch is short, with one clip alone
    for first, second in zip(steps, rows(two, "step"), strict=True):
        assert second["step/loss"] == pytest.approx(first["step/loss"], abs=1e-4)
    for first, second in zip(rows(one, "epoch"), rows(two, "epoch"), strict=True):
        assert second["train/f1_macro"] == pytest.approx(first["train/f1_macro"], abs=1e-6)
        assert second["val/loss"] == pytest.approx(first["val/loss"], abs=1e-4)

    middle = one / "checkpoints" / "step_00000001"
    resumed = trained(tmp_path / "resumed", *words(root, *more), "--resume", middle)
    newest = "checkpoints/step_00000004/model.safetensors"
    mine, own = load_file(resumed / newest), load_file(one / newest)
    assert mine.keys() == own.keys() and all(torch.equal(mine[name], own[name]) for name in own)
    for first, second in zip(rows(one, "epoch"), rows(resumed, "epoch"), strict=True):
        for name, value in first.items():
            if name.startswith(("train/", "val/", "grad_norm")):
                assert second[name] == value, name
