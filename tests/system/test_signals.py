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
from tests.helpers.training_runs import (
    ROOT,
    TINY,
    Group,
    command_of,
    end_tree,
    rows,
    show_measured,
    trained,
    wait_for_steps,
)


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


HELD = f"""
import runpy, time
from pathlib import Path
from slowfast_dist.training import recorder as recording
write, go = recording.Recorder.step, Path(__file__).with_name("go")
def step(recorder, epoch, global_step, values):
    write(recorder, epoch, global_step, values)
    while global_step == 20 and not go.exists():
        time.sleep(0.01)
recording.Recorder.step = step
runpy.run_path({str(ROOT / "train.py")!r}, run_name="__main__")
"""
"""train.py, but of its 30 steps the last 10 wait for a file, go: a signal may be late."""


def training_processes(launcher: subprocess.Popen[str], script: Path) -> list[psutil.Process]:
    """The processes that a launcher started, by rank; not the loaders' below them."""
    found = [
        process
        for process in psutil.Process(launcher.pid).children()
        if str(script) in process.cmdline() and "RANK" in process.environ()
    ]
    return sorted(found, key=lambda process: int(process.environ()["RANK"]))


LAUNCHER = -1


@pytest.mark.parametrize(
    ("name", "rank", "after_steps"),
    [
        pytest.param("SIGUSR1", 1, 6, marks=pytest.mark.slow),
        pytest.param("SIGTERM", 0, 2, marks=pytest.mark.slow),
        pytest.param("SIGINT", 1, 0, marks=pytest.mark.slow),
        pytest.param("SIGTERM", LAUNCHER, 3, marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_any_process_stops_all_in_the_same_step(
    arguments: tuple[str | Path, ...], undisturbed: Path, tmp_path: Path, name: str, rank: int,
    after_steps: int, request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    output, script = tmp_path / "run", tmp_path / "held.py"
    script.write_text(HELD)
    command, environment = command_of(
        script, *arguments, "--output-dir", output, processes=2, env={"PYTHONPATH": str(ROOT)}
    )
    launcher = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    request.addfinalizer(lambda: end_tree(launcher))
    wait_for_steps(output, after_steps, lambda: launcher.poll() is None)
    number, begin = getattr(signal, name), time.monotonic()
    if rank == LAUNCHER:  # which signals the whole groups of its processes, their loaders too
        launcher.send_signal(number)
    else:
        training_processes(launcher, script)[rank].send_signal(number)
    (tmp_path / "go").touch()
    printed = launcher.communicate(timeout=300)[0]
    show_measured(f"{name} in training: all saved and ended", begin)
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


def catches(process: psutil.Process, number: int) -> bool:
    """Whether a handler is in place, as the kernel says."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("name", "rank"), [("SIGUSR1", 1), ("SIGTERM", 0)])
def test_a_signal_during_the_imports_counts(
    arguments: tuple[str | Path, ...], tmp_path: Path, name: str, rank: int
) -> None:
    """Sent in the moment in which the handlers are there, seconds before torch is."""
    output = tmp_path / "run"
    number = getattr(signal, name)
    words = (ROOT / "train.py", *arguments, "--output-dir", output)
    with Group(*words, processes=2, log=tmp_path / "log", fork=False) as group:
        process = psutil.Process(group.processes[rank].pid)
        while not catches(process, number):
            time.sleep(0.002)
        process.send_signal(number)
        assert group.codes(range(2), seconds=300) == [0, 0], group.printed()
        assert "--resume auto" in group.printed() and not group.errors()
    assert (output / "status").read_text() == "preempted\n"
    assert not (output / "checkpoints").exists()  # there was nothing to save


@pytest.mark.slow
def test_a_signal_during_validation_ends_it_and_loses_nothing(
    arguments: tuple[str | Path, ...], tmp_path: Path
) -> None:
    """The resumed run validates, and ends as one that was not disturbed."""
    long = (
        "--evaluation.temporal-views", "400", "--evaluation.spatial-crops", "3", "--epochs", "1",
    )  # fmt: skip
    output = tmp_path / "run"
    words = (ROOT / "train.py", *arguments, *long, "--output-dir", output)
    with Group(*words, processes=2, log=tmp_path / "log") as group:
        group.wait_for_steps(output, 5)  # all of the epoch
        time.sleep(1)
        assert not rows(output, "epoch"), "the validation was too short to be interrupted"
        begin = time.monotonic()
        group.processes[1].send_signal(signal.SIGUSR1)
        assert group.codes(range(2), seconds=120) == [0, 0], group.printed()
        show_measured("a signal during validation: saved and ended", begin)
    assert (output / "status").read_text() == "preempted\n"
    assert not rows(output, "epoch") and rows(output, "checkpoint")[-1]["global_step"] == 5

    short = ("--epochs", "1", "--evaluation.temporal-views", "1")
    trained(output, *arguments, *short, "--resume", "auto", processes=2)
    undisturbed = trained(tmp_path / "undisturbed", *arguments, *short, processes=2)
    (first,), (second,) = rows(undisturbed, "epoch"), rows(output, "epoch")
    for metric in ("train/loss", "train/accuracy", "val/loss", "grad_norm", "lr"):
        assert first[metric] == second[metric], metric


def test_a_second_interrupt_ends_at_once() -> None:
    code = (
        "from slowfast_dist.system import signals; import os, signal, time\n"
        "signals.install()\n"
        "os.kill(os.getpid(), signal.SIGINT); print(signals.received(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True,
        timeout=50,
    )  # fmt: skip
    assert done.returncode == 130 and done.stdout == "SIGINT\n"
