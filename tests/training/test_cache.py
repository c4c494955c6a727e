"""A training that keeps decoded frames does what one without does, to the bit."""

import shutil
import sys
from pathlib import Path

import pytest

from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.runs.folder import RunFolder
from tests.helpers.training_runs import TINY, predictions, rows, train, trained

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="frames are kept on Linux alone")


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 5, seed=0, size=48, frames=24, classes=("moves left", "moves right"))
    return [
        *TINY, "--data.root", str(root), "--epochs", "3", "--global-batch-size", "4",
        "--micro-batch-size", "2", "--data.short-side", "32", "48", "--checkpoint.every-steps", "1",
        "--checkpoint.keep", "99",
    ]  # fmt: skip


def facts(run: Path) -> list[object]:
    """What every step and epoch gave, but for times."""
    steps = [{name: v for name, v in row.items() if "step/" in name} for row in rows(run, "step")]
    losses = [
        {name: value for name, value in row.items() if name.startswith(("train/", "val/"))}
        for row in rows(run, "epoch")
    ]
    return [steps, losses, predictions(run)]


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_one_and_two_processes_and_a_resume(
    arguments: list[str], tmp_path: Path, processes: int
) -> None:
    plain, kept = tmp_path / "plain", tmp_path / "kept"
    trained(plain, *arguments, "--data.cache", "off", processes=processes)
    done = train(*arguments, "--output-dir", kept, processes=processes)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if "decoded frames" in line]
    assert len(said) == 1, said
    assert "kept in memory: about 719 kB, all that clips show" in said[0]
    assert facts(plain) == facts(kept)
    later = [path for path in (kept / "checkpoints").iterdir() if int(path.name[5:]) > 3]
    assert later
    for path in later:
        shutil.rmtree(path)
    RunFolder(kept).set_status("running")
    again: list[str | Path] = ["--output-dir", kept, "--resume", "auto", "--data.cache", "200MB"]
    disk = ("--data.cache-dir", tmp_path / "disk")
    done = train(*arguments, *again, *disk, processes=processes)
    assert done.returncode == 0, done.stderr
    assert f"kept on the disk of {tmp_path / 'disk'}: about" in done.stdout
    assert facts(kept) == facts(plain) and list((tmp_path / "disk").iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--data.cache", "4"), "--data.cache 4: give auto, off, or a size up to 1000TB, as 4GB"),
        (("--data.cache", "2000TB"), "--data.cache 2000TB: give auto, off, or a size up to"),
        (("--data.cache", "900TB"), "--data.cache 900TB: "),
        (("--data.cache-dir", "/proc/1/nothing"), "--data.cache-dir /proc/1/nothing: "),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: list[str], tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    done = train(*arguments, *flags, "--output-dir", tmp_path / "run")
    assert done.returncode == 2 and said in done.stderr, done.stdout + done.stderr
    assert not (tmp_path / "run").exists()
