"""Damaged videos among good ones, under the real commands."""

import csv
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import av
import psutil

from slowfast_dist.data.listing.scan import VIDEO_SUFFIXES
from slowfast_dist.system.child import CRASHES, HANGS
from tests.campaigns.mutations import mutate, promises
from tests.helpers.training_runs import ROOT, TINY, command_of
from tests.helpers.video_kinds import KINDS, Kind, write

CLASSES = ("first", "second")
SOURCE_BYTES = 300_000
"""Larger videos are left out as sources: the point is the number of files."""

SETTINGS = (
    *TINY, "--data.sampling", "uniform", "--data.num-workers", "2", "--data.max-bad-fraction", "1",
    "--epochs", "1", "--global-batch-size", "16", "--micro-batch-size", "16", "--log-samples",
)  # fmt: skip
"""Uniform: a clip is of the whole video, so that all of it is read."""

PROCESS_BYTES = 1024**3
"""Of memory that one process may have at any time."""
TREE_BYTES = 2 * 1024**3
"""Of memory that all processes of a command may have together; shared pages count once."""
POLL_SECONDS = 0.25
END_SECONDS = 10.0
"""In which the kernel ends what is left of a command, on a busy machine, too."""
TOKEN = "SLOWFAST_DIST_FUZZ"
"""In the environment of every process of a command: whoever has it afterwards is an orphan."""


@dataclass
class Dataset:
    """A folder of class folders. ``good`` and ``bad``: names below it; of a bad one, its damage."""

    root: Path
    good: list[str] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)


@dataclass
class Done:
    """How one command ended; ``faults`` are what it must not have done."""

    name: str
    seconds: float
    process_bytes: int
    tree_bytes: int
    faults: list[str] = field(default_factory=list)
    decoded: int = 0
    listed: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        listed = ", ".join(f"{count} {why}" for why, count in sorted(self.listed.items()))
        return (
            f"{self.name}: {self.seconds:.0f} s; damaged: {self.decoded} decoded all the same, "
            f"listed: {listed or 'none'}; largest process {self.process_bytes / 1e6:.0f} MB, all "
            f"together {self.tree_bytes / 1e6:.0f} MB; {len(self.faults)} faults"
        )


PROMISING = {
    "VP8": KINDS["VP8"],
    "JPEG": Kind(".mov", "mjpeg", {}, frames=6, pix_fmt="yuvj420p"),
    "H.264": KINDS["H.264"],
    "MPEG-4": KINDS["MPEG-4"],
}
"""Kinds whose headers are easily made to promise what is not there."""


def write_kinds(folder: Path, kinds: Mapping[str, Kind]) -> list[Path]:
    """One video of each kind, in a folder of its own; codecs that FFmpeg lacks are left out."""
    paths = []
    for number, kind in enumerate(kinds.values()):
        with suppress(av.FFmpegError, ValueError):
            (folder / str(number)).mkdir(parents=True)
            paths.append(write(folder / str(number) / f"video{kind.suffix}", kind))
    return paths


