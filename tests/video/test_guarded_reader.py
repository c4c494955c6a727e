"""A decoder that hangs or dies costs its video and a time limit, and leaves nothing behind."""

import csv
import errno
import gc
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from slowfast_dist.config.errors import WorkerError
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.video import guarded_reader as guard
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.guarded_reader import GuardedReader, is_fatal
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames, read_views
from slowfast_dist.video.views import SpatialView
from tests.helpers.training_runs import ROOT, TINY, launch, rows

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(os, "fork"), reason="the guard needs Linux, and fork"
)

VIEW = SpatialView(top=4, left=20, height=48, width=64, size=32, flip=True)
INDICES = np.array([0, 3, 3, 17, 39])


@pytest.fixture
def good(videos: Any) -> Path:
    path: Path = videos.path("H.264")
    return path


@pytest.fixture(params=["forked", "started anew"])
def started(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How the child starts: as in a process of one thread, and of several."""
    monkeypatch.setattr(guard, "threads", lambda: 1 if request.param == "forked" else 2)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[GuardedReader]:
    """Its child is forked, unless the test asks for both: it then sees what the test patches."""
    monkeypatch.setattr(guard, "threads", lambda: 1)
    reader = GuardedReader()
    yield reader
    reader.close()


@pytest.fixture
def either(reader: GuardedReader, started: None) -> GuardedReader:
    return reader


def read(reader: GuardedReader, path: Path, probed: Path) -> np.ndarray:
    return reader.read(path, INDICES, probe_file(probed), "pyav", VIEW)


def child_of(reader: GuardedReader) -> int:
    assert reader._child is not None
    return reader._child.process.pid


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def fifo(folder: Path) -> Path:
    """What stops every reader for ever: nobody writes to it."""
    path = folder / "hangs.mp4"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("decoder", ["auto", "decord", "pyav"])
def test_the_frames_are_those_of_the_decoder(
    videos: Any, either: GuardedReader, decoder: Any
) -> None:
    """Small ones first: the memory for them is too small for the others."""
    if decoder == "decord":
        pytest.importorskip("decord")
    for kind in ("H.264", "VP9", "H.264 odd size 4:4:4"):
        path = videos.path(kind)
        info = probe_file(path)
        for view in (VIEW, None):
            expected = read_frames(path, INDICES, info, decoder, view)
            found = either.read(path, INDICES, info, decoder, view)
            last = either.read(path, INDICES[-1:], info, decoder, view)
            assert np.array_equal(last, expected[-1:])
            assert np.array_equal(found, expected)  # which the last did not overwrite


def test_a_video_that_hangs_costs_the_time_limit(
    good: Path, either: GuardedReader, tmp_path: Path
) -> None:
    expected, before = read(either, good, good), child_of(either)
    either.seconds = 0.5
    start = time.monotonic()
    with pytest.raises(DecodeError, match="hangs the decoder: given up after 0.5 s") as caught:
        read(either, fifo(tmp_path), good)
    assert 0.4 < time.monotonic() - start < guard.DECODE_SECONDS
    assert is_fatal(caught.value.reason) and not psutil.pid_exists(before)
    either.seconds = None
    assert np.array_equal(read(either, good, good), expected)


@pytest.mark.parametrize(
    ("end", "how"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "signal SIGSEGV"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "signal SIGKILL"),  # as for its memory
        (lambda: os._exit(3), "exit code 3"),
    ],
)
def test_a_crash_says_how(
    good: Path, reader: GuardedReader, monkeypatch: pytest.MonkeyPatch, end: Any, how: str
) -> None:
    def ends(path: Path, *others: Any) -> Any:
        return end() if path.name == "crashes.mp4" else read_views(path, *others)

    monkeypatch.setattr(guard, "read_views", ends)
    with pytest.raises(DecodeError) as caught:
        read(reader, good.with_name("crashes.mp4"), good)
    assert caught.value.reason == f"crashes the decoder ({how})" and is_fatal(caught.value.reason)
    assert len(read(reader, good, good)) == len(INDICES)


def test_what_the_decoder_refuses_is_no_crash(
    good: Path, either: GuardedReader, tmp_path: Path
) -> None:
    read(either, good, good)
    before = child_of(either)
    with pytest.raises(DecodeError, match="No such file") as caught:
        read(either, tmp_path / "gone.mp4", good)
    assert not is_fatal(caught.value.reason) and child_of(either) == before


def test_a_bug_keeps_its_traceback(
    good: Path, reader: GuardedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy(*arguments: Any) -> Any:
        raise KeyError("of the test")

    monkeypatch.setattr(guard, "read_views", buggy)
    with pytest.raises(AssertionError, match="(?s)in buggy.*KeyError: 'of the test'"):
        read(reader, good, good)


@pytest.mark.slow
def test_two_hundred_deaths_leave_no_file_process_or_memory(
    good: Path, reader: GuardedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "read_views", lambda *arguments: os._exit(1))
    info, found = probe_file(good), []
    gc.collect()  # what earlier tests left in cycles holds children, files and memory too
    for repeats in (5, 200):
        for _ in range(repeats):
            with pytest.raises(DecodeError, match="exit code 1"):
                reader.read(good, INDICES, info, "pyav", VIEW)
        shared = Path("/proc/self/maps").read_text().count("memfd:slowfast_dist")
        found.append((len(os.listdir("/proc/self/fd")), shared, children()))
    (files, maps, processes), after = found
    # Less, where something of an earlier test ended meanwhile.
    assert after[0] <= files and after[1] <= maps and after[2] <= processes, found


def test_a_clip_stays_as_it_is_while_anything_is_left_of_it(
    good: Path, reader: GuardedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when more are held than there are parts of shared memory, or its child has ended."""
    info = probe_file(good)
    size = 5 * 32 * 32 * 3
    monkeypatch.setattr(guard, "SLOT_BYTES", 6 * size)

    def clip(first: int) -> np.ndarray:
        return reader.read(good, np.arange(first, first + 5), info, "pyav", VIEW)

    expected = [read_frames(good, np.arange(n, n + 5), info, "pyav", VIEW) for n in range(30)]
    parts: tuple[Any, ...] = (
        lambda frames: frames,
        lambda frames: frames[1:][::2][..., :1],
        lambda frames: frames.reshape(-1)[7:].view(np.uint8),
        lambda frames: torch.from_numpy(frames).permute(0, 3, 1, 2)[2:],
        memoryview,
    )
    for held in (1, 3, 12):
        kept: list[tuple[int, int, Any]] = []
        for turn in range(25):
            kind = turn % len(parts)
            kept = [*kept, (turn, kind, parts[kind](clip(turn)))][-held:]
            for number, kind, found in kept:
                np.testing.assert_array_equal(
                    np.asarray(found), np.asarray(parts[kind](expected[number]))
                )
    reader.close()
    gc.collect()
    assert all(len(np.asarray(found)) for *_, found in kept)
    np.testing.assert_array_equal(clip(3), expected[3])
    assert np.array_equal(np.asarray(kept[-1][2]), np.asarray(parts[4](expected[24])))


def test_memory_is_used_again_once_a_clip_is_let_go_of(good: Path, either: GuardedReader) -> None:
    info = probe_file(good)

    def place() -> int:
        frames = either.read(good, INDICES, info, "pyav", VIEW)
        return frames.__array_interface__["data"][0]

    assert len({place() for _ in range(20)}) <= 2


def test_a_clip_let_go_of_during_a_read_does_not_take_its_place(
    good: Path, either: GuardedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a garbage collection does at any time, of what an exception's traceback still held."""
    expected = read_frames(good, INDICES, probe_file(good), "pyav", VIEW)
    held = [read(either, good, good)]
    held[0][:] = 0
    ask = guard._Child.ask

    def ask_and_let_go(*arguments: Any) -> Any:
        answer = ask(*arguments)
        held.clear()
        return answer

    monkeypatch.setattr(guard._Child, "ask", ask_and_let_go)
    np.testing.assert_array_equal(read(either, good, good), expected)


def test_its_memory_goes_with_it_and_waits_for_no_garbage_collection(
    good: Path, either: GuardedReader
) -> None:
    """A server of many small videos may do without one for minutes."""

    def memories() -> int:
        links = (Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
        return sum("slowfast_dist" in os.readlink(link) for link in links if link.is_symlink())

    gc.collect()
    gc.disable()
    try:
        before = memories()
        read(either, good, good)
        assert memories() == before + 1
        either.close()
        assert memories() == before
    finally:
        gc.enable()


def test_a_clip_that_a_fork_holds_stays_as_it_is(good: Path, reader: GuardedReader) -> None:
    expected = read(reader, good, good)
    held, (theirs, ours) = expected.copy(), os.pipe()
    if not (forked := os.fork()):
        try:
            os.read(theirs, 1)
            os._exit(0 if np.array_equal(expected, held) else 1)
        finally:
            os._exit(2)
    del expected
    for first in range(8):
        reader.read(good, INDICES[:1] + first, probe_file(good), "pyav", VIEW)
    os.write(ours, b"x")
    os.close(ours)
    os.close(theirs)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0


def test_a_child_that_dies_idle_costs_no_video(good: Path, either: GuardedReader) -> None:
    expected = read(either, good, good)
    os.kill(child_of(either), signal.SIGKILL)
    os.waitid(os.P_PID, child_of(either), os.WEXITED | os.WNOWAIT)  # which leaves it to its parent
    assert np.array_equal(read(either, good, good), expected)


def test_the_child_holds_no_file_of_its_parent_and_ignores_its_signals(
    good: Path, either: GuardedReader, tmp_path: Path
) -> None:
    with open(tmp_path / "lock", "w"):
        read(either, good, good)
        child = child_of(either)
        held = [os.readlink(file) for file in Path(f"/proc/{child}/fd").iterdir()]
    assert sorted(held)[:3] == ["/dev/null"] * 3
    assert len(held) == 4 and max(held).startswith("socket:")
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        os.kill(child, name)
    read(either, good, good)
    assert child_of(either) == child


def test_an_interrupted_read_leaves_no_answer_for_the_next(
    good: Path, reader: GuardedReader, videos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = videos.path("VP9")

    def slow(asked: Path, *others: Any) -> Any:
        if asked == path:
            os.kill(os.getppid(), signal.SIGUSR1)  # which waits for the answer
        time.sleep(0.2)
        return read_views(asked, *others)

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    info = probe_file(path)
    monkeypatch.setattr(guard, "read_views", slow)
    previous = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            reader.read(path, INDICES, info, "pyav", VIEW)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    expected = read_frames(good, INDICES, probe_file(good), "pyav", VIEW)
    assert np.array_equal(read(reader, good, good), expected)


def test_a_forked_or_pickled_copy_makes_its_own_child(good: Path, reader: GuardedReader) -> None:
    expected, own = read(reader, good, good), child_of(reader)
    if not (forked := os.fork()):
        try:
            same = np.array_equal(read(reader, good, good), expected)
            fine = same and child_of(reader) != own and psutil.pid_exists(own)
            reader.close()
            os._exit(0 if fine else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.seconds == reader.seconds
    assert np.array_equal(read(copy, good, good), expected) and child_of(copy) != own
    made = child_of(copy)
    del copy
    assert not psutil.pid_exists(made)
    assert np.array_equal(read(reader, good, good), expected) and child_of(reader) == own


@pytest.mark.parametrize("what", ["memory", "map", "pipe", "process"])
def test_a_child_that_cannot_start_is_one_line_and_leaves_no_file(
    good: Path, either: GuardedReader, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """At a limit of processes or files, or without memory."""

    def refuse(*arguments: Any, **others: Any) -> Any:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    info = probe_file(good)
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        if what == "process":
            patch.setattr(os, "fork", refuse)
            patch.setattr(subprocess, "Popen", refuse)
        else:
            name = {"memory": "new_memory", "map": "mapped", "pipe": "Pipe"}[what]
            patch.setattr(guard, name, refuse)
        said = "^a decoding process does not start: Resource temporarily unavailable: .*ulimit -u"
        with pytest.raises(WorkerError, match=said):
            either.read(good, INDICES, info, "pyav", VIEW)
    assert sorted(os.listdir("/proc/self/fd")) == before
    expected = read_frames(good, INDICES, info, "pyav", VIEW)
    assert np.array_equal(read(either, good, good), expected)


STOPPED = """
import sys, time
from pathlib import Path
import numpy as np
from slowfast_dist.video import guarded_reader as guard
from slowfast_dist.video.probe import probe_file

def slow(path, *others):
    print("reads", flush=True)
    time.sleep(0.5)
    return read(path, *others)

read, guard.read_views = guard.read_views, slow
guard.threads = lambda: 1  # forked, to be slow
guard._let_go_of_files = lambda keep: None  # to print
path = Path(sys.argv[1])
frames = guard.GuardedReader(seconds=4).read(path, np.arange(3), probe_file(path), "pyav", None)
print(len(frames))
"""


def test_the_time_in_which_all_were_stopped_does_not_count(good: Path) -> None:
    """As by Ctrl-Z in a terminal, which stops the decoder too."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, good], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "reads\n"
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(4.5)  # longer than the limit, of which the busiest machine has enough left
    os.killpg(process.pid, signal.SIGCONT)
    assert process.communicate(timeout=120)[0] == "3\n" and process.returncode == 0


SPOILED = """
import os, signal, sys
sys.path.insert(0, os.getcwd())
from slowfast_dist.training import run as training
from slowfast_dist.video import guarded_reader as guard

def find_videos(*arguments):
    found = find(*arguments)
    for hangs in (found.train[0], found.val[0]):
        hangs.path.unlink()
        os.mkfifo(hangs.path)
    found.train[1].path.chmod(0o600)
    return found

def crashes(path):
    return path.stat().st_mode & 0o777 == 0o600

def read_views(path, *others):
    if crashes(path):
        os.kill(os.getpid(), signal.SIGSEGV)
    return read(path, *others)

def ask(reader, path, *others):
    hangs = path.is_fifo()
    reader.seconds = 3.0 if hangs else None  # for the others a machine may be busy
    if hangs or crashes(path):
        with open(sys.argv[1], "a") as file:
            print(path, file=file)
    return asked(reader, path, *others)

guard.threads = lambda: 1  # forked, to crash
find, training.find_videos = training.find_videos, find_videos
read, guard.read_views = guard.read_views, read_views
asked, guard.GuardedReader.read_views = guard.GuardedReader.read_views, ask
from slowfast_dist.cli.main import main
main(["train", *sys.argv[2:]])
"""
"""A training in which a video of each side hangs and another one crashes after the probe. Its first
argument: the file in which it lists each attempt to read one of them."""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_training_goes_on_without_the_videos_that_hang_or_crash(
    tmp_path: Path, workers: int
) -> None:
    root, output, script = tmp_path / "videos", tmp_path / "run", tmp_path / "spoiled.py"
    make_videos(root, 6, seed=0, size=32, frames=12, classes=("moves left", "turns clockwise"))
    script.write_text(SPOILED)
    attempts = tmp_path / "attempts"
    done = launch(
        script, attempts, *TINY, "--data.root", root, "--output-dir", output, "--epochs", "3",
        "--global-batch-size", "4", "--micro-batch-size", "2", "--data.max-bad-fraction", "0.5",
        "--data.num-workers", str(workers),
        "--data.cache", "off",  # else what is kept is decoded by another call
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (output / "status").read_text() == "finished\n"
    with open(output / "unreadable_videos.csv", encoding="utf-8", newline="") as file:
        listed = [(row["reason"], row["where"]) for row in csv.DictReader(file)]
    assert sorted(listed) == [
        ("crashes the decoder (signal SIGSEGV)", "training"),
        ("hangs the decoder: given up after 3 s", "training"),
        ("hangs the decoder: given up after 3 s", "validation"),
    ]
    epochs = rows(output, "epoch")
    assert [row["train/samples_replaced"] for row in epochs] == [2, 2, 2]
    assert [row["val/unreadable"] for row in epochs] == [1, 1, 1]
    # The later epochs wait for none of them again.
    tried = attempts.read_text().splitlines()
    assert len(tried) == len(set(tried)) == 3, tried
