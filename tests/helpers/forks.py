"""Scripts in new processes that import nothing: forks of one that has imported all that a training
imports, which takes four of the six seconds of CPU time of the smallest training.

For what a script does, not for how its process starts: its modules are loaded, and the hashes of
strings are those of its siblings, so sets have one order: what must not depend on that is tested
with ``fork=False`` (tests/training/test_process_counts.py, and a repeated run in test_run.py).
Linux alone.
"""

import atexit
import contextlib
import io
import os
import pickle
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from slowfast_dist.system import signals
from slowfast_dist.system.workers import template
from slowfast_dist.system.workers.status import Status
from slowfast_dist.system.workers.template import Template

ROOT = Path(__file__).parents[2]
IMPORTS = "tests.helpers.training_imports"

FAIL_SECONDS = 60.0
"""Seconds that other processes of a training have to end once one has failed, as torchrun gives
them less."""


class _Warm(Template):
    """Not a copy of the tests' own process, which holds pytest."""

    def _fork(self, theirs: Any) -> None:
        self._execute(theirs, IMPORTS)


@dataclass(frozen=True)
class _Script:
    """What a fork runs: its command line behind ``python``, and its environment."""

    words: tuple[str, ...]
    environment: dict[str, str]

    def _bootstrap(self) -> int:
        """As a new Python would run it; its exit code."""
        for stream, fd in zip((1, 2), template.inherited, strict=True):
            os.dup2(fd, stream)
            os.close(fd)
        os.chdir(ROOT)
        os.environ.clear()
        os.environ.update(self.environment)
        direct = bool(self.environment.get("PYTHONUNBUFFERED"))
        out, err = (os.fdopen(fd, "wb", 0 if direct else -1, closefd=False) for fd in (1, 2))
        sys.stdout = io.TextIOWrapper(out, "utf-8", write_through=direct)
        sys.stderr = io.TextIOWrapper(err, "utf-8", "backslashreplace", line_buffering=True)
        for name in (*signals.STOP_SIGNALS, *signals.PREEMPT_SIGNALS, "SIGHUP"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = self._run()
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        return code

    def _run(self) -> int:
        module = self.words[0] == "-m"
        sys.argv = list(self.words[1:] if module else self.words)
        try:
            if module:
                sys.path.insert(0, os.getcwd())
                runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
            else:
                sys.path.insert(0, str(Path(sys.argv[0]).parent))
                runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            if end.code is None or isinstance(end.code, int):
                return end.code or 0
            print(end.code, file=sys.stderr)
            return 1
        except BaseException:
            traceback.print_exc()
            return 1
        return 0


class Fork:
    """A script that runs, as a `subprocess.Popen` of it."""

    def __init__(
        self, words: Sequence[str], env: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes]
    ) -> None:
        """``words``: the command line behind ``python``: a script or ``-m``, and its arguments."""
        self.words = list(words)
        script = pickle.dumps(_Script(tuple(words), dict(env)))
        self.pid, self._fd = _warm().fork(script, [stdout.fileno(), stderr.fileno()])
        self._status = Status(self._fd)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._after(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        code = self._after(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.words, timeout or 0.0)
        return code

    def _after(self, seconds: float | None) -> int | None:
        deadline = None if seconds is None else time.monotonic() + seconds
        while self.returncode is None:
            left = None if deadline is None else deadline - time.monotonic()
            is_open = self._status.read(left)
            self.returncode = self._status.code
            if self.returncode is None and not is_open:
                raise RuntimeError(f"what runs the scripts has ended: {self._status.error}")
            if left is not None and left <= 0:
                break
        if self.returncode is not None and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


_running: _Warm | None = None


def _warm() -> _Warm:
    global _running
    if _running is None or not _running.is_usable():
        _running = _Warm(IMPORTS)
        atexit.register(_running.end)
    return _running


def run(
    words: Sequence[str], environments: Sequence[Mapping[str, str]], seconds: float
) -> tuple[int, str, str]:
    """Run a script in a process for each environment, to the end: the first exit code that is not
    0, standard output and standard error of all. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        forks = [Fork(words, env, stdout, stderr) for env in environments]
        code = 0
        try:
            left = list(forks)
            while left:
                if time.monotonic() > deadline and not code:
                    raise TimeoutError(f"{words}: not within {seconds:.0f} s")
                if time.monotonic() > deadline:
                    break
                for fork in tuple(left):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        fork.wait(0.05)
                        left.remove(fork)
                    if fork.returncode and not code:
                        code = fork.returncode
                        deadline = min(deadline, time.monotonic() + FAIL_SECONDS)
        finally:
            for fork in forks:
                fork.kill()
                fork.wait()
        for file in (stdout, stderr):
            file.seek(0)
        return code, stdout.read().decode(), stderr.read().decode()
