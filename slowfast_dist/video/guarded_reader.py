"""Frames of a video from a process that may hang or die: that costs this video, not the run.

A decoder that loops or crashes in native code ends only with its process. So each process that
reads clips has one child, which decodes for it. A loader's worker, which has one thread, forks it:
that takes milliseconds, needs no import, and shares what is in memory. A process with more threads,
as one that trains or predicts, starts it anew, in .3 s of CPU time: what another thread had locked
would stay locked in a fork.
"""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import traceback
import weakref
from collections.abc import Sequence
from math import prod
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import psutil
from numpy.typing import NDArray

from slowfast_dist.config.errors import WorkerError
from slowfast_dist.system import signals
from slowfast_dist.system.child import CRASHES, HANGS, how_it_ended
from slowfast_dist.system.memory import give_back_free_memory
from slowfast_dist.system.workers.shared import mapped, new_memory
from slowfast_dist.system.workers.template import ONE_THREAD, threads
from slowfast_dist.video.cache.frames import write_frames
from slowfast_dist.video.cache.space import Space
from slowfast_dist.video.cache.store import Written
from slowfast_dist.video.container import DecodeError, OpenFiles
from slowfast_dist.video.reader import Decoder, Frames, Indices, VideoInfo, View, read_views

DECODE_SECONDS = 20.0
"""Seconds of wall time in which a clip must be decoded: long, as a busy machine takes many times as
long as an idle one. After it, the video counts as one that hangs."""

SLOT_BYTES = 64 * 1024**2
"""Shared memory in which a child's clips lie until they are let go of. A batch of more is copied:
copies cost a tenth of the time in which a small video is decoded."""

START_SECONDS = 60.0
"""Seconds that a child which is not forked may take to start: a busy machine, or a network drive
with the libraries, takes many times the usual .3 s to 2 s."""

END_SECONDS = 5.0
"""Seconds that a killed child is waited for: it takes longer only if the kernel cannot let go of
it, as on a dead network drive."""

GIVEN_UP = "hangs or crashes the decoder: given up before"


def is_fatal(reason: str) -> bool:
    """Whether a DecodeError's ``reason`` is that the video takes its decoding process with it."""
    return reason.startswith((HANGS, CRASHES, GIVEN_UP))


class GuardedReader:
    """`read_views` in a child process with a time limit, on Linux; elsewhere without a guard.

    The child lives until it is late, dies, or its parent does; the next read then makes a new one.
    It belongs to the process that made it: a forked copy of this object makes its own, and so does
    a pickled one. Reads must come from one thread, which must not end before the process.
    """

    def __init__(self, seconds: float | None = None) -> None:
        """``seconds``: the time limit of one read, DECODE_SECONDS if None."""
        self.seconds = seconds
        self.space: Space | None = None
        """Where `write_frames` writes; it may be set until the first call."""
        self._child: _Child | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return GuardedReader, (self.seconds,)

    def read(
        self, path: Path, indices: Indices, info: VideoInfo, decoder: Decoder, view: View
    ) -> Frames:
        """As `read_frames`. Raises DecodeError, for a hang or a crash with a fatal reason, and
        WorkerError where no child can be started. The frames are the caller's for as long as it
        holds them, or anything made over them."""
        return self.read_views(path, indices, info, decoder, (view,))[0]

    def read_views(
        self, path: Path, indices: Indices, info: VideoInfo, decoder: Decoder, views: Sequence[View]
    ) -> Frames:
        """As `reader.read_views`, and otherwise as `read`."""
        # without fork, or with libraries that do not survive it
        if sys.platform != "linux" or not hasattr(os, "fork"):
            return read_views(path, indices, info, decoder, views)
        view = views[0]
        height, width = (info.height, info.width) if view is None else (view.size, view.size)
        shape = (len(views), len(indices), height, width, 3)
        child, _ = self._ask(path, (path, indices, info, decoder, views), shape)
        return child.slots.take(shape)

    def write_frames(
        self, path: Path, numbers: Indices, info: VideoInfo, size: int
    ) -> Written | None:
        """Decode the frames ``numbers`` (N,), rising, into the space, as `frames.write_frames`.
        None where that cannot be done, also where it takes too long: what a clip needs of the file
        may still be readable. ``size``: bytes of the clip that is read next."""
        assert self.space is not None
        try:
            return self._ask(path, (path, numbers, info), (size,))[1]
        except DecodeError:
            return None

    def _ask(
        self, path: Path, request: tuple[Any, ...], shape: tuple[int, ...]
    ) -> tuple["_Child", Any]:
        """The child and what it answers."""
        child, size = self._child, prod(shape)
        # It may also have ended while nothing was asked of it, so through no video's fault.
        ours = child and child.owner == os.getpid() and child.space is self.space
        if not child or not ours or child.size < size or child.pipe.poll(0):
            self.close()
            self._child = child = _Child(size, self.space)
            self._finalizer = weakref.finalize(self, child.end)
        seconds = DECODE_SECONDS if self.seconds is None else self.seconds
        try:
            answer = child.ask(request, shape, seconds)
        except (EOFError, ConnectionError):
            raise DecodeError(path, f"{CRASHES} ({self.close(END_SECONDS)})") from None
        except BaseException:  # an interrupt: the answer to come must not be the next clip's
            self.close()
            raise
        if answer is None:
            self.close()
            raise DecodeError(path, f"{HANGS}: given up after {seconds:g} s")
        kind, value = answer
        if kind == "unreadable":
            raise DecodeError(path, value)
        if kind == "bug":
            raise AssertionError(f"a bug, met while reading {path}:\n{value}")
        return child, value

    def close(self, patience: float = 0.0) -> str:
        """End the child, if there is one, and say how it ended, by itself in so many seconds or
        killed; a read after this makes a new one."""
        child, self._child = self._child, None
        if child is None:
            return ""
        if self._finalizer is not None:
            self._finalizer.detach()
        return child.end(patience)


