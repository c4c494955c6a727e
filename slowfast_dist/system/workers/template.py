"""A process of one thread, from which workers are forked while this one has many.

A fork copies the thread that forks alone: what any other one had locked stays locked for ever in
the copy, so Python 3.12 and later warn of it, and 3.14 does not fork by default. A process that is
started anew is safe, and takes two seconds and 200 MB to import torch. So this one starts a single
process early, its template, which has one thread for all its life; that forks the workers, in
milliseconds, and they share its memory.

It is multiprocessing's own forkserver in its idea. Unlike that it does not import the user's main
script, it ends with this process however that ends, and its workers with it, and it says why a
worker could not start.
"""

import gc
import io
import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

from slowfast_dist.config.errors import WorkerError
from slowfast_dist.system import signals
from slowfast_dist.system.workers.shared import mapped, new_memory
from slowfast_dist.system.workers.status import Status

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Environment in which numpy and torch start no threads when they are imported."""

LOOK_SECONDS = 5.0
"""Seconds after which a template looks whether its owner lives, where its socket does not tell, as
a copy of the owner holds that open."""

MOST_FILES = 250
"""Descriptors that go with one message: Linux allows 253."""


def threads() -> int:
    """How many threads this process has, native ones too. Linux alone."""
    return len(os.listdir("/proc/self/task"))


class Template:
    """This process's template: ``fork`` starts a worker from it."""

    def __init__(self, module: str) -> None:
        """Start it; ``module``: what it imports, where it does not share this one's imports.
        Raises WorkerError where it cannot be started."""
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                if threads() == 1:
                    self._fork(theirs)
                else:
                    self._execute(theirs, module)
        except OSError as error:  # no more processes, or no memory for one
            self._socket.close()
            raise WorkerError(f"no worker can be started: {error.strerror or error}") from error

    def _fork(self, theirs: socket.socket) -> None:
        """A copy of this process: at once, and with all that it has imported."""
        _flush()
        self.pid = os.fork()
        if self.pid:
            return
        try:
            signals.ignore_stops()
            _let_go_of_files({0, 1, 2, theirs.fileno()})
            _serve(theirs, self.owner)
        finally:
            os._exit(1)

    def _execute(self, theirs: socket.socket, module: str) -> None:
        """A new process, which imports while this one goes on."""
        code = "from slowfast_dist.system.workers.template import main; main()"
        number = theirs.fileno()
        path = os.pathsep.join(sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(number), str(self.owner), module],
            stdin=subprocess.DEVNULL, pass_fds=(number,), process_group=0,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
        )  # fmt: skip
        self.pid = self._process.pid

    def fork(self, work: bytes, fds: Sequence[int]) -> tuple[int, int]:
        """Start a worker that unpickles ``work`` and runs it, with copies of ``fds``.

        Its process id, and a descriptor, the caller's to close, from which `Status` reads how it
        fares. Raises WorkerError, with the cause, where it cannot start.
        """
        place = {"folder": os.getcwd(), "path": sys.path, "environment": dict(os.environ)}
        content = json.dumps(place).encode() + b"\n" + work
        try:
            payload = new_memory(len(content))
            try:
                reader, writer = os.pipe()
            except OSError:
                os.close(payload)
                raise
        except OSError as error:  # no memory, or no more open files
            raise WorkerError(f"no worker can be started: {error.strerror or error}") from error
        try:
            mapped(payload, len(content))[:] = memoryview(content)
            streams = [fd if _is_open(fd) else payload for fd in (1, 2)]
            with self._lock:
                socket.send_fds(self._socket, [b"fork"], [payload, writer, *streams, *fds])
        except OSError as error:
            os.close(reader)
            raise WorkerError(f"no worker can be started: {self.how_it_ended(error)}") from error
        finally:
            os.close(writer)
            os.close(payload)
        status = Status(reader)
        try:
            pid = status.wait_for_start(self.pid)
            if pid is None:
                raise WorkerError(
                    f"no worker can be started: {status.error or self.how_it_ended()}"
                )
        except BaseException as error:
            os.close(reader)
            if isinstance(error, TimeoutError):
                self._kill()  # or it would start the worker when it wakes up
                raise WorkerError(f"no worker can be started: {error}") from None
            raise
        return pid, reader

    def _kill(self) -> None:
        if self.is_usable():  # so it has not ended, and the number is its own
            os.kill(self.pid, signal.SIGKILL)
        self._socket.close()

    def how_it_ended(self, error: OSError | None = None) -> str:
        code = None
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(LOOK_SECONDS)
        how = "has ended" if code is None else f"ended with exit code {code}, see above"
        return f"the process from which they are forked {how}" + (f" ({error})" if error else "")

    def is_usable(self) -> bool:
        """False in a copy of its owner, and where it has ended."""
        if self.owner != os.getpid() or self._socket.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(self._socket, 0)
        return not poll.poll(0)  # it never sends: only its end is an event

    def end(self) -> None:
        """And with it all its workers."""
        self._socket.close()
        if self._process is not None:
            self._process.wait()


