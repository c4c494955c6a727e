"""One run at a time in a folder, and none is kept out by a run that died."""

import errno
import fcntl
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from slowfast_dist.config.errors import UserError
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.runs import lock as run_lock
from slowfast_dist.runs.lock import RunLock
from tests.helpers.training_runs import ROOT, TINY, show_measured, train

HOLD = """
import sys
from pathlib import Path
from slowfast_dist.runs import lock as run_lock
from slowfast_dist.config.errors import UserError

run_lock.WATCH_SECONDS = float(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
try:
    lock = run_lock.RunLock(Path(sys.argv[1]), Path("runs/x"))
except UserError as error:
    sys.exit(f"error: {error}")
print(lock.message, flush=True)
sys.stdin.read()
lock.release()
"""
"""Takes the lock after a line on standard input, and holds it until that ends."""

LONG = 60.0
"""Seconds to watch a lock in tests in which none ought to be watched for so long."""

FOREIGN = {"host": "far", "machine": "far 1", "pid": 7, "since": "2025-01-02 03:04:05+00:00"}


def ready(folder: Path) -> subprocess.Popen[str]:
    """Another process that has imported all and is about to take the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder, str(LONG)], cwd=ROOT, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def go(*processes: subprocess.Popen[str]) -> None:
    """Let them take the lock."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def started(folder: Path) -> subprocess.Popen[str]:
    process = ready(folder)
    go(process)
    return process


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a machine that is busy for seconds is told from a lock that was watched."""
    monkeypatch.setattr(run_lock, "WATCH_SECONDS", LONG)


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    process = started(folder)
    try:
        assert process.stdout is not None and process.stdout.readline() == "None\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_second_process_is_told_whom_to_stop(tmp_path: Path, patient: None) -> None:
    with holder(tmp_path) as first:
        begin = time.monotonic()
        with pytest.raises(UserError) as error:
            RunLock(tmp_path, Path("runs/x"))
        assert time.monotonic() - begin < LONG
    message = str(error.value)
    assert message.startswith("--output-dir runs/x is in use by a run on ")
    assert f"(process {first.pid}, since 20" in message
    assert message.endswith("): stop it, or give a new --output-dir")


def test_a_killed_process_leaves_its_lock_to_the_next_at_once(
    tmp_path: Path, patient: None
) -> None:
    with holder(tmp_path) as first:
        pass  # killed
    begin = time.monotonic()
    lock = RunLock(tmp_path, tmp_path)
    assert time.monotonic() - begin < LONG
    assert lock.message is not None and f"process {first.pid}, since" in lock.message
    assert lock.message.endswith("which is dead: taking over")
    lock.release()


def test_a_clean_end_leaves_nothing(tmp_path: Path) -> None:
    lock = RunLock(tmp_path, tmp_path)
    lock.release()
    lock.release()
    assert list(tmp_path.iterdir()) == []
    again = RunLock(tmp_path, tmp_path)
    assert again.message is None
    again.release()


def test_two_runs_of_one_process_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    lock = RunLock(tmp_path / "run", tmp_path)
    for _ in range(2):  # the refused one must not have dropped the first one's lock
        with pytest.raises(UserError, match=f"process {os.getpid()}"):
            RunLock(tmp_path / "link", tmp_path)
    other = started(tmp_path / "run")
    assert other.communicate(timeout=300)[1].startswith("error: --output-dir runs/x is in use")
    lock.release()


def test_workers_that_fork_neither_keep_nor_drop_the_lock(tmp_path: Path) -> None:
    lock = RunLock(tmp_path, tmp_path)
    fork = multiprocessing.get_context("fork")
    short, long = fork.Process(target=int), fork.Process(target=time.sleep, args=(60,))
    short.start()
    short.join()
    long.start()
    other = started(tmp_path)
    assert "in use" in other.communicate(timeout=300)[1]
    lock.release()
    other = started(tmp_path)
    assert other.communicate(timeout=300) == ("None\n", "")
    long.kill()
    long.join()


def test_of_processes_that_start_at_once_one_wins(tmp_path: Path) -> None:
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        processes = [ready(folder) for _ in range(4)]
        go(*processes)
        deadline = time.monotonic() + 300
        while sum(process.poll() is None for process in processes) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ends = [process.communicate(timeout=300) for process in processes]
        assert sorted(out for out, _ in ends) == ["", "", "", "None\n"], ends
        assert sum("in use" in err for _, err in ends) == 3, ends
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize("content", [json.dumps(FOREIGN), ""], ids=["whole", "empty"])
def test_a_lock_without_signs_of_life_is_taken_over(
    tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another host, or of a process that died before it had signed."""
    watch, watched = RunLock._watch, []

    def once(self: RunLock, left: bytes) -> bytes:
        watched.append(left)
        return watch(self, left)

    monkeypatch.setattr(RunLock, "_watch", once)
    (tmp_path / ".lock").write_text(content)
    begin = time.monotonic()
    lock = RunLock(tmp_path, Path("runs/x"))
    assert time.monotonic() - begin >= run_lock.WATCH_SECONDS
    assert watched == [content.encode()]
    whose = "a run on far (process 7" if content else "a process that died as it started"
    assert lock.message is not None and f"runs/x was locked by {whose}" in lock.message
    other = started(tmp_path)
    assert "in use" in other.communicate(timeout=300)[1], "the kernel's lock was lost"
    lock.release()


