"""A run that is asked to stop saves, says so, exits 0, and goes on as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from slowfast_dist.data.synthetic import make_videos
from tests.training_runs import ROOT, TINY, command_of, rows, trained


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 12, seed=0, size=32, frames=12, classes=("moves left", "turns clockwise"))
    return (
        *TINY, "--data.root", root, "--epochs", "6", "--global-batch-size", "4",
        "--micro-batch-size", "2", "--model.norm", "local", "--data.num-workers", "1",
    )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(
    arguments: tuple[str | Path, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return trained(tmp_path_factory.mktemp("run") / "undisturbed", *arguments, processes=2)


def training_processes(launcher: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that a launcher started, by rank; not the loaders' below them."""
    found = [
        process
        for process in psutil.Process(launcher.pid).children()
        if str(ROOT / "train.py") in process.cmdline() and "RANK" in process.environ()
    ]
    return sorted(found, key=lambda process: int(process.environ()["RANK"]))


LAUNCHER = -1


@pytest.mark.parametrize(
    ("name", "rank", "after_steps"),
    [("SIGTERM", 0, 2), ("SIGUSR1", 1, 6), ("SIGINT", 1, 0), ("SIGTERM", LAUNCHER, 3)],
)
def test_a_signal_to_any_process_stops_all_in_the_same_step(
    arguments: tuple[str | Path, ...], undisturbed: Path, tmp_path: Path, name: str, rank: int,
    after_steps: int,
) -> None:  # fmt: skip
    output = tmp_path / "run"
    command, environment = command_of(
        ROOT / "train.py", *arguments, "--output-dir", output, processes=2
    )
    launcher = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    metrics, deadline = output / "metrics.jsonl", time.monotonic() + 120
    while not metrics.exists() or len(metrics.read_text().splitlines()) < after_steps:
        assert launcher.poll() is None and time.monotonic() < deadline, launcher.communicate()[0]
        time.sleep(0.02)
    number = getattr(signal, name)
    if rank == LAUNCHER:  # which signals the whole groups of its processes, their loaders too
        launcher.send_signal(number)
    else:
        training_processes(launcher)[rank].send_signal(number)
    printed = launcher.communicate(timeout=120)[0]
    assert launcher.returncode == 0 or rank == LAUNCHER, printed
    assert (output / "status").read_text() == "preempted\n", printed
    assert "--resume auto" in printed
    stopped_at = rows(output, "step")[-1]["global_step"]
    assert stopped_at < rows(undisturbed, "step")[-1]["global_step"]

    trained(output, *arguments, "--resume", "auto", processes=2)
    assert (output / "status").read_text() == "finished\n"
    ends = [max((run / "checkpoints").iterdir()) for run in (undisturbed, output)]
    for file in ("model.safetensors", "optimizer.pt"):
        assert (ends[0] / file).read_bytes() == (ends[1] / file).read_bytes(), file
    for first, second in zip(rows(undisturbed, "epoch"), rows(output, "epoch"), strict=True):
        for metric in ("train/loss", "train/accuracy", "val/loss", "grad_norm", "lr"):
            assert first[metric] == second[metric], metric


def test_a_second_interrupt_ends_at_once() -> None:
    code = (
        "from slowfast_dist import signals; import os, signal, time\n"
        "signals.install()\n"
        "os.kill(os.getpid(), signal.SIGINT); print(signals.received(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True,
        timeout=30,
    )  # fmt: skip
    assert done.returncode == 130 and done.stdout == "SIGINT\n"
