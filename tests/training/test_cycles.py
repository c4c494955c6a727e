"""Hundreds of save-and-resume cycles in one process leave nothing behind in it."""

import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.config.training import Config
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.system import signals
from tests.helpers.training_runs import ROOT, rows

CYCLES = 150
"""A leak of 150 kB a cycle shows beside what the allocator does."""
WARM = 50
"""Cycles after which caches are full."""


def settings(folder: Path, epochs: int) -> Config:
    config = parse_training([
        "--data.root", str(folder / "videos"), "--output-dir", str(folder / "run"),
        "--resume", "auto", "--data.num-frames", "8", "--data.sampling-rate", "1",
        "--data.crop-size", "32", "--data.short-side", "32", "32", "--data.num-workers", "0",
        "--data.val-fraction", "0.1", "--model.name", "slowfast_tiny", "--model.pretrained",
        "false", "--model.norm", "local", "--mixed-precision", "no", "--wandb.mode", "disabled",
        "--global-batch-size", "1", "--micro-batch-size", "1", "--epochs", str(epochs),
        "--evaluation.every", "10", "--log-samples",
    ])  # fmt: skip
    assert config is not None
    return config


def ask_to_stop_in_each_step() -> None:
    """By a signal to this process, as a scheduler does."""
    from slowfast_dist.training.step import StepResult, TrainingStep

    whole = TrainingStep.run

    def run(*arguments: Any) -> StepResult:
        os.kill(os.getpid(), signal.SIGUSR1)
        return whole(*arguments)

    TrainingStep.run = run  # type: ignore[method-assign, assignment]


def cycle(config: Config) -> int:
    """Resume the run, train until it notices that it was asked to stop, save; returns the step."""
    from slowfast_dist.training.run import run_training

    try:
        assert run_training(config)["status"] == "preempted"
    finally:
        signals.forget()
    return max(int(path.name[5:]) for path in (config.output_dir / "checkpoints").iterdir())


def anonymous_memory() -> int:
    """Bytes that this process has allocated and holds in memory or in the swap space.

    Not its files in memory, as libraries: those come and go with what else the machine does.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
    return 1024 * (int(kilobytes["RssAnon"]) + int(kilobytes["VmSwap"]))


def main(folder: Path, cycles: int) -> None:
    """Print a JSON line every ten cycles: what this process holds."""
    signals.install("SIGUSR1")
    ask_to_stop_in_each_step()
    process = psutil.Process()
    config = settings(folder, epochs=cycles)  # more than it reaches
    for number in range(1, cycles + 1):
        step = cycle(config)
        if number % 10 == 0:
            gc.collect()
            held = {
                "cycle": number,
                "step": step,
                "files": process.num_fds(),
                "threads": process.num_threads(),
                "children": len(process.children(recursive=True)),
                "memory": anonymous_memory(),
            }
            print("held", json.dumps(held), flush=True)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.slow
@pytest.mark.timeout(1100)
def test_150_cycles_leave_no_files_processes_or_memory_behind(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    make_videos(videos, 5, seed=0, size=32, frames=8, classes=("moves left", "moves right"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.test_cycles", str(tmp_path), str(CYCLES)],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=1000,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("held ")]
    held = [json.loads(line.removeprefix("held ")) for line in lines]
    warm, last = [row for row in held if row["cycle"] >= WARM][:6], held[-6:]
    print(f"{warm[0]}\n{last[-1]}")
    assert warm[0]["cycle"] == WARM and last[-1]["cycle"] == CYCLES
    saved = [row["global_step"] for row in rows(tmp_path / "run", "checkpoint")]
    # Twice where an epoch ended: before its validation, and after it in the next cycle.
    assert saved == sorted(saved) and saved[-1] == last[-1]["step"] >= CYCLES
    # The middle of six looks: memory goes up and down by 2 %, as the allocator finds its gaps, and
    # a thread of the cycle before may still be ending.
    for name, growth in (("files", 1.0), ("threads", 1.0), ("children", 1.0), ("memory", 1.05)):
        before, after = (median(row[name] for row in looks) for looks in (warm, last))
        assert after <= growth * before, name


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