def sources(folder: Path | None, made: Path) -> tuple[list[Path], list[Path]]:
    """(good, any): videos that read whole, and those to damage, which may be broken already.

    From ``folder``, as shared test data lie (odd/ beside class folders), or made in ``made``.
    """
    if folder is None:
        paths = write_kinds(made, KINDS)
        return paths, paths
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    small = [path for path in found if 0 < path.stat().st_size <= SOURCE_BYTES]
    odd = [path for path in small if "odd" in path.parts]
    good = [path for path in small if "odd" not in path.parts]
    if not good:
        raise SystemExit(f"--source {folder}: no videos up to {SOURCE_BYTES} bytes outside odd/")
    return good, good[:: max(1, len(good) // 40)] + 2 * odd


def make_dataset(root: Path, source: Path | None, files: int, good: int, draw: Random) -> Dataset:
    """Write ``good`` videos and ``files`` damaged ones, those with huge promises among them."""
    whole, any_kind = sources(source, root.parent / "sources")
    made = Dataset(root)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
    for number in range(good):
        path = whole[number % len(whole)]
        name = f"{CLASSES[number % 2]}/good_{number:04}{path.suffix}"
        shutil.copyfile(path, root / name)
        made.good.append(name)
    damaged = promises(write_kinds(root.parent / "promising", PROMISING))[: files // 2]
    contents = [(path.suffix, path.read_bytes()) for path in any_kind]
    while len(damaged) < files:
        (suffix, content), (_, other) = draw.choice(contents), draw.choice(contents)
        what, content = mutate(content, other, draw)
        if draw.random() < 0.1:
            suffix = draw.choice(sorted(VIDEO_SUFFIXES))
        damaged.append((what, suffix, content))
    for number, (what, suffix, content) in enumerate(damaged):
        name = f"{CLASSES[number % 2]}/bad_{number:04}{suffix}"
        (root / name).write_bytes(content)
        made.bad[name] = what
    return made


def run(
    name: str,
    words: tuple[str | Path, ...],
    log: Path,
    limit: float,
    exit_codes: tuple[int, ...] = (0,),
) -> Done:
    """Run a command to its end and watch its processes; what it prints goes to ``log``."""
    token = uuid.uuid4().hex
    own = {TOKEN: token, "SLOWFAST_DIST_CACHE": str(log.parent / f"cache-{name}")}
    command, environment = command_of(*words, env=own)
    begun = time.monotonic()
    with open(log, "wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    ended, peak = threading.Event(), [0]

    def watch() -> None:
        while not ended.wait(POLL_SECONDS):
            peak[0] = max(peak[0], sum(map(_shared_out, _tree(process.pid))))
            if time.monotonic() - begun > limit:
                for pid in reversed(_tree(process.pid)):
                    with suppress(psutil.NoSuchProcess):
                        psutil.Process(pid).kill()

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    ended.set()
    watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    # The kernel's own maximum, of this process or of any below it.
    done = Done(name, time.monotonic() - begun, usage.ru_maxrss * 1024, peak[0])
    printed = log.read_text(errors="replace")
    if done.seconds > limit:
        done.faults.append(f"did not end in {limit:.0f} s")
    elif process.returncode not in exit_codes:
        done.faults.append(f"exit code {process.returncode}")
    if "Traceback" in printed:
        done.faults.append("a traceback")
    if done.process_bytes > PROCESS_BYTES or done.tree_bytes > TREE_BYTES:
        done.faults.append(f"{done.process_bytes} bytes in a process, {done.tree_bytes} in all")
    until = time.monotonic() + END_SECONDS
    while (left := list(_with_token(token))) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    if left:
        done.faults.append(f"processes outlive it: {left}")
    return done


def _tree(pid: int) -> list[int]:
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [pid, *(child.pid for child in root.children(recursive=True))]
    return []


def _shared_out(pid: int) -> int:
    """Bytes of memory of a process; a page that several share counts in parts."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _with_token(token: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            mine = process.environ().get(TOKEN) == token
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def judge(done: Done, data: Dataset, used: set[str], listed: dict[str, str]) -> None:
    """Every good video was used, none listed; every bad one was used or is listed."""
    if left := [name for name in data.good if name not in used]:
        done.faults.append(f"{len(left)} good videos were not used, as {left[0]}")
    if wrong := [name for name in data.good if name in listed]:
        done.faults.append(f"{len(wrong)} good videos listed, as {wrong[0]}: {listed[wrong[0]]}")
    if lost := [name for name in data.bad if name not in used and name not in listed]:
        done.faults.append(f"{len(lost)} bad videos neither used nor listed, as {lost[0]}")
    done.decoded = sum(name in used for name in data.bad)
    for reason in listed.values():
        fatal = [why for why in (HANGS, CRASHES) if reason.startswith(why)]
        done.listed[fatal[0] if fatal else "unreadable"] += 1


def _limit(data: Dataset) -> float:
    """Seconds for a command; were a file in ten to hang, on two processes it would take as long."""
    return 120 + 1.0 * (len(data.good) + len(data.bad))


def check_training(data: Dataset, folder: Path) -> Done:
    """``train.py`` on the dataset, into ``folder``/run."""
    run_folder = folder / "run"
    words = (ROOT / "train.py", *SETTINGS, "--data.root", data.root, "--output-dir", run_folder)
    done = run("train", words, folder / "train.log", _limit(data))
    if done.faults:
        return done
    listed = {row["path"]: row["reason"] for row in _table(run_folder / "unreadable_videos.csv")}
    steps = _table(run_folder / "logs" / "samples.csv")
    used = {row["sample"] for row in steps if row["sample"] == row["video"]}
    used |= {row["path"] for row in _table(run_folder / "predictions" / "val_best.csv")}
    judge(done, data, used, listed)
    return done


def check_evaluation(data: Dataset, folder: Path) -> Done:
    """``evaluate`` with the model of ``folder``/run."""
    output = folder / "evaluation"
    words = (
        "-m", "slowfast_dist", "evaluate", folder / "run", "--data", data.root, "--output", output,
        "--mixed-precision", "no", "--num-workers", "2",
    )  # fmt: skip
    done = run("evaluate", words, folder / "evaluate.log", _limit(data))
    if done.faults:
        return done
    listed = {row["path"]: row["reason"] for row in _table(output / "unreadable_videos.csv")}
    judge(done, data, {row["path"] for row in _table(output / "predictions.csv")}, listed)
    return done


def check_checking(data: Dataset, folder: Path) -> Done:
    """``check-data``: what it does not list it must have looked at."""
    return _check_data(data, folder, "check-data")


def check_checking_all(data: Dataset, folder: Path) -> Done:
    """``check-data --full``: every frame of every file."""
    return _check_data(data, folder, "check-data-full", "--full")


def _check_data(data: Dataset, folder: Path, name: str, *flags: str) -> Done:
    file = folder / f"{name}.json"
    words: tuple[str | Path, ...]
    words = ("-m", "slowfast_dist", "check-data", data.root, "--json", file, *flags)
    done = run(name, words, folder / f"{name}.log", _limit(data), exit_codes=(0, 1))
    if done.faults:
        return done
    report = json.loads(file.read_text(encoding="utf-8"))
    unreadable = [found for found in report["findings"] if found["kind"] == "unreadable"]
    listed = {item["path"]: item["reason"] for found in unreadable for item in found["items"]}
    everything = {*data.good, *data.bad}
    if unknown := sorted(set(listed) - everything):
        done.faults.append(f"{len(unknown)} files listed that are none, as {unknown[0]}")
    counted = {"videos": len(everything), "readable": len(everything) - len(listed)}
    if wrong := {key: report[key] for key in counted if report[key] != counted[key]}:
        done.faults.append(f"it reports {wrong}, {counted} are listed")
    if listed and report["ok"]:
        done.faults.append("it says that all is well")
    judge(done, data, everything - set(listed), listed)
    return done


def fuzz_videos(folder: Path, source: Path | None, files: int, good: int, seed: int) -> bool:
    """Write the dataset and run the commands; prints a line each. Returns whether all was well."""
    data = make_dataset(folder / "videos", source, files, good, Random(seed))
    kinds = Counter(what for damage in data.bad.values() for what in damage.split(", "))
    print(f"{len(data.good)} good videos, {len(data.bad)} damaged: {dict(kinds)}", flush=True)
    with open(folder / "damages.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(data.bad.items())
    well = True
    for check in (check_training, check_evaluation, check_checking, check_checking_all):
        if check is check_evaluation and not (folder / "run" / "models").is_dir():
            print("evaluate: left out, as there is no model", flush=True)
            continue
        done = check(data, folder)
        well &= not done.faults
        print("\n  ".join((str(done), *done.faults)), flush=True)
    return well


if __name__ == "__main__":
    sys.exit("python -m tests.campaigns.fuzz videos")
