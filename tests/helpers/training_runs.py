"""Real training runs for the tests: train.py in one process or under a launcher in several."""

import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from slowfast_dist.distributed.launchers import FIRST_PORT, PORTS
from tests.helpers import forks

ROOT = Path(__file__).parents[2]

TINY = (
    "--data.num-frames", "8", "--data.sampling-rate", "1", "--data.frame-rate", "video",
    "--data.crop-size", "32",
    "--data.short-side", "32", "32", "--data.flip", "false", "--data.num-workers", "0",
    "--model.name", "slowfast_tiny", "--model.pretrained", "false", "--mixed-precision", "no",
    "--wandb.mode", "disabled", "--log-every", "1", "--report.explain", "0",
)  # fmt: skip
"""A training of seconds, on 32 x 32 px clips of 8 frames."""


def train(
    *arguments: str | Path,
    processes: int = 1,
    env: dict[str, str] | None = None,
    fork: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run ``train.py`` as a user would; with several processes as ``accelerate launch`` does. See
    `launch`."""
    return launch(str(ROOT / "train.py"), *arguments, processes=processes, env=env, fork=fork)


def launch(
    *words: str | Path,
    processes: int = 1,
    env: dict[str, str] | None = None,
    fork: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a script, or a module behind ``-m``, in the repository; as `train` does.

    Where it can, in forks without a launcher (see `forks`), unless ``env`` is given, part of which
    may count while Python starts; ``fork`` False: as a user would in any case.
    """
    command, environment = command_of(*words, processes=processes, env=env)
    if fork and not env and _may_fork(str(words[0])):
        told = ranks(processes) if processes > 1 else [{}]
        each = [environment | one for one in told]
        code, out, err = forks.run([str(word) for word in words], each, seconds=1200)
        return subprocess.CompletedProcess(command, code, out, err)
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200
    )


def _may_fork(first: str) -> bool:
    return (
        sys.platform == "linux"
        and first != "-c"
        and not os.environ.get("SLOWFAST_DIST_TEST_WITHOUT")
        and not Path("/dev/nvidiactl").exists()
    )


def ranks(processes: int) -> list[dict[str, str]]:
    """What a launcher tells each of the processes."""
    many, port = str(processes), str(free_port())
    return [
        {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": many,
            "LOCAL_WORLD_SIZE": many, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        }
        for rank in range(processes)
    ]  # fmt: skip


def command_of(
    *words: str | Path, processes: int = 1, env: dict[str, str] | None = None
) -> tuple[list[str], dict[str, str]]:
    """What `launch` runs: the command line and its environment."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
        command += ["--num_processes", str(processes), "--mixed_precision", "no"]
        command += ["--dynamo_backend", "no", "--main_process_port", "0"]
    command += map(str, words)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"} | (env or {})
    return command, environment


def trained(
    output: Path,
    *arguments: str | Path,
    processes: int = 1,
    env: dict[str, str] | None = None,
    fork: bool = True,
) -> Path:
    """As `train`, into ``output``, and it must succeed; returns ``output``."""
    done = train(*arguments, "--output-dir", output, processes=processes, env=env, fork=fork)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


def rows(run: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl of one kind."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def predictions(run: Path) -> list[dict[str, str]]:
    """The rows of a run's predictions/val_best.csv."""
    with open(run / "predictions" / "val_best.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def free_port() -> int:
    """On loopback, and for a while: not one that the kernel gives to whoever asks for any."""
    while True:
        port = random.randrange(FIRST_PORT, FIRST_PORT + PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def hear_ctrl_c() -> None:
    """For ``preexec_fn``: what a shell starts in the background, as tests, ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Group:
    """The processes of one training on this host, without a launcher that would end them."""

    def __init__(
        self,
        *words: str | Path,
        processes: int,
        log: Path,
        env: dict[str, str] | None = None,
        fork: bool = True,
    ) -> None:
        """Run a script with ``words``, as `launch`; what process R prints goes to ``log``/R."""
        log.mkdir(parents=True, exist_ok=True)
        command, environment = command_of(*words, env=env)
        self.log = log
        self.processes: list[subprocess.Popen[bytes] | forks.Fork] = []
        forked = fork and not env and _may_fork(str(words[0]))
        for rank, told in enumerate(ranks(processes)):
            own = environment | told
            with open(log / str(rank), "wb") as file:
                self.processes.append(
                    forks.Fork([str(word) for word in words], own, file, file)
                    if forked
                    else subprocess.Popen(command, cwd=ROOT, env=own, stdout=file, stderr=file)
                )

    def printed(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.log.iterdir()))

    def errors(self) -> list[str]:
        return [line for line in self.printed().splitlines() if line.startswith("error: ")]

    def wait_for_steps(self, output: Path, steps: int) -> None:
        wait_for_steps(output, steps, lambda: all(p.poll() is None for p in self.processes))

    def codes(self, ranks: Iterable[int], seconds: float) -> list[int]:
        """The exit codes of these processes, which must end within that many seconds."""
        until = time.monotonic() + seconds
        return [self.processes[r].wait(max(0, until - time.monotonic())) for r in ranks]

    def __enter__(self) -> "Group":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def wait_for_steps(output: Path, steps: int, alive: Callable[[], bool]) -> None:
    """Wait until the run in ``output`` has written that many lines of metrics.jsonl."""
    metrics, deadline = output / "metrics.jsonl", time.monotonic() + 300
    while not metrics.exists() or len(metrics.read_text().splitlines()) < steps:
        assert alive() and time.monotonic() < deadline, "the training ended too early"
        time.sleep(0.02)


def living(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still live after that time, which is cut short when none does.

    One that ended counts as that, although whoever inherited it has not asked for its end yet.
    """
    deadline = time.monotonic() + seconds
    while left := [process for process in processes if _lives(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return left


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def show_measured(what: str, begin: float) -> None:
    """For the table in the README, "What happens when": pytest -s shows it."""
    print(f"\nmeasured: {what} after {time.monotonic() - begin:.1f} s")


def end_tree(launcher: subprocess.Popen[Any]) -> None:
    """Kill a process and all below it, if it still runs."""
    if launcher.poll() is None:
        for process in psutil.Process(launcher.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        launcher.kill()
    launcher.wait()
