"""The folder of a run: what lies where, who may start in it, and how the run stands."""

import csv
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any, Literal

import yaml

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config, config_dict
from slowfast_dist.runs.best_model import WEIGHTS
from slowfast_dist.runs.checkpoint import find_checkpoint, list_checkpoints, newest_valid
from slowfast_dist.runs.lock import RunLock
from slowfast_dist.runs.metrics_file import read_metrics
from slowfast_dist.runs.predictions import neighbours_of
from slowfast_dist.runs.settings import given, read_settings
from slowfast_dist.system.files import atomic_write, reason_of, write_json
from slowfast_dist.system.messages import sendable
from slowfast_dist.system.text import for_spreadsheets, option

Status = Literal["running", "finished", "preempted", "failed"]
PACKAGES = (
    "slowfast_dist", "torch", "torchvision", "pytorchvideo", "decord", "av", "accelerate",
    "scikit-learn", "numpy", "opencv-python-headless", "wandb", "tyro",
)  # fmt: skip
"""Packages whose versions environment.json has: those that results may depend on."""


@sendable
@dataclass(frozen=True)
class RunFolder:
    """Paths in a run's folder. They are an interface: see the README."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def training_log(self) -> Path:
        return self.root / "logs" / "training_log.txt"

    @property
    def samples(self) -> Path:
        return self.root / "logs" / "samples.csv"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions" / "val_best.csv"

    @property
    def neighbours(self) -> Path:
        return neighbours_of(self.predictions)

    @property
    def test_predictions(self) -> Path:
        return self.root / "predictions" / "test_best.csv"

    @property
    def shown(self) -> Path:
        """The folder as a person would type it: relative where it is below the current one."""
        here = Path.cwd()
        return self.root.relative_to(here) if self.root.is_relative_to(here) else self.root

    def holds_run(self) -> bool:
        return (self.root / "status").exists() or (self.root / "config.yaml").exists()

    def was_stopped_before_its_first_step(self) -> bool:
        """Whether a run was asked to stop, or its start failed, before it had anything that a new
        one could overwrite. The status is written last of what a start writes."""
        rows = self.metrics.exists() and self.metrics.stat().st_size
        kept = list_checkpoints(self.checkpoints) or list(self.models.glob("*"))
        status = self.status()
        began = status == "preempted" or (status is None and (self.root / "classes.json").exists())
        return began and not rows and not kept

    def status(self) -> str | None:
        """What `set_status` wrote last, None before that."""
        path = self.root / "status"
        if not path.exists():
            return None
        return path.read_text(encoding="utf-8", errors="backslashreplace").strip()

    def set_status(self, status: Status) -> None:
        with atomic_write(self.root / "status", "w") as file:
            file.write(f"{status}\n")

    def remove_if_empty(self) -> None:
        """After a mistake of the user's that was found before anything was written."""
        with suppress(OSError):
            self.root.rmdir()

    def describe(self, config: Config, classes: Sequence[str], environment: dict[str, Any]) -> None:
        """Write config.yaml (reloadable with --config), classes.json and environment.json."""
        with atomic_write(self.root / "config.yaml", "w") as file:
            yaml.safe_dump(config_dict(config), file, sort_keys=False, allow_unicode=True)
        write_json(self.root / "classes.json", dict(enumerate(classes)))
        write_json(self.root / "environment.json", environment)

    def list_unreadable(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Write unreadable_videos.csv, as `write_unreadable` does."""
        write_unreadable(self.root / "unreadable_videos.csv", rows)

    def read_unreadable(self) -> list[tuple[str, str, str]]:
        """The rows that `list_unreadable` wrote; what somebody made of others is left out."""
        path = self.root / "unreadable_videos.csv"
        if not path.exists():
            return []
        rows: list[tuple[str, str, str]] = []
        text = path.read_bytes().decode("utf-8", "replace")
        with suppress(csv.Error):
            for row in csv.reader(StringIO(text, newline="")):
                rows += [(row[0], row[1], row[2])] if len(row) == 3 else []
        return rows[1:]


def write_unreadable(
    path: Path, rows: Iterable[tuple[str, str, str]], safe: bool = False
) -> None:
    """Write a CSV of (path, reason, where it was met), each video once, atomically. ``safe``: for
    spreadsheets, as `for_spreadsheets` has it."""
    first = {row[0]: row for row in reversed(list(rows))}
    if safe:
        shown = for_spreadsheets
        first = {row[0]: (shown(row[0]), shown(row[1]), shown(row[2])) for row in first.values()}
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "reason", "where"))
        writer.writerows(sorted(first.values()))


@sendable
@dataclass(frozen=True)
class Start:
    """How a run begins: where, from which checkpoint (None: step 0), and what to tell the user.

    ``lock`` holds the folder for this run, on the main process and until `release`; a finished run
    needs none.
    """

    folder: RunFolder
    checkpoint: Path | None
    finished: bool
    messages: tuple[str, ...] = ()
    lock: RunLock | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What the other processes get: the lock is the main one's."""
        return self.__dict__ | {"lock": None}

    def release(self) -> None:
        """Let another run have the folder. May be called again."""
        if self.lock is not None:
            self.lock.release()


@dataclass(frozen=True)
class Length:
    """How long a run is asked to train, by the settings of these names; None: no such bound, or,
    of ``epochs``, not asked."""

    epochs: int | None = None
    hours: float | None = None
    patience: int | None = None


def open_run(output_dir: Path, resume: str, length: Length | None = None) -> Start:
    """Decide how a run begins; creates the folder and locks it. Main process only.

    ``{timestamp}`` in ``output_dir`` becomes the local time. A finished run goes on where it is
    asked for more epochs than it had, or ended before them and its hours or its patience, which
    ended it, are more now. Raises UserError where another run
    uses the folder, where it holds a run that must not be touched, or no checkpoint that could be
    continued.
    """
    template = "{timestamp}" in str(output_dir)
    if resume == "auto" and template:
        raise UserError(
            f"--resume auto --output-dir {output_dir}: a new folder holds nothing to continue; "
            "give the --output-dir of the run"
        )
    folder = RunFolder(_fresh(output_dir) if template else output_dir.absolute())
    length = length or Length()
    if resume == "auto" and (over := _nothing_to_do(folder, length)) is not None:
        return over
    lock = _lock(folder, output_dir)
    try:
        # Not before it is locked: a run that still goes on makes and deletes checkpoints.
        start = _decide(folder, output_dir, resume, length)
    except BaseException:
        lock.release()
        folder.remove_if_empty()
        raise
    if start.finished:
        lock.release()
        return start
    messages = start.messages if lock.message is None else (lock.message, *start.messages)
    return replace(start, messages=messages, lock=lock)


def _fresh(output_dir: Path) -> Path:
    """``output_dir`` with the time in it; a number too, where another run began in that second."""
    name = str(output_dir).replace("{timestamp}", time.strftime("%Y%m%d-%H%M%S"))
    for number in count(1):
        path = Path(name if number == 1 else f"{name}-{number}").absolute()
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError:  # which _lock says
            pass
        return path
    raise AssertionError


def _lock(folder: RunFolder, output_dir: Path) -> RunLock:
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = reason_of(error, folder.root)
        raise UserError(f"--output-dir {output_dir}: cannot create it ({why})") from None
    try:
        return RunLock(folder.root, output_dir)
    except OSError as error:
        folder.remove_if_empty()
        why = reason_of(error, folder.root)
        raise UserError(f"--output-dir {output_dir}: cannot write there ({why})") from None


def _decide(folder: RunFolder, output_dir: Path, resume: str, length: Length) -> Start:
    if resume == "auto":
        return _continue_or_begin(folder, length)
    anew = folder.was_stopped_before_its_first_step()
    messages = (f"{folder.root}: its run was stopped before the first step: begun anew",) * anew
    if resume == "never":
        if folder.holds_run() and not anew:
            raise UserError(
                f"--output-dir {output_dir} holds a run already "
                f"({folder.status() or 'without a status'}): continue it with --resume auto, or "
                "give a new --output-dir"
            )
        return Start(folder, None, False, messages)
    checkpoint = find_checkpoint(Path(resume)).absolute()
    if folder.holds_run() and not anew and checkpoint.parent != folder.checkpoints:
        raise UserError(
            f"--output-dir {output_dir} holds another run than --resume {resume}: give a new "
            "--output-dir, or the folder of that run"
        )
    return Start(folder, checkpoint, False, (*messages, f"resuming from {checkpoint}"))


def _nothing_to_do(folder: RunFolder, length: Length) -> Start | None:
    """None where the run is not finished, or was for less than ``length``."""
    if folder.status() != "finished":
        return None
    settings = read_settings(folder.root / "config.yaml")  # perhaps damaged
    done, epochs = settings.get("epochs", ""), length.epochs
    is_number = done.isdecimal() and len(done) < 10
    if epochs is not None and is_number and epochs > int(done):
        return None
    more = f" (more --epochs than its {done} train it further)" if done else ""
    bounds = [name for name in ("hours", "patience") if given(settings, name) is not None]
    last = _last_epoch(folder) if is_number and bounds else None
    if last is not None and last < int(done):
        if any(_is_more(getattr(length, name), settings[name]) for name in bounds):
            return None
        flags = " and ".join(f"--{name} {settings[name]}" for name in bounds)
        more = f" (after epoch {last} of {done}, by {flags}: with more of that it goes on)"
    return Start(folder, None, True, (f"{folder.root}: this run is finished, nothing to do{more}",))


def _last_epoch(folder: RunFolder) -> int | None:
    """The last epoch that metrics.jsonl has; None where it cannot be read."""
    with suppress(UserError, OSError):
        epochs = [row["epoch"] for row in read_metrics(folder.metrics) if row["kind"] == "epoch"]
        return max(epochs, default=None)
    return None


def _is_more(now: float | None, before: str) -> bool:
    """Whether a bound is ``now`` larger than it was, or gone; not where that was no number."""
    with suppress(ValueError):
        return float(before) > 0 and (now is None or now > float(before))
    return False


def _continue_or_begin(folder: RunFolder, length: Length) -> Start:
    if (over := _nothing_to_do(folder, length)) is not None:
        return over
    checkpoint, problems = newest_valid(folder.checkpoints)
    messages = [f"{problem}: skipped" for problem in problems]
    if checkpoint is not None:
        return Start(folder, checkpoint, False, (*messages, f"resuming from {checkpoint}"))
    if folder.status() == "finished" and not problems:
        weights = option("--model.weights", folder.shown / "models" / WEIGHTS)
        raise UserError(
            f"--resume auto --epochs {length.epochs}: {folder.shown} is finished, and its "
            "checkpoints, from which it could be trained further, are gone: restore one, or start "
            f"a new run from its best weights with {weights}"
        )
    metrics = folder.metrics.read_bytes() if folder.metrics.exists() else b""
    if list_checkpoints(folder.checkpoints) or b'"kind": "checkpoint"' in metrics:
        raise UserError(
            f"--resume auto: no checkpoint in {folder.checkpoints} is valid "
            f"({'; '.join(problems) or 'those recorded in metrics.jsonl are gone'}); restore one, "
            "or start over in a new --output-dir"
        )
    return Start(folder, None, False, (f"no checkpoint in {folder.root} yet: starting at step 0",))


def describe_environment(device: str, precision: str, processes: int) -> dict[str, Any]:
    """Versions, device, git commit and command, for environment.json."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "command": sys.argv, "python": platform.python_version(),
        "platform": platform.platform(), "host": platform.node(), "cpus": os.cpu_count(),
        "device": device, "mixed_precision": precision, "processes": processes,
        "git_commit": _git_commit(), "versions": versions,
    }  # fmt: skip


def _git_commit() -> str | None:
    """Of the package's own checkout, if it is one."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
