"""Checkpoints: what is saved comes back to the bit, and damage is found, never loaded."""

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.runs.checkpoint import (
    FILES,
    Checkpoint,
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    newest_valid,
    save_checkpoint,
)


def checkpoint(step: int) -> Checkpoint:
    torch.manual_seed(step)
    model = torch.nn.Conv3d(3, 4, 3)
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(2, 3, 4, 8, 8)).sum().backward()
    optimizer.step()
    tensors = {"rows": torch.empty(0, 5, dtype=torch.int64), "steps": torch.randn(3, 4)}
    state = {"global_step": step, "epoch": 1, "words": "ä"}
    return Checkpoint(model.state_dict(), optimizer.state_dict(), tensors, state)


def test_everything_comes_back_to_the_bit(tmp_path: Path) -> None:
    saved = checkpoint(12)
    path = save_checkpoint(tmp_path, saved, keep=2)
    assert path.name == "step_00000012"
    loaded = load_checkpoint(path)
    for before, after in ((saved.model, loaded.model), (saved.tensors, loaded.tensors)):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    moments = saved.optimizer["state"][0]
    assert all(torch.equal(moments[name], loaded.optimizer["state"][0][name]) for name in moments)
    assert saved.optimizer["param_groups"] == loaded.optimizer["param_groups"]
    assert loaded.state == saved.state


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 9, 10, 100_000_000):
        save_checkpoint(tmp_path, checkpoint(step), keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_100000000", "step_00000010"]
    assert not list(tmp_path.glob(".*")), "temporary folders stay behind"


def test_what_a_resume_from_before_left_behind_goes(tmp_path: Path) -> None:
    """Else it would be kept as the newest, and the next resume would take it."""
    for step in (100, 200):
        save_checkpoint(tmp_path, checkpoint(step), keep=2)
    save_checkpoint(tmp_path, checkpoint(110), keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_00000110", "step_00000100"]


def test_the_same_step_may_be_saved_again(tmp_path: Path) -> None:
    for _ in range(2):
        save_checkpoint(tmp_path, checkpoint(7), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000007"]


@pytest.mark.parametrize("part", ["model", "optimizer", "statistics"])
def test_what_is_not_finite_is_not_saved_and_the_one_before_stays(
    part: str, tmp_path: Path
) -> None:
    good, bad = save_checkpoint(tmp_path, checkpoint(1), keep=1), checkpoint(2)
    names = {"model": "bias", "optimizer": "optimizer.0.exp_avg_sq"}
    name = names.get(part, "BatchNorm statistics")
    if part == "model":
        bad.model["bias"][3] = torch.nan
    elif part == "optimizer":
        bad.optimizer["state"][0]["exp_avg_sq"][0, 0, 0, 0, 1] = torch.inf
    else:
        bad.tensors["statistics"] = torch.tensor([[1.0, torch.nan]])
    with pytest.raises(RunError, match=f"step_00000002: not saved, as {name} \\(1 of its "):
        save_checkpoint(tmp_path, bad, keep=1)
    assert list(tmp_path.iterdir()) == [good] and load_checkpoint(good).state["global_step"] == 1


def test_a_checkpoint_of_an_older_version_that_diverged_is_not_resumed(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, checkpoint(7), keep=1)
    model = safetensors.torch.load_file(path / "model.safetensors")
    model["weight"].view(-1)[0] = torch.nan
    safetensors.torch.save_file(model, path / "model.safetensors")
    manifest = json.loads((path / "manifest.json").read_text())
    content = (path / "model.safetensors").read_bytes()
    manifest["sha256"]["model.safetensors"] = hashlib.sha256(content).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError) as error:
        load_checkpoint(path)
    assert str(error.value).startswith(f"{path}: weight (1 of its 324 numbers) is not finite: ")


@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped"])
def test_damage_is_found_and_the_one_before_is_taken(
    tmp_path: Path, file: str, damage: str
) -> None:
    good = save_checkpoint(tmp_path, checkpoint(1), keep=2)
    broken = save_checkpoint(tmp_path, checkpoint(2), keep=2) / file
    content = bytearray(broken.read_bytes())
    if damage == "missing":
        broken.unlink()
    elif damage == "empty":
        broken.write_bytes(b"")
    elif damage == "cut":
        broken.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        broken.write_bytes(content)
    with pytest.raises(RunError, match=broken.parent.name):
        load_checkpoint(broken.parent)
    assert newest_valid(tmp_path)[0] == good
    assert len(newest_valid(tmp_path)[1]) == 1


class Planted:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
def test_a_planted_pickle_is_never_run(tmp_path: Path, file: str) -> None:
    path, trace = save_checkpoint(tmp_path, checkpoint(1), keep=1), tmp_path / "executed"
    (path / file).write_bytes(pickle.dumps(Planted(trace)))
    manifest = path / "manifest.json"
    if file != manifest.name:  # also where the sums were made to fit
        content = json.loads(manifest.read_text())
        content["sha256"][file] = hashlib.sha256((path / file).read_bytes()).hexdigest()
        manifest.write_text(json.dumps(content))
    with pytest.raises(RunError):
        load_checkpoint(path)
    assert not trace.exists()


def test_a_disk_that_refuses_leaves_the_one_before(tmp_path: Path) -> None:
    good = save_checkpoint(tmp_path, checkpoint(1), keep=1)
    blocked = tmp_path / f".step_00000002.{os.getpid()}.tmp"
    blocked.write_text("a file where the folder should go")
    with pytest.raises(RunError, match="step_00000002"):
        save_checkpoint(tmp_path, checkpoint(2), keep=1)
    load_checkpoint(good)
    assert [path for path in tmp_path.iterdir() if path != blocked] == [good]


@pytest.mark.skipif(not shutil.which("mount") or os.geteuid() != 0, reason="mounts, so needs root")
def test_a_full_disk_leaves_the_one_before(tmp_path: Path) -> None:
    small = tmp_path / "disk"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=64k tmpfs '{small}' 2>/dev/null") != 0:
        pytest.skip("cannot mount a small file system here")
    try:
        good = save_checkpoint(small, checkpoint(1), keep=1)
        (small / "filler").write_bytes(b"x" * (40 << 10))
        with pytest.raises(RunError, match="step_00000002"):
            save_checkpoint(small, checkpoint(2), keep=1)
        load_checkpoint(good)
        assert not list(small.glob(".*"))
    finally:
        os.system(f"umount '{small}'")


def test_one_set_aside_for_its_successor_is_not_lost(tmp_path: Path) -> None:
    """A kill between the two renames in which a step that exists is saved again."""
    good = save_checkpoint(tmp_path, checkpoint(7), keep=1)
    good.rename(tmp_path / f".{good.name}.123.old.tmp")
    assert newest_valid(tmp_path) == (good, [])


def test_a_path_to_resume_is_a_checkpoint_or_a_run(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "checkpoints", checkpoint(1), keep=1)
    assert find_checkpoint(path) == find_checkpoint(tmp_path) == path
    with pytest.raises(UserError, match="--resume .*nowhere"):
        find_checkpoint(tmp_path / "nowhere")
