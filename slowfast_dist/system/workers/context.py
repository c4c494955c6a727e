"""multiprocessing's interface to processes that are forked from the `Template`."""

import io
import os
import signal
import time
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.context import BaseContext, set_spawning_popen
from multiprocessing.process import BaseProcess
from typing import Any

from slowfast_dist.system.workers import template
from slowfast_dist.system.workers.queues import Event, Queue
from slowfast_dist.system.workers.status import Status
from slowfast_dist.system.workers.template import start_template

LOST = 255
"""The exit code of a worker of which nothing is known, as the template has ended: what the
forkserver of multiprocessing says then."""


class _Inherited:
    """A descriptor among those that came with the worker's work."""

    def __init__(self, place: int) -> None:
        self.place = place

    def detach(self) -> int:
        return template.inherited[self.place]


class _Popen:
    """A started worker, as multiprocessing asks for it."""

    method = "template"

    def __init__(self, process: BaseProcess) -> None:
        self.returncode: int | None = None
        self._fds: list[int] = []
        work = io.BytesIO()
        set_spawning_popen(self)  # type: ignore[arg-type]
        try:
            reduction.dump(process, work)
        finally:
            set_spawning_popen(None)
        source = start_template()
        self.pid, self.sentinel = source.fork(work.getvalue(), self._fds)
        self._status = Status(self.sentinel)

    def duplicate_for_child(self, fd: int) -> int:
        self._fds.append(fd)
        return len(self._fds) - 1

    def DupFd(self, place: int) -> _Inherited:
        return _Inherited(place)

    @property
    def error(self) -> str | None:
        """Why it did not start, where it could say so."""
        return self._status.error

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        return self.wait(0.0 if flag == os.WNOHANG else None)

    def wait(self, timeout: float | None = None) -> int | None:
        end = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            left = None if end is None else end - time.monotonic()
            open_still = self._status.read(left)
            self.returncode = self._status.code
            if self.returncode is None and not open_still:
                self.returncode = LOST
            if left is not None and left <= 0:
                break
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    terminate = kill
    """A worker leaves SIGTERM to the process that it serves."""

    def close(self) -> None:
        os.close(self.sentinel)


class Process(BaseProcess):
    """A process that the template forks. Its target and arguments are pickled."""

    _start_method = None

    @staticmethod
    def _Popen(process: BaseProcess) -> _Popen:
        return _Popen(process)

    @property
    def start_error(self) -> str | None:
        """Why it ended before its target ran, where it could say so."""
        started: _Popen | None = self._popen  # type: ignore[attr-defined]
        return started.error if started is not None else None


class TemplateContext(BaseContext):
    """Takes the place of what `multiprocessing.get_context` gives, for torch's DataLoader: process,
    queue and event."""

    _name = "template"
    Process = Process

    def Queue(self, maxsize: int = 0) -> Any:
        return Queue()

    def Event(self) -> Any:
        return Event()


