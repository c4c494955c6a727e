"""A process that dies, stops or fails ends all the others, in seconds, and is named once.

The figures stand in the README, "What happens when"; the limits here are those of the issue.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from _pytest.mark import ParameterSet

from slowfast_dist.data.synthetic import make_videos
from tests.helpers.training_runs import (
    ROOT,
    TINY,
    Group,
    command_of,
    end_tree,
    living,
    show_measured,
    wait_for_steps,
)

TIMEOUT = 8
"""Seconds without a sign of life: more than a busy machine keeps a process waiting."""


def slow(*values: object) -> ParameterSet:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    """A training that would go on for hours."""
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 12, seed=0, size=32, frames=12, classes=("moves left", "turns clockwise"))
    return (
        *TINY, "--data.root", root, "--epochs", "10000", "--global-batch-size", "6",
        "--micro-batch-size", "2", "--data.num-workers", "1",
    )  # fmt: skip


@pytest.mark.parametrize(("processes", "victim"), [slow(2, 0), slow(2, 1), (3, 1)])
def test_the_others_end_when_one_is_killed(
    arguments: tuple[str | Path, ...], tmp_path: Path, processes: int, victim: int
) -> None:
    output = tmp_path / "run"
    words = (ROOT / "train.py", *arguments, "--output-dir", output)
    with Group(*words, processes=processes, log=tmp_path / "log") as group:
        group.wait_for_steps(output, 2)
        assert listening(group) == {"127.0.0.1"}, "a run on one host listens on loopback alone"
        begin = time.monotonic()
        group.processes[victim].kill()
        others = [rank for rank in range(processes) if rank != victim]
        assert group.codes(others, seconds=10) == [1] * len(others), group.printed()
        show_measured(f"kill -9 of one of {processes}: the others ended", begin)
        assert len(group.errors()) == 1 and f"process {victim} on" in group.errors()[0]
        assert "Traceback" not in group.printed()
    if victim:
        assert (output / "status").read_text() == "failed\n"


def listening(group: Group) -> set[str]:
    """The addresses on which the training processes accept connections."""
    sockets = [s for p in group.processes for s in psutil.Process(p.pid).net_connections("inet")]
    return {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize("victim", [1, slow(0)])
def test_the_others_end_when_one_is_stopped(
    arguments: tuple[str | Path, ...], tmp_path: Path, victim: int
) -> None:
    output = tmp_path / "run"
    timeout = ("--distributed.timeout", str(TIMEOUT))
    words = (ROOT / "train.py", *arguments, "--output-dir", output, *timeout)
    with Group(*words, processes=2, log=tmp_path / "log") as group:
        group.wait_for_steps(output, 2)
        begin = time.monotonic()
        group.processes[victim].send_signal(signal.SIGSTOP)
        assert group.codes([1 - victim], seconds=TIMEOUT + 45) == [1], group.printed()
        show_measured(f"SIGSTOP of one, --distributed.timeout {TIMEOUT}: the other ended", begin)
        (error,) = group.errors()
        assert f"process {victim} on" in error or "lost another process" in error
        assert "Traceback" not in group.printed()


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.fixture
def launcher(
    arguments: tuple[str | Path, ...], tmp_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """``accelerate launch`` of two processes, whose run is ``tmp_path``/run."""
    command, environment = command_of(
        ROOT / "train.py", *arguments, "--output-dir", tmp_path / "run", processes=2
    )
    with open(tmp_path / "log", "wb") as log:
        started = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield started
    finally:
        end_tree(started)


def test_a_killed_launcher_leaves_no_orphan(
    launcher: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    wait_for_steps(tmp_path / "run", 2, lambda: launcher.poll() is None)
    below = descendants(launcher.pid)
    assert len(below) >= 4, "two processes, each with a loader"
    begin = time.monotonic()
    for process in below:
        process.suspend()  # so that none ends by itself, as over its lost standard output
    launcher.kill()
    alive = living(below, 60)  # the disk holds up the end of one that saves
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert not alive
    show_measured("kill -9 of the launcher: all it started were gone", begin)


@pytest.mark.parametrize("steps", [slow(2), 0])
def test_a_launcher_ends_when_one_process_is_killed(
    launcher: subprocess.Popen[bytes], tmp_path: Path, steps: int
) -> None:
    """Also while the processes still start."""
    if steps:
        wait_for_steps(tmp_path / "run", steps, lambda: launcher.poll() is None)
    deadline = time.monotonic() + 300
    victims: list[psutil.Process] = []
    while not victims:
        assert time.monotonic() < deadline
        victims = [p for p in descendants(launcher.pid) if _environment(p).get("RANK") == "1"]
        time.sleep(0.05)
    begin = time.monotonic()
    victims[0].kill()
    assert launcher.wait(25) != 0  # by itself it would wait for 30 s
    when = "in training" if steps else "during the start"
    show_measured(f"kill -9 of one {when}: accelerate launch ended", begin)


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ() if "train.py" in " ".join(process.cmdline()) else {}
    except psutil.Error:
        return {}


FAULTY = """
import os, sys, torch
from slowfast_dist.training.step import TrainingStep
whole = TrainingStep.run
def run(self, *arguments):
    if os.environ["RANK"] == os.environ["FAULTY_RANK"] and self.state.position.global_step == 2:
        {fault}
    return whole(self, *arguments)
