"""A start that is refused, however late, leaves nothing behind that blocks the corrected one."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import slowfast_dist
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.training import CheckpointConfig, Config, WandbConfig
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.runs.folder import RunFolder, open_run
from tests.helpers.training_runs import TINY

pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Of a training of seconds, but for its output_dir."""
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 4, seed=0, size=32, frames=12, classes=("moves left", "turns clockwise"))
    flags: list[str | Path] = [*TINY, "--data.root", root, "--epochs", "1"]
    flags += ["--global-batch-size", "4", "--micro-batch-size", "2"]
    return slowfast_dist.load_config("finetune", flags)


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield


def other_weights(config: Config, folder: Path) -> Config:
    torch.save({"blocks.0.weight": torch.zeros(3)}, folder / "other.pth")
    return replace(config, model=replace(config.model, weights=folder / "other.pth"))


def broken_videos(config: Config, folder: Path) -> Config:
    for name in ("a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4"):
        (folder / "broken" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "broken" / name).write_bytes(b"no video at all")
    return replace(config, data=replace(config.data, root=folder / "broken"))


REFUSED: dict[str, Any] = {
    "--wandb.mode online: no API key": lambda c, _: replace(c, wandb=WandbConfig(mode="online")),
    "there are only 2 classes": lambda c, _: replace(
        c, checkpoint=CheckpointConfig(monitor="val/top5_accuracy", mode="max")
    ),
    "fp16 needs a GPU": lambda c, _: replace(c, mixed_precision="fp16"),
    "names its tensors": other_weights,
    "broken": broken_videos,
}
"""What each says -> the settings that it is said of."""


@pytest.mark.parametrize("words", REFUSED)
def test_nothing_is_left_of_a_start_that_is_refused(
    words: str, config: Config, tmp_path: Path
) -> None:
    wrong = REFUSED[words](replace(config, output_dir=tmp_path / "run"), tmp_path)
    with pytest.raises((UserError, RunError), match=words):
        slowfast_dist.train(wrong)
    assert not (tmp_path / "run").exists()


def test_a_start_that_ended_while_it_wrote_is_begun_anew(config: Config, tmp_path: Path) -> None:
    """As one that was killed, or whose disk was full, before its status was there."""
    output = tmp_path / "run"
    RunFolder(output).describe(config, ("a", "b"), {})
    (output / "wandb").mkdir()
    start = open_run(output, "never")
    start.release()
    assert start.checkpoint is None
    assert start.messages == (f"{output}: its run was stopped before the first step: begun anew",)


def test_what_is_no_start_of_ours_is_not_taken_for_one(tmp_path: Path) -> None:
    """A configuration somebody wrote by hand, or what was kept of a run."""
    (tmp_path / "config.yaml").write_text("epochs: 3\n")
    with pytest.raises(UserError, match=r"holds a run already \(without a status\)"):
        open_run(tmp_path, "never")
    (tmp_path / "classes.json").write_text("{}")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "best_model.json").write_text("{}")
    with pytest.raises(UserError, match="holds a run already"):
        open_run(tmp_path, "never")


@pytest.mark.slow
def test_copies_of_a_best_model_are_not_left_either(config: Config, tmp_path: Path) -> None:
    first = replace(config, output_dir=tmp_path / "first")
    slowfast_dist.train(first)
    goes_on = replace(
        config, output_dir=tmp_path / "second", epochs=2, resume=str(tmp_path / "first"),
        resume_changed=True,
    )  # fmt: skip
    with pytest.raises(UserError, match="no API key"):
        slowfast_dist.train(replace(goes_on, wandb=WandbConfig(mode="online")))
    assert not (tmp_path / "second" / "models").exists()
    assert slowfast_dist.train(goes_on)["status"] == "finished"
