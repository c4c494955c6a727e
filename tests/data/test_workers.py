"""How loaders' processes start, by every method, what they need, and what is said where they end.
"""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from multiprocessing.context import set_spawning_popen
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError, WorkerError
from slowfast_dist.data import workers
from slowfast_dist.data.listing.columns import InfoColumns
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.loaders import make_evaluation_loader
from slowfast_dist.data.sampler import ViewKey
from slowfast_dist.data.samples.batch import Sample
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.data.workers import WorkerPlan, end_workers, plan_workers
from slowfast_dist.system import cgroups, cpus
from slowfast_dist.system.workers.context import Process
from slowfast_dist.system.workers.shared import Shared, _unpack, shared_copy
from slowfast_dist.video.probe import probe_file
from tests.helpers.training_runs import ROOT

linux = pytest.mark.skipif(sys.platform != "linux", reason="the template is for Linux alone")

MB = 10**6


@pytest.fixture
def clips(videos: Any) -> EvaluationClips:
    path: Path = videos.path("H.264")
    table = VideoTable.of_paths([path] * 6).probed(InfoColumns.of([probe_file(path)] * 6))
    return EvaluationClips(table, DataConfig(num_frames=4, crop_size=32))


METHODS = """
import multiprocessing, os, sys
from pathlib import Path

def main():
    multiprocessing.set_start_method(sys.argv[2], force=True)
    import numpy as np
    from slowfast_dist.config.data import DataConfig
    from slowfast_dist.data.cache.frames import FrameCache
    from slowfast_dist.data.samples.evaluation import EvaluationClips
    from slowfast_dist.data.listing.columns import InfoColumns
    from slowfast_dist.data.listing.video_table import VideoTable
    from slowfast_dist.data.loaders import make_evaluation_loader
    from slowfast_dist.data.workers import START_METHOD, end_workers, worker_context
    from slowfast_dist.video.cache.store import FrameStore
    from slowfast_dist.video.probe import probe_file

    path = Path(sys.argv[1])
    infos = [probe_file(path)] * 4
    for method in sys.argv[3:]:
        os.environ[START_METHOD] = method
        clips = EvaluationClips(
            VideoTable.of_paths([path] * 4).probed(InfoColumns.of(infos)),
            DataConfig(num_frames=4, crop_size=32, sampling="uniform"),
        )
        clips.give_up([2])
        alone = list(make_evaluation_loader(clips, 2, 0, 0, 1, pin=False))
        if sys.platform == "linux":
            store = FrameStore.create(np.array([info.frames for info in infos]), 10**8)
            clips.keep_frames(FrameCache(store, 0, 9))
        loader = make_evaluation_loader(clips, 2, 1, 0, 1, pin=False)
        read = list(loader)
        for one, other in zip(alone, read, strict=True):
            assert np.array_equal(one.frames, other.frames) and one.failures == other.failures
            assert one.videos.tolist() == other.videos.tolist()
        assert [len(batch) for batch in read] == [2, 1]
        clips.give_up([0])  # a worker that runs sees it
        assert [len(batch) for batch in loader] == [1, 1]
        end_workers(loader)
        if sys.platform == "linux":  # what the workers kept is seen here
            assert [store.places(file, np.array([0])) is None for file in range(4)] == [
                False, False, True, False
            ]
        print(worker_context().get_start_method(), flush=True)

if __name__ == "__main__":
    main()
"""
"""Clips by a worker of each start method that is named, "" being our own."""


@pytest.mark.parametrize("methods", [("", "fork"), ("forkserver", "spawn")])
def test_every_start_method_gives_the_same_clips(
    videos: Any, tmp_path: Path, methods: tuple[str, str]
) -> None:
    """What a program or a Python has as its default changes nothing; what the environment variable
    names is taken."""
    (tmp_path / "script.py").write_text(METHODS)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", videos.path("H.264"), "spawn", *methods],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    usual = "template" if sys.platform == "linux" else "spawn"
    assert done.stdout.split() == [method or usual for method in methods]


def test_an_unknown_start_method_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(workers.START_METHOD, "thread")
    with pytest.raises(UserError, match="SLOWFAST_DIST_START_METHOD thread: give one of"):
        workers.worker_context()