_unreaped: list[psutil.Process] = []
"""Killed children that the kernel had not let go of."""

_forks = 0
"""Forks of this process, so far."""


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_count_fork)


class _Slots:
    """Memory shared with a child, in parts of ``size`` bytes, one for each clip that is in use.

    What is handed out lies in the part itself. It is used again only when nothing refers to that
    any more, and never if meanwhile this process was forked, since the copy may refer to it still.
    """

    def __init__(self, size: int) -> None:
        count = max(1, SLOT_BYTES // size)
        self.file = new_memory(count * size)  # what is never written to takes no memory
        try:
            self.memory = mapped(self.file, count * size)
        except OSError:
            os.close(self.file)
            raise
        self.next = 0
        """Where the part begins that the child is to write into. Not the last free one: other
        parts may become free at any time, also between a question and its answer."""
        self.free = [number * size for number in reversed(range(1, count))]
        """Where the other parts begin that are free."""

    def take(self, shape: tuple[int, ...]) -> Frames:
        """The frames that were written there; a copy of them where no other part is free."""
        frames = np.frombuffer(self.memory.data, np.uint8, prod(shape), self.next)
        try:
            following = self.free.pop()
        except IndexError:
            return frames.reshape(shape).copy()
        # numpy and torch keep the array itself alive for whatever they make over it.
        weakref.finalize(frames, self._release, self.next, _forks).atexit = False
        self.next = following
        return frames.reshape(shape)

    def _release(self, offset: int, forks: int) -> None:
        if forks == _forks:
            self.free.append(offset)


class _Child:
    """A process that reads frames into shared memory, ``size`` bytes at most."""

    def __init__(self, size: int, space: Space | None) -> None:
        self.owner = os.getpid()
        self.size, self.space = size, space
        _, _unreaped[:] = psutil.wait_procs(_unreaped, timeout=0)
        self._executed: subprocess.Popen[bytes] | None = None
        try:
            self.slots = _Slots(size)
            try:
                forks = threads() == 1
                pid = self._start(forks)
            finally:
                os.close(self.slots.file)
        except OSError as error:  # no more processes or files, or no memory for one
            raise WorkerError(
                f"a decoding process does not start: {error.strerror or error}: end other "
                "programs, or raise the limit that is met, of processes, open files (ulimit -u, "
                "-n) or memory"
            ) from error
        self.process = psutil.Process(pid)
        if not forks:
            self._wait_for_start()

    def _start(self, forks: bool) -> int:
        self.pipe, theirs = Pipe()
        with theirs:  # closed, so that the end of the child is the end of the pipe
            try:
                return self._fork(theirs) if forks else self._execute(theirs)
            except OSError:
                self.pipe.close()
                raise

    def _fork(self, theirs: Connection) -> int:
        pid = os.fork()
        if not pid:
            try:
                _serve(theirs, self.slots.memory, self.owner, self.space)
            finally:
                os._exit(1)  # nothing of the parent's is finalised, flushed or handled here
        return pid

    def _execute(self, theirs: Connection) -> int:
        code = "from slowfast_dist.video.guarded_reader import main; main()"
        numbers = [theirs.fileno(), self.slots.file]
        words = [*map(str, (*numbers, self.slots.memory.size, self.owner))]
        if self.space is not None:
            numbers.append(self.space.fd)
            words += [str(self.space.fd), str(self.space.budget)]
        self._executed = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(sys.path)},
            pass_fds=numbers,
        )  # fmt: skip
        return self._executed.pid

    def _wait_for_start(self) -> None:
        """Or a fault of this machine would count as one of the first video."""
        assert self._executed is not None and self._executed.stderr is not None
        try:
            with self._executed.stderr as said:
                if self.pipe.poll(START_SECONDS):
                    with contextlib.suppress(EOFError, ConnectionError):
                        self.pipe.recv()
                        return
                    lines = said.read().decode(errors="replace").strip().splitlines()
                    how = f"{self.end(END_SECONDS)}: {lines[-1] if lines else 'it said nothing'}"
                else:
                    how = f"not within {START_SECONDS:.0f} s"
            raise WorkerError(f"a decoding process does not start: {how}")
        except BaseException:
            self.end()
            raise

    def ask(
        self, request: tuple[Any, ...], shape: tuple[int, ...], seconds: float
    ) -> tuple[str, Any] | None:
        """Its answer, None if it takes longer; EOFError or ConnectionError if it dies of it."""
        self.pipe.send((request, shape, self.slots.next))
        for _ in range(20):  # while this process is stopped (SIGSTOP) only one part runs out
            if self.pipe.poll(seconds / 20):
                return self.pipe.recv()
        return None

    def end(self, patience: float = 0.0) -> str:
        """Kill it, unless it ends by itself in that many seconds; returns how it ended."""
        self.pipe.close()
        if self.owner != os.getpid():
            return ""
        code: int | None = None
        # Without patience it is not asked first: psutil's TimeoutExpired lies in a cycle with this
        # frame, so that the shared memory would stay until a garbage collection.
        for kills, seconds in ((False, patience), (True, END_SECONDS)):
            if not kills and not seconds:
                continue
            if kills:
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.process.kill()
            with contextlib.suppress(psutil.TimeoutExpired):
                code = self.process.wait(seconds)
                break
        else:
            _unreaped.append(self.process)
        if self._executed is not None:
            self._executed.returncode = 0  # it is waited for here
        # None also where this process ignores its children's ends, so that the kernel reaps them.
        return how_it_ended(-signal.SIGKILL if code is None else code)


