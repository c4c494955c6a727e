"""A column weight: the loss is what plain torch computes with it, and split.csv keeps it."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.commands.prepare.sources import list_sources
from slowfast_dist.config.training import Config
from slowfast_dist.data.listing.split import write_split
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.runs.run import read_split_rows
from slowfast_dist.system.progress import Progress
from slowfast_dist.training.run import build_trainer
from tests.helpers.training_runs import TINY

WEIGHTS = {"moves left": ["", "0.1", "3", "1"], "moves up": ["2.5", "", "", "1e3", "0.7", "4"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten videos of two classes and their list."""
    root = tmp_path_factory.mktemp("weights")
    make_videos(root, 6, seed=0, size=32, frames=12, classes=tuple(WEIGHTS))
    lines = ["path,label,weight"]
    for label, weights in WEIGHTS.items():
        clips = sorted((root / label).iterdir())
        lines += [f"{clip.relative_to(root).as_posix()},{label},{weight}"
                  for clip, weight in zip(clips, weights, strict=False)]  # fmt: skip
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root


def settings(root: Path, table: str, weights: str = "none") -> Config:
    config = parse_training([
        *TINY, "--data.root", str(root / table), "--data.videos", str(root), "--output-dir",
        str(root / "run"), "--data.val-fraction", "0.2", "--global-batch-size", "8",
        "--loss.label-smoothing", "0", "--optimizer.clip-norm", "none", "--micro-batch-size", "2",
        "--model.norm", "frozen", "--model.dropout", "0",
        "--loss.class-weights", weights, "--optimizer.name", "sgd",
    ])  # fmt: skip
    assert config is not None
    return config


def test_loss_and_gradients_are_those_of_plain_torch(root: Path) -> None:
    config = settings(root, "list.csv", "balanced")
    videos = find_videos(config.data, 0)
    trainer = build_trainer(config, make_accelerator("no", 120.0), videos)
    plain = copy.deepcopy(trainer.state.network)
    trainer.sampler.set_epoch(0, 0)
    trainer.run_step(iter(trainer.loaders.train), Progress("", 1, silent=True))

    assert videos.train.weights is not None and len(videos.train) == 8
    clips = TrainingClips(videos.train, config.data, 0)
    samples = [clips[ClipKey(0, row)] for row in range(8)]
    labels = torch.tensor([sample.label for sample in samples])
    weights = torch.tensor(videos.train.weights, dtype=torch.float32)
    weights = weights * (8 / (2 * torch.bincount(labels)))[labels]
    logits = plain(torch.stack([sample.frames for sample in samples]))  # type: ignore[misc]
    losses = functional.cross_entropy(logits, labels, reduction="none")
    loss = (weights * losses).sum() / weights.sum()
    loss.backward()
    assert trainer.state.history.loss() == pytest.approx(loss.item(), rel=1e-5)
    for ours, own in zip(trainer.state.network.parameters(), plain.parameters(), strict=True):
        if own.grad is not None:
            torch.testing.assert_close(ours.grad, own.grad, rtol=1e-3, atol=1e-6)


def test_split_csv_and_prepare_keep_them_and_the_user_hears_of_them(root: Path) -> None:
    data = settings(root, "list.csv").data
    videos = find_videos(data, 0)
    assert videos.train.weights is not None
    changed = int((videos.train.weights != 1).sum())
    [said] = [str(remark) for remark in videos.remarks if remark.kind == "weights"]
    assert said.startswith(f"{changed} of 8 training rows weigh ") and "validation" in said
    write_split(root / "split.csv", videos.classes, videos.train, videos.val)
    again = find_videos(settings(root, "split.csv").data, 0)
    assert again.fingerprint() == videos.fingerprint()
    assert np.array_equal(again.train.weights, videos.train.weights)  # type: ignore[arg-type]
    assert len(read_split_rows(root / "split.csv")) == 10
    (root / "other.csv").write_text((root / "list.csv").read_text().replace(",2.5", ",2"))
    other = find_videos(settings(root, "other.csv").data, 0)
    assert (other.fingerprint() == videos.fingerprint()) == (
        2.5 not in videos.train.weights.tolist()
    )
    sources, _ = list_sources(root / "list.csv", None, {}, None)
    found = {source.name: row.weight for source in sources for row in source.rows}
    assert sorted(found.values()) == ["", "", "", "", "0.1", "0.7", "1000", "2.5", "3", "4"]


def test_weights_of_segments_stand_behind_their_times(root: Path) -> None:
    name = next(iter((root / "moves up").iterdir())).relative_to(root).as_posix()
    other = next(iter((root / "moves left").iterdir())).relative_to(root).as_posix()
    (root / "parts.csv").write_text(
        "path,label,start,end,split,weight\n"
        f"{name},a,0,0.3,train,0.5\n{name},b,0.3,0.6,train,\n{other},a,0,0.3,val,\n"
    )
    videos = find_videos(settings(root, "parts.csv").data, 0)
    write_split(root / "split.csv", videos.classes, videos.train, videos.val)
    lines = (root / "split.csv").read_text().splitlines()
    assert lines[0] == "path,class,split,group,start,end,subject,weight"
    assert lines[1] == f"{name},a,train,{name},0,0.3,,0.5" and lines[2].endswith(",0.3,0.6,,")
    assert [row.start for row in read_split_rows(root / "split.csv")] == [0, 0.3, 0]