class Ends(EvaluationClips):
    """Its third video ends the worker."""

    how: Any = None

    def __getitems__(self, keys: Any) -> list[Sample]:
        if any(key.video == 2 for key in keys):
            if isinstance(self.how, int):
                os.kill(os.getpid(), self.how)
                time.sleep(60)
            raise self.how
        return super().__getitems__(keys)


class CannotStart(EvaluationClips):
    def __setstate__(self, state: Any) -> None:
        raise ImportError("libcodec.so.7: cannot open shared object file")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each look for a batch that begins when a worker has ended already."""
    found: list[float] = []

    def look(iterator: Any, timeout: float) -> Any:
        if not all(worker.is_alive() for worker in iterator._workers):
            found.append(timeout)
        return own_look(iterator, timeout)

    own_look = _MultiProcessingDataLoaderIter._try_get_data
    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_try_get_data", look)
    return found


def error_of(
    clips: EvaluationClips, looks: list[float], kind: type[EvaluationClips], how: Any = None
) -> str:
    """What is said of a loader whose worker ends, at once: after one look at most."""
    made = kind(clips.videos, clips.data)
    vars(made)["how"] = how
    loader = make_evaluation_loader(made, 1, 1, 0, 1, pin=False)
    try:
        with pytest.raises(WorkerError) as caught:
            list(loader)
    finally:
        end_workers(loader)
    assert looks in ([], [workers.LOOK_SECONDS])
    return str(caught.value)


@linux
@pytest.mark.parametrize(
    ("how", "said"),
    [
        (signal.SIGKILL, "was ended: signal SIGKILL: .*fewer --data.num-workers"),
        (signal.SIGBUS, "was ended: signal SIGBUS: no memory was left, .*: a larger memory limit, "
                        "or --data.num-workers 0$"),
        (signal.SIGSEGV, "was ended: signal SIGSEGV$"),
        (OSError(24, "Too many open files"), r"failed: OSError: \[Errno 24\] Too many open files$"),
    ],
)
def test_the_end_of_a_worker_is_said_with_its_cause(
    clips: EvaluationClips, looks: list[float], how: Any, said: str
) -> None:
    assert re.search(f"^a loader's process {said}", error_of(clips, looks, Ends, how))


@linux
def test_a_worker_that_cannot_start_says_why_at_once(
    clips: EvaluationClips, looks: list[float]
) -> None:
    said = "a loader's process could not start: ImportError: libcodec.so.7: cannot open shared"
    assert error_of(clips, looks, CannotStart).startswith(said)


@linux
def test_a_decoding_process_that_cannot_start_is_one_line(
    clips: EvaluationClips, looks: list[float]
) -> None:
    said = "a decoding process does not start: no memory"
    assert error_of(clips, looks, Ends, WorkerError(said)) == said


@linux
def test_a_bug_in_a_worker_stays_one(clips: EvaluationClips) -> None:
    made = Ends(clips.videos, clips.data)
    made.how = RuntimeError("of the test")
    loader = make_evaluation_loader(made, 1, 1, 0, 1, pin=False)
    with pytest.raises(RuntimeError, match="(?s)in __getitems__.*RuntimeError: of the test") as got:
        list(loader)
    end_workers(loader)
    assert not isinstance(got.value, WorkerError)


def idle() -> None:
    time.sleep(600)


@linux
def test_the_end_of_the_workers_is_theirs_alone(clips: EvaluationClips) -> None:
    """A program that trains may have processes of its own."""
    loader = make_evaluation_loader(clips, 2, 2, 0, 1, pin=False)
    next(iter(loader))
    own = list(loader._iterator._workers)  # type: ignore[union-attr]
    other = multiprocessing.get_context("fork").Process(target=idle, daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that this process has threads
        other.start()
    try:
        end_workers(loader)
        assert [worker.is_alive() for worker in own] == [False, False]
        assert other.is_alive()
    finally:
        other.kill()
        other.join()


@linux
def test_where_one_does_not_start_the_others_end(
    clips: EvaluationClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    def start(process: Any) -> None:
        if started:
            raise WorkerError("of the test")
        started.append(process)
        own_start(process)

    own_start = Process.start
    monkeypatch.setattr(Process, "start", start)
    with pytest.raises(WorkerError, match="of the test"):
        list(make_evaluation_loader(clips, 2, 2, 0, 1, pin=False))
    started[0].join(60)
    assert started[0].exitcode == -signal.SIGKILL


@linux
def test_batches_take_no_shared_memory_of_the_host(clips: EvaluationClips) -> None:
    """Nor a lock or a socket in a folder: nothing stays where all are killed."""
    loader = make_evaluation_loader(clips, 2, 1, 0, 1, pin=False)
    batches = iter(loader)
    first = next(batches)
    worker = loader._iterator._workers[0].pid  # type: ignore[union-attr]
    maps = Path("/proc/self/maps").read_text() + Path(f"/proc/{worker}/maps").read_text()
    assert "/dev/shm/torch" not in maps and "memfd:slowfast_dist" in maps
    assert len(os.listdir(f"/proc/{worker}/task")) == 1  # so that it may fork its decoder
    expected = [clips[ViewKey(number, 0)].frames for number in range(2)]
    assert torch.equal(first.frames, torch.stack([one for one in expected if one is not None]))
    end_workers(loader)


# --- how many ------------------------------------------------------------------------------------


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A host of 16 CPUs and the memory that is given, in MB."""
    monkeypatch.setattr(workers, "available_cpus", lambda: 16)
    monkeypatch.setattr(workers, "cpu_limit_note", lambda: None)
    monkeypatch.setattr(workers, "memory_limit", lambda: None)
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)

    def set_free(free: int, limit: int | None = None) -> None:
        monkeypatch.setattr(workers, "available_memory", lambda count: free * MB / count)
        if limit is not None:
            monkeypatch.setattr(workers, "memory_limit", lambda: limit * MB)

    return set_free