# --- in the child --------------------------------------------------------------------------------


def main() -> None:
    """What a child runs that was not forked."""
    pipe, file, size, parent, *space = map(int, sys.argv[1:])
    connection = Connection(pipe)
    memory = mapped(file, size)
    connection.send("started")
    _serve(connection, memory, parent, Space(*space) if space else None)


def _serve(
    pipe: Connection, memory: NDArray[np.uint8], parent: int, space: Space | None
) -> NoReturn:
    """Answer until the parent ends. What other threads of the parent held is never used here:
    no torch, no log, no output."""
    become_decoder({pipe.fileno()} | ({space.fd} if space else set()), parent)
    reads, files = 0, OpenFiles()
    while True:
        reads += 1
        if reads % 50 == 0:  # FFmpeg leaves the heap in pieces: tens of MB in some thousand clips
            give_back_free_memory()
        (path, indices, info, *how), shape, offset = pipe.recv()
        answer: tuple[str, Any]
        try:
            if how:
                out = memory[offset : offset + prod(shape)].reshape(shape)
                decoder, views = how
                read_views(path, indices, info, decoder, views, out, files)
                answer = "frames", None
            else:
                assert space is not None
                answer = "written", write_frames(path, indices, info, space, files)
        except DecodeError as error:
            answer = "unreadable", error.reason
        except Exception:
            answer = "bug", traceback.format_exc()
        pipe.send(answer)


def become_decoder(keep: set[int], parent: int) -> None:
    """For a new process that will decode: it ends with its parent, and has nothing of it but the
    files ``keep``, through which they speak, and where frames are kept."""
    import resource  # of Unix alone

    signals.serve_parent(parent)
    # No core file, which would be as large as the training process.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    gc.freeze()  # a collection would copy every page of the parent's objects
    _let_go_of_files(keep)


def _let_go_of_files(keep: set[int]) -> None:
    """Close the parent's files, but for some: a child that cannot be killed would hold its locks,
    sockets, pipes. Standard streams go to the null device, so that a library that prints does not
    break them."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    for file in map(int, os.listdir("/proc/self/fd")):
        if file > 2 and file not in keep:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(file)