preloaded = "slowfast_dist"
"""The module that a template imports which does not share its owner's imports."""

_template: Template | None = None


def start_template() -> Template:
    """This process's template; it is started where there is none. Early: while this process has one
    thread, or has something else to do while `preloaded` is imported."""
    global _template
    if _template is None or not _template.is_usable():
        _template = Template(preloaded)
    return _template


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()


def _is_open(fd: int) -> bool:
    with suppress(OSError):
        return os.fstat(fd) is not None
    return False


def _let_go_of_files(keep: set[int]) -> None:
    """Close the owner's: its locks and connections are not this process's."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd not in keep:
            with suppress(OSError):  # the listing's own
                os.close(fd)


# --- in the template -----------------------------------------------------------------------------


def main() -> None:
    """What a new process runs."""
    number, owner, module = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    signals.ignore_stops()
    import_module(module)
    _serve(socket.socket(fileno=number), owner)


def _serve(requests: socket.socket, owner: int) -> NoReturn:
    """Fork a worker for each request, and tell of its end, until the owner ends."""
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ended, wake = os.pipe()
    os.set_blocking(ended, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    gc.collect()
    gc.freeze()  # a collection in a worker would copy every page of what it shares
    statuses: dict[int, int] = {}
    own_pid = os.getpid()
    while os.getppid() == owner:
        watched: list[Any] = [requests, ended]
        ready, _, _ = select.select(watched, [], [], LOOK_SECONDS)
        if ended in ready:
            with suppress(BlockingIOError):
                os.read(ended, 1 << 16)
        _tell_of_ends(statuses)
        if requests not in ready:
            continue
        message, fds, _, _ = socket.recv_fds(requests, 16, MOST_FILES)
        if not message:
            break
        try:
            pid = os.fork()
        except OSError as error:  # no more processes, or no memory for one
            _tell(fds[1], error=f"fork: {error.strerror}", code=1)
        else:
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                requests.close()
                for other in (ended, wake, *statuses.values()):
                    os.close(other)
                _become_worker(own_pid, *fds)
            _tell(fds[1], pid=pid)
            statuses[pid] = os.dup(fds[1])
        for fd in fds:
            os.close(fd)
    os._exit(0)


def _tell_of_ends(statuses: dict[int, int]) -> None:
    while statuses:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        fd = statuses.pop(pid)
        _tell(fd, code=os.waitstatus_to_exitcode(status))
        os.close(fd)


def _tell(fd: int, **what: Any) -> None:
    with suppress(BrokenPipeError):
        os.write(fd, json.dumps(what).encode() + b"\n")


# --- in a worker ---------------------------------------------------------------------------------

inherited: list[int] = []
"""Descriptors that came with this worker's work."""


def _become_worker(parent: int, payload: int, status: int, *fds: int) -> NoReturn:
    code = 1
    try:
        signals.die_with_parent(parent)
        for stream, fd in zip((1, 2), fds, strict=False):
            os.dup2(fd, stream)
        for fd in fds[:2]:
            os.close(fd)
        inherited[:] = fds[2:]
        file = io.BytesIO(mapped(payload, os.fstat(payload).st_size).data)
        os.close(payload)
        place = json.loads(file.readline())
        os.chdir(place["folder"])
        sys.path[:] = place["path"]
        os.environ.clear()
        os.environ.update(place["environment"])
        process = pickle.load(file)
        os.close(status)
        code = process._bootstrap()
    except BaseException as error:
        # The last line is the cause; the whole is printed, as it is a fault of the program's.
        traceback.print_exc()
        said = traceback.format_exception_only(error)[-1].strip()
        with suppress(OSError):
            _tell(status, error=said)
    finally:
        _flush()
        os._exit(code)