def test_where_memory_suffices_nothing_is_said(room: Any) -> None:
    room(64_000)
    assert plan_workers("auto", 1, 40 * MB, 2) == WorkerPlan(8, 2)
    assert plan_workers("auto", 4, 40 * MB, 2) == WorkerPlan(3, 2)
    assert plan_workers(5, 1, 40 * MB, 2) == WorkerPlan(5, 2)


def test_fewer_batches_then_fewer_workers_are_taken_and_said(room: Any) -> None:
    room(16_000)
    found = plan_workers("auto", 1, 40 * MB, 2)
    assert found == replace(found, workers=8, prefetch=1) and "1 prefetched batch" in found.notes[0]
    room(4_000, limit=6_000)
    found = plan_workers("auto", 1, 40 * MB, 2)
    assert (found.workers, found.prefetch) == (2, 1)
    assert found.notes == (
        "2 workers in place of 8, with 1 prefetched batch each, as 4000.0 MB of the container's "
        "6000.0 MB of memory are free and each worker needs 230.0 MB",
    )
    assert plan_workers(8, 1, 40 * MB, 2).workers == 8  # as it was asked for
    room(100)
    assert plan_workers("auto", 1, 40 * MB, 2).workers == 1
    assert plan_workers(0, 1, 40 * MB, 2) == WorkerPlan(0, 2)


def test_a_quota_of_cpus_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cgroups, "MOUNT", tmp_path)
    monkeypatch.setattr(cgroups, "MEMBERSHIP", tmp_path / "cgroup")
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text("300000 100000\n")
    monkeypatch.setattr(cpus, "bound_cpus", lambda: 16)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    [note] = plan_workers("auto", 1, MB).notes
    assert note == "2 workers as the container allows 3 CPUs (16 on the host)"
    assert plan_workers(2, 1, MB).notes == ()


def test_the_arrays_of_a_dataset_are_shared_once() -> None:
    table = VideoTable.of_paths([Path(f"/a/{number}.mp4") for number in range(3000)])
    copy = shared_copy({"a": table.names, "b": np.arange(2000)})
    shared = Shared(copy["a"])

    class Spawning:
        def duplicate_for_child(self, fd: int) -> int:
            return os.dup(fd)

        def DupFd(self, fd: int) -> Any:
            return type("Fd", (), {"detach": lambda self: fd})()

    set_spawning_popen(Spawning())  # type: ignore[arg-type]
    try:
        _, (content, fd, places) = shared.__reduce__()
        inode = os.fstat(fd.detach()).st_ino
        _, (_, other, _) = Shared(copy["b"]).__reduce__()
        assert os.fstat(other.detach()).st_ino == inode
        os.close(other.detach())
    finally:
        set_spawning_popen(None)
    found = _unpack(content, fd, places).value
    assert list(found) == list(table.names) and not found.data.flags.writeable
    assert len(content) < 2000
