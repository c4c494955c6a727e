"""Kill a training again and again, resume it each time, and compare its end with a quiet one's.

``python -m tests.campaigns.chaos [--kills 20] [--seeds 3] [--processes 1] [--output DIR]``

A small training under the real command, on made videos, is killed with SIGKILL, launcher, ranks and
loader workers alike, at moments drawn from the seed: a third at any moment from the start of the
command on, a third while it trains, a third aimed into a save. Each next start is the same command
with ``--resume auto``. In the end weights, optimizer, best model, predictions, logs/samples.csv and
the numbers of metrics.jsonl must be, to the bit, those of a run of the same command that nobody
disturbed. Prints a line a seed; the exit code is 1 where anything differs, fails or lives on.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil

from slowfast_dist.data.synthetic import make_videos
from tests.helpers.training_runs import ROOT, TINY, command_of, living, rows

STEPS_AN_EPOCH = 5
SETTINGS = (
    *TINY, "--data.num-workers", "1", "--global-batch-size", "4", "--micro-batch-size", "2",
    "--model.norm", "local", "--optimizer.name", "adamw", "--optimizer.clip-norm", "1",
    "--schedule.name", "cosine", "--schedule.warmup-epochs", "0.5", "--checkpoint.every-steps", "2",
    "--log-samples", "--resume", "auto",
)  # fmt: skip
"""Saves in the middle of an epoch and at its end, so that a kill also loses a step."""

KEEP = 2
TOKEN = "SLOWFAST_DIST_CHAOS"
"""In the environment of every process of one start: whoever has it afterwards is an orphan."""

POLL_SECONDS = 0.002
FAMILY_SECONDS = 0.25
"""From one look for new processes of the start to the next: a look takes longer than a save."""
START_SECONDS = 300.0
END_SECONDS = 60.0
"""For killed processes to be gone: one that waits for the disk ends after that."""

SAVED_FILES = ("model.safetensors", "optimizer.pt")
OTHER_FILES = ("logs/samples.csv", "predictions/val_best.csv", "models/best_model_weights.pth")


class Broken(Exception):
    """A run did what it must not do; the text says what."""


class Start:
    """One start of the training command: its launcher and all that comes from it.

    At the end of its ``with`` block all of that is killed.
    """

    def __init__(self, output: Path, arguments: tuple[str | Path, ...], processes: int) -> None:
        self.token = uuid.uuid4().hex
        # Beside the run: what the probe remembers must not come from a test before.
        environment = {TOKEN: self.token, "SLOWFAST_DIST_CACHE": str(output.parent / "cache")}
        command, environment = command_of(
            ROOT / "train.py", *arguments, "--output-dir", output,
            processes=processes, env=environment,
        )  # fmt: skip
        self.output, self.log = output, output.with_suffix(".log")
        with open(self.log, "ab") as log:
            self.launcher = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self.begun = self._looked = time.monotonic()
        self._family = [psutil.Process(self.launcher.pid)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def wait_until(self, moment: Callable[[], bool], or_step: int | None = None) -> None:
        """Wait for the moment, or until a step above ``or_step`` is saved.

        Raises Broken if the command ends before, or if nothing of it comes.
        """
        while not moment() and (or_step is None or saves(self.output)[2] <= or_step):
            if self.launcher.poll() is not None:
                raise Broken(f"a start ended by itself ({self.launcher.returncode}): {self.log}")
            if self.seconds > START_SECONDS:
                raise Broken(f"no step in {START_SECONDS:g} s: {self.log}")
            if time.monotonic() - self._looked > FAMILY_SECONDS:
                with suppress(psutil.NoSuchProcess):
                    self._family = [self._family[0], *self._family[0].children(recursive=True)]
                self._looked = time.monotonic()
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """SIGKILL to every process at once, then to those that came up meanwhile."""
        for process in self._family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        deadline = time.monotonic() + END_SECONDS
        while found := list(self.alive()):
            for process in found:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            if time.monotonic() > deadline:
                raise Broken(f"processes outlive SIGKILL: {found}")
        self.launcher.wait()

    def alive(self) -> Iterator[psutil.Process]:
        """The processes of this start, wherever they hang in the tree of processes."""
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                mine = process.environ().get(TOKEN) == self.token
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    yield process

    def finish(self) -> None:
        """Wait for a good end that leaves no process: what served it may still be ending."""
        code = self.launcher.wait()
        if code != 0:
            raise Broken(f"a start failed ({code}): {self.log}")
        if left := living(list(self.alive()), 15):
            raise Broken(f"processes outlive the end of the run: {left}")


def saves(run: Path) -> tuple[int, int, int]:
    """Unfinished saves, finished ones, and the step of the newest, 0 where there is none."""
    with suppress(OSError):
        names = os.listdir(run / "checkpoints")
        steps = [int(name[5:]) for name in names if name.startswith("step_")]
        return sum(name.endswith(".tmp") for name in names), len(steps), max(steps, default=0)
    return 0, 0, 0


def moments(
    kind: str, run: Path, start: Start, draw: random.Random, typical: float
) -> Iterator[Callable[[], bool]]:
    """What to wait for, one after the other, before the kill; ``typical``: seconds of a start."""
    if kind == "any":
        delay = draw.uniform(0, 1.1 * typical)
        yield lambda: start.seconds > delay
        return
    newest = saves(run)[2]
    if kind == "training":
        yield lambda: saves(run)[2] > newest
    else:  # into the first or second save, before or after the renaming
        if draw.random() < 0.5:
            yield lambda: saves(run)[2] > newest
        if draw.random() < 0.7:
            yield lambda: saves(run)[0] > 0
        else:
            yield lambda: saves(run)[1] > KEEP
    pause = draw.uniform(0, 0.5 if kind == "training" else 0.02)
    until = time.monotonic() + pause
    yield lambda: time.monotonic() >= until


def disturbed(
    run: Path, arguments: tuple[str | Path, ...], processes: int, kills: int, steps: int,
    draw: random.Random, typical: float,
) -> Counter[str]:  # fmt: skip
    """Kill and resume a run, then let it end; returns how many kills hit what."""
    hits: Counter[str] = Counter()
    for number in range(kills):
        begin, last = saves(run)[2], steps * (number + 1) // (kills + 1)
        with Start(run, arguments, processes) as start:
            # The kind by turns. At the latest where the steps that are left need to be shared out.
            kind = ("save", "any", "training")[number % 3]
            for moment in moments(kind, run, start, draw, typical):
                start.wait_until(moment, or_step=last)
        unfinished, finished, newest = saves(run)
        hits["kills"] += 1
        hits["in a save"] += bool(unfinished)
        hits["saved, old one there"] += not unfinished and finished > KEEP
        hits["before a step"] += not unfinished and newest == begin
    with Start(run, arguments, processes) as start:
        start.finish()
    return hits


def differences(first: Path, second: Path) -> list[str]:
    """Names of what is not alike, to the bit, in two runs that ended."""
    ends = [max((run / "checkpoints").iterdir()) for run in (first, second)]
    found = ["last step"] if ends[0].name != ends[1].name else []
    for (one, other), files in ((ends, SAVED_FILES), ((first, second), OTHER_FILES)):
        found += [f for f in files if (one / f).read_bytes() != (other / f).read_bytes()]
    for kind in ("epoch", "step"):
        if numbers(first, kind) != numbers(second, kind):
            found.append(f"{kind} rows of metrics.jsonl")
    return found


def numbers(run: Path, kind: str) -> list[dict[str, Any]]:
    """The rows without what depends on the clock."""
    clock = ("epoch_seconds", "clips_per_second", "data_wait_fraction")
    return [{k: v for k, v in row.items() if k not in clock} for row in rows(run, kind)]


def chaos(folder: Path, seed: int, kills: int, processes: int) -> tuple[Counter[str], list[str]]:
    """One seed: the undisturbed run, the disturbed one, and in what they differ."""
    videos, quiet, run = folder / "videos", folder / "undisturbed", folder / "killed"
    if not videos.exists():  # 20 for training
        make_videos(videos, 12, seed=seed, size=32, frames=12,
                    classes=("moves left", "turns clockwise"))  # fmt: skip
    epochs = -(-4 * kills // STEPS_AN_EPOCH)
    arguments = (*SETTINGS, "--data.root", videos, "--epochs", str(epochs), "--seed", str(seed))
    with Start(quiet, arguments, processes) as start:
        start.wait_until(lambda: saves(quiet)[2] > 0)
        typical = start.seconds
        start.finish()
    steps = epochs * STEPS_AN_EPOCH
    hits = disturbed(run, arguments, processes, kills, steps, random.Random(seed), typical)
    return hits, differences(quiet, run)


COLUMNS = ("kills", "in a save", "saved, old one there", "before a step")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.campaigns.chaos", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--kills", type=int, default=20, help="a seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--output", type=Path, help="keeps the runs; else only those that differ")
    options = parser.parse_args(arguments)
    if options.output is not None and options.output.exists():
        parser.error(f"--output {options.output} exists: give a new folder")
    root = options.output or Path(tempfile.mkdtemp(prefix="chaos-"))
    good = True
    print(" | ".join(("seed", "processes", *COLUMNS, "minutes", "end")), flush=True)
    for seed in range(options.seeds):
        folder, begun = root / f"seed_{seed}", time.monotonic()
        folder.mkdir(parents=True)
        try:
            hits, different = chaos(folder, seed, options.kills, options.processes)
            end = "differs: " + ", ".join(different) if different else "the same to the bit"
        except Broken as broken:
            hits, different, end = Counter(), ["broken"], str(broken)
        good &= not different
        counts = [str(hits[name]) for name in COLUMNS]
        minutes = f"{(time.monotonic() - begun) / 60:.1f}"
        print(" | ".join((str(seed), str(options.processes), *counts, minutes, end)), flush=True)
    if good and options.output is None:
        shutil.rmtree(root)
    elif not good:
        print(f"the runs and what they printed: {root}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
