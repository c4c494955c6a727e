"""A real checkpoint, damaged in every way we could think of: found each time, and never run."""

import hashlib
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.runs.checkpoint import FILES, list_checkpoints, load_checkpoint, newest_valid
from slowfast_dist.runs.folder import RunFolder, open_run
from tests.helpers.training_runs import TINY, rows, train, trained

ALL_FILES = (*FILES, "manifest.json")

Damage = Callable[[Path], None]
"""What is done to one file of a checkpoint."""


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    videos = tmp_path_factory.mktemp("videos") / "all"
    make_videos(videos, 4, seed=0, size=32, frames=12, classes=("moves left", "moves right"))
    return (
        *TINY, "--data.root", videos, "--epochs", "2", "--global-batch-size", "4",
        "--micro-batch-size", "2", "--model.norm", "local", "--checkpoint.every-steps", "1",
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(
    arguments: tuple[str | Path, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of 4 steps, of which it keeps the last two checkpoints."""
    return trained(tmp_path_factory.mktemp("run") / "run", *arguments)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """The same as if it had been killed after its last save; its files may be damaged."""
    copy = shutil.copytree(finished, tmp_path / "run")
    RunFolder(copy).set_status("running")
    return copy


@pytest.fixture
def linked(finished: Path, tmp_path: Path) -> Path:
    """As `run`, in no time: what is to be written to must be replaced, as `own` does."""
    copy = shutil.copytree(finished, tmp_path / "run", copy_function=os.link)
    RunFolder(copy).set_status("running")
    return copy


def own(path: Path) -> Path:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path


def newest(run: Path) -> Path:
    return list_checkpoints(run / "checkpoints")[0]


def cut(share: float, more: int = 0) -> Damage:
    def damage(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share) + more])

    return damage


def flip(share: float, bit: int) -> Damage:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int((len(content) - 1) * share)] ^= 1 << bit
        path.write_bytes(content)

    return damage


def zeros(path: Path) -> None:
    """As a file system may leave what was not synced before the power went."""
    path.write_bytes(bytes(path.stat().st_size))


def longer(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"\n}")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    """Whoever opens it to read waits for ever."""
    path.unlink()
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def older(path: Path) -> None:
    """The same file of the checkpoint before."""
    before = list_checkpoints(path.parents[1])[1]
    shutil.copy(before / path.name, path)


def neighbour(path: Path) -> None:
    """Another file of the same checkpoint."""
    other = ALL_FILES[(ALL_FILES.index(path.name) + 1) % len(ALL_FILES)]
    shutil.copy(path.with_name(other), path)


DAMAGES: dict[str, Damage] = {
    "missing": Path.unlink, "empty": cut(0), "cut to 1 byte": cut(0, 1), "cut to 1/10": cut(0.1),
    "cut to half": cut(0.5), "cut by 2 bytes": cut(1, -2), "first bit": flip(0, 0),
    "bit at 1/4": flip(0.25, 3), "bit in the middle": flip(0.5, 7), "bit at 3/4": flip(0.75, 1),
    "last bit": flip(1, 4), "zeros": zeros, "longer": longer, "a folder": folder, "a pipe": pipe,
    "a dangling link": dangling, "the one before": older, "another file": neighbour,
}  # fmt: skip


@pytest.mark.parametrize("file", ALL_FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    linked: Path, file: str, damage: str
) -> None:
    """18 damages of 5 files. Asked for by name, the checkpoint is refused."""
    broken, before = list_checkpoints(linked / "checkpoints")
    DAMAGES[damage](own(broken / file))
    with pytest.raises(RunError, match=broken.name):
        load_checkpoint(broken)
    start = open_run(linked, "auto")
    start.release()
    assert start.checkpoint == before
    assert broken.name in start.messages[0] and start.messages[0].endswith(": skipped")


@pytest.mark.slow
def test_the_real_command_falls_back_says_so_and_ends_the_same(
    arguments: tuple[str | Path, ...], finished: Path, run: Path
) -> None:
    broken, before = list_checkpoints(run / "checkpoints")
    flip(0.5, 0)(broken / "model.safetensors")
    done = train(*arguments, "--output-dir", run, "--resume", "auto")
    assert done.returncode == 0, done.stderr
    assert f"{broken}: model.safetensors is damaged: skipped" in done.stdout
    assert f"resuming from {before}" in done.stdout
    for file in ("model.safetensors", "optimizer.pt"):
        assert (broken / file).read_bytes() == (newest(finished) / file).read_bytes()
    assert [row["global_step"] for row in rows(run, "step")] == [1, 2, 3, 4]


def content_of(run: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_real_command_never_starts_over_by_itself(
    arguments: tuple[str | Path, ...], run: Path
) -> None:
    for path, file in zip(list_checkpoints(run / "checkpoints"), FILES, strict=False):
        cut(0.5)(path / file)
    before = content_of(run)
    done = train(*arguments, "--output-dir", run, "--resume", "auto")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "no checkpoint in" in line and "model.safetensors is damaged" in line
    assert content_of(run) == before


class Planted:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


def as_pickle(path: Path, trace: Path) -> None:
    path.write_bytes(pickle.dumps(Planted(trace), protocol=2))


def as_torch_file(path: Path, trace: Path) -> None:
    torch.save({"state": Planted(trace), "param_groups": []}, path)


def as_old_torch_file(path: Path, trace: Path) -> None:
    torch.save(Planted(trace), path, _use_new_zipfile_serialization=False)


def inside_the_real_one(path: Path, trace: Path) -> None:
    """The pickle of the file's own archive, or one behind what the file holds."""
    if not zipfile.is_zipfile(path):
        with open(path, "ab") as file:
            pickle.dump(Planted(trace), file)
        return
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            planted = pickle.dumps(Planted(trace), protocol=2)
            new.writestr(name, planted if name.endswith("data.pkl") else content)


PLANTS = (as_pickle, as_torch_file, as_old_torch_file, inside_the_real_one)


def make_sums_fit(checkpoint: Path) -> None:
    manifest = own(checkpoint / "manifest.json")
    content = json.loads(manifest.read_text())
    content["sha256"] = {
        name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in FILES
    }
    manifest.write_text(json.dumps(content))


def test_the_plants_would_run_if_they_were_loaded(linked: Path, tmp_path: Path) -> None:
    path, trace = own(newest(linked) / "optimizer.pt"), tmp_path / "executed"
    for plant in PLANTS:
        plant(path, trace)
        if plant is as_pickle:
            pickle.loads(path.read_bytes())
        else:
            torch.load(path, weights_only=False)
        trace.rmdir()


@pytest.mark.parametrize("file", ALL_FILES)
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_pickle_is_not_run_though_its_checksum_fits(
    linked: Path, tmp_path: Path, file: str, plant: Callable[[Path, Path], None]
) -> None:
    checkpoint, trace = newest(linked), tmp_path / "executed"
    plant(own(checkpoint / file), trace)
    if file != "manifest.json":
        make_sums_fit(checkpoint)
        assert newest_valid(linked / "checkpoints")[0] == checkpoint
    with pytest.raises(RunError, match=checkpoint.name):
        load_checkpoint(checkpoint)
    assert not trace.exists()


@pytest.mark.slow
def test_the_real_command_refuses_a_planted_pickle(
    arguments: tuple[str | Path, ...], run: Path, tmp_path: Path
) -> None:
    checkpoint, trace = newest(run), tmp_path / "executed"
    inside_the_real_one(checkpoint / "optimizer.pt", trace)
    make_sums_fit(checkpoint)
    done = train(*arguments, "--output-dir", run, "--resume", "auto")
    assert done.returncode == 1 and not trace.exists()
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert checkpoint.name in line and "cannot be loaded" in line
    assert "Traceback" not in done.stderr


def test_a_manifest_leads_nowhere(linked: Path, tmp_path: Path) -> None:
    """Only the files with the fixed names are opened, whatever else it lists."""
    checkpoint = newest(linked)
    pipe_outside = tmp_path / "outside"
    os.mkfifo(pipe_outside)  # whoever opened it would wait for ever
    manifest = own(checkpoint / "manifest.json")
    content = json.loads(manifest.read_text())
    content["sha256"] |= {"../../../outside": "0" * 64, str(pipe_outside): "0" * 64}
    content["files"] = [str(pipe_outside)]
    manifest.write_text(json.dumps(content))
    assert load_checkpoint(checkpoint).state["global_step"] == 4
    for name in FILES:  # and no entry of that kind stands in for one of them
        moved = dict(content, sha256={f"../{checkpoint.name}/{n}": s for n, s in
                                      content["sha256"].items() if n == name})  # fmt: skip
        manifest.write_text(json.dumps(moved))
        with pytest.raises(RunError, match="manifest.json is damaged"):
            load_checkpoint(checkpoint)
    with pytest.raises(UserError, match="no checkpoint there"):
        open_run(tmp_path / "new", str(tmp_path))