def test_a_pause_of_the_watcher_is_no_death_of_the_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sign of life that came while this process was stopped is seen before its verdict."""
    (tmp_path / ".lock").write_text(json.dumps(FOREIGN))

    close = os.close

    def stopped(descriptor: int) -> None:
        """Just after a look."""
        close(descriptor)
        if watching:
            watching.clear()
            time.sleep(2 * run_lock.WATCH_SECONDS)
            os.utime(tmp_path / ".lock")

    watching = [True]
    monkeypatch.setattr(run_lock, "WATCH_SECONDS", 0.2)
    watch = RunLock._watch

    def watched(self: RunLock, left: bytes) -> bytes:
        with monkeypatch.context() as patch:
            patch.setattr(os, "close", stopped)
            return watch(self, left)

    monkeypatch.setattr(RunLock, "_watch", watched)
    with pytest.raises(UserError, match="on far"):
        RunLock(tmp_path, Path("runs/x"))


def test_signs_of_life_from_another_host_refuse(tmp_path: Path, patient: None) -> None:
    path = tmp_path / ".lock"
    path.write_text(json.dumps(FOREIGN))
    done = threading.Event()

    def live() -> None:
        while not done.wait(run_lock.TOUCH_SECONDS):
            os.utime(path)

    thread = threading.Thread(target=live)
    thread.start()
    begin = time.monotonic()
    try:
        with pytest.raises(UserError, match="on far \\(process 7, since 2025-01-02 03:04:05"):
            RunLock(tmp_path, tmp_path)
    finally:
        done.set()
        thread.join()
    assert time.monotonic() - begin < LONG


@pytest.fixture
def without_kernel_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Lustre answers where it is mounted without them; Windows has none either."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "lockf", refuse)


def test_without_kernel_locks_the_holder_shows_life(
    tmp_path: Path, without_kernel_locks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holder(tmp_path) as first, monkeypatch.context() as patch:
        patch.setattr(run_lock, "WATCH_SECONDS", LONG)
        begin = time.monotonic()
        with pytest.raises(UserError, match=f"process {first.pid}"):
            RunLock(tmp_path, tmp_path)
        assert time.monotonic() - begin < LONG
    lock = RunLock(tmp_path, tmp_path)  # killed: nothing touches it any more
    assert lock.message is not None and f"process {first.pid}" in lock.message
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_take_a_dead_lock_over_one_wins(
    tmp_path: Path, without_kernel_locks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both watch for the whole time, and both sign before they see the other's name."""
    (tmp_path / ".lock").write_text(json.dumps(FOREIGN))
    context = multiprocessing.get_context("fork")
    write, both = run_lock._write, context.Barrier(2)

    def together(descriptor: int, content: bytes) -> None:
        both.wait(300)
        write(descriptor, content)

    def take() -> None:
        try:
            RunLock(tmp_path, tmp_path)
        except UserError:
            sys.exit(3)

    monkeypatch.setattr(run_lock, "_write", together)
    monkeypatch.setattr(run_lock, "WATCH_SECONDS", 0.2)  # neither can sign before the other
    monkeypatch.setattr(run_lock, "POLL_SECONDS", 1.0)  # to sign a busy machine may need that long
    other = context.Process(target=take)
    other.start()
    won: RunLock | None = None
    with suppress(UserError):
        won = RunLock(tmp_path, tmp_path)
    other.join(300)
    assert other.exitcode == (0 if won is None else 3)
    if won is not None:
        won.release()


@pytest.mark.slow
def test_train_refuses_a_folder_in_use_and_goes_on_once_its_run_is_dead(tmp_path: Path) -> None:
    make_videos(tmp_path / "videos", 4, seed=0, size=32, frames=12,
                classes=("moves left", "moves right"))  # fmt: skip
    run = tmp_path / "run"
    run.mkdir()
    arguments = (
        *TINY, "--data.root", tmp_path / "videos", "--epochs", "1", "--output-dir", run,
        "--global-batch-size", "4", "--micro-batch-size", "2",
    )  # fmt: skip
    with holder(run) as first:
        begin = time.monotonic()
        before = os.times()
        refused = train(*arguments, "--resume", "auto", fork=False)
        after = os.times()
        cpu = after.children_user + after.children_system
        cpu -= before.children_user + before.children_system
        assert cpu < 2  # before the imports, which take more, on a busy machine as on any
        show_measured("a second run in the folder: refused", begin)
    assert refused.returncode == 2 and f"(process {first.pid}, since" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert [path.name for path in run.iterdir()] == [".lock"]
    done = train(*arguments, "--resume", "auto", processes=2)
    assert done.returncode == 0 and "which is dead: taking over" in done.stdout, done.stderr
    assert (run / "status").read_text() == "finished\n" and not (run / ".lock").exists()