TrainingStep.run = run
from slowfast_dist.cli.main import main
main(["train", *sys.argv[1:]])
"""


@pytest.mark.parametrize(
    ("rank", "fault", "words", "traceback"),
    [
        (1, "raise torch.OutOfMemoryError('CUDA out of memory.')", "out of GPU memory", False),
        slow(2, "raise KeyError('a slip')", "KeyError: 'a slip'", True),
        slow(0, "raise KeyError('a slip')", "KeyError: 'a slip'", True),
    ],
)
def test_an_error_of_one_process_is_said_once_and_ends_all(
    arguments: tuple[str | Path, ...], tmp_path: Path, rank: int, fault: str, words: str,
    traceback: bool,
) -> None:  # fmt: skip
    script = tmp_path / "faulty.py"
    script.write_text(FAULTY.format(fault=fault))
    output = tmp_path / "run"
    env = {"FAULTY_RANK": str(rank), "PYTHONPATH": str(ROOT)}
    command = (script, *arguments, "--output-dir", output)
    with Group(*command, processes=3, log=tmp_path / "log", env=env) as group:
        assert group.codes(range(3), seconds=300) == [1, 1, 1], group.printed()
        (error,) = group.errors()
        assert words in error and (rank == 0 or f"process {rank} on {os.uname().nodename}" in error)
        assert group.printed().count("Traceback") == int(traceback)
    assert (output / "status").read_text() == "failed\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk, so needs root")
@pytest.mark.parametrize(
    ("free", "file", "code"),
    [slow(24 << 20, "run/checkpoints/step_00000006", 1), (64 << 10, "run and 17.", 2)],
)
def test_a_full_disk_ends_all_names_the_file_and_keeps_the_last_checkpoint(
    arguments: tuple[str | Path, ...], tmp_path: Path, free: int, file: str, code: int
) -> None:
    """A checkpoint is 10 MB here, the best model 7: where they do not fit, nothing is begun."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size={free} tmpfs '{disk}' 2>/dev/null") != 0:
        pytest.skip("cannot mount a small file system here")
    try:
        words = (ROOT / "train.py", *arguments, "--output-dir", disk / "run")
        more = (
            "--checkpoint.every-steps", "2", "--evaluation.every", "1000", "--checkpoint.keep", "2"
        )  # fmt: skip
        with Group(*words, *more, processes=2, log=tmp_path / "log") as group:
            assert group.codes(range(2), seconds=300) == [code, code], group.printed()
            (error,) = group.errors()
            assert re.search(r"disk full, [\d.]+ [kM]B are free in ", error)
            assert f"{disk}/{file}" in error and "MB needed" in error
            assert "Traceback" not in group.printed()
            warned = "warning: 25.2 MB are free in" in group.printed()
            assert warned == (code == 1)
        checkpoints = sorted(path.name for path in (disk / "run").glob("checkpoints/*"))
        assert checkpoints == (["step_00000002", "step_00000004"] if code == 1 else [])
        assert not [path for path in (disk / "run").rglob(".*") if path.name != ".lock"]
    finally:
        os.system(f"umount '{disk}'")
