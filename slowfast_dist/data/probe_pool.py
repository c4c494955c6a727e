"""Processes that answer questions about files and may crash or hang: that costs only the file.

Not multiprocessing's, which would import the main script, and with it torch, in each of them.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import islice
from math import inf
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from slowfast_dist.parent import die_with_parent

_PARENT = "SLOWFAST_DIST_PROBE_PARENT"
"""The environment variable that tells such a process whom it serves."""

WAIT_SECONDS = 1.0
"""In such parts answers are waited for: while all is stopped (Ctrl-Z) only one of them runs."""


def ask_apart(
    command: Sequence[str], paths: Iterable[Path], workers: int, limit: Callable[[Path], float]
) -> Generator[tuple[Path, Any], None, None]:
    """Each path with its answer, in any order; an answer is what the process sent as JSON.

    ``command`` starts a process that runs ``serve``. ``paths`` are taken as there is a process for
    them, so that there need not be a list. ``limit``: seconds that an answer is waited for, not
    counting what the caller does between two; a process that takes longer is killed. Where one was
    killed or died the answer is a ``str``.
    Closing the generator ends the processes.
    Raises RuntimeError if the processes do not even start.
    """
    following = iter(paths)
    waiting = deque(islice(following, max(1, workers)))
    pool = [_Process(command) for _ in waiting]
    try:
        while True:
            for process in pool:
                if process.path is not None:
                    continue
                waiting.extend(islice(following, 0 if waiting else 1))
                if waiting:
                    path = waiting.popleft()
                    process.ask(path, limit(path))
            busy = [process for process in pool if process.path is not None]
            if not busy:
                return
            files = [process.output.fileno() for process in busy]
            part = max(0.0, min(WAIT_SECONDS, *(process.left for process in busy)))
            begun = time.monotonic()
            answered = wait(files, part)
            waited = min(part, time.monotonic() - begun)
            for process in busy:
                process.left -= waited
            for file, process in zip(files, busy, strict=True):
                late = process.left <= 0
                if file not in answered and not late:
                    continue
                assert process.path is not None
                path = process.path
                line = process.output.readline() if file in answered else b""
                if line.endswith(b"\n"):
                    process.path = None
                    yield path, json.loads(line)
                    continue
                code = process.end(0.0 if late else 5.0)
                pool.remove(process)
                waiting.extend(islice(following, 0 if waiting else 1))
                if waiting:
                    pool.append(_Process(command))
                yield (
                    path,
                    (
                        f"hangs the decoder: given up after {limit(path):.0f} s"
                        if late
                        else f"crashes the decoder (process ended with {code})"
                    ),
                )
    finally:
        for process in pool:
            process.end()


def serve(answer: Callable[[Path], Any]) -> None:
    """In such a process: paths come in, answers go out, one JSON value a line, until the end."""
    die_with_parent(int(os.environ[_PARENT]))  # one that hangs does not see the end of its input
    answers = os.fdopen(os.dup(1), "w")
    print("ready", file=answers, flush=True)
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # what native libraries print
        os.dup2(silent, stream)
    for line in sys.stdin:
        print(json.dumps(answer(Path(json.loads(line)))), file=answers, flush=True)


class _Process:
    """One process, and the path that it has been given."""

    def __init__(self, command: Sequence[str]) -> None:
        self.path: Path | None = None
        self.left = inf
        """Seconds for which its answer is waited for."""
        self._command = command
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                _PARENT: str(os.getpid()),
            },
        )
        assert self._process.stdin and self._process.stdout
        self._input, self.output = self._process.stdin, self._process.stdout
        self._ready = False

    def ask(self, path: Path, seconds: float) -> None:
        if not self._ready and self.output.readline() != b"ready\n":
            raise RuntimeError(f"a process does not start: {' '.join(self._command)}")
        self._ready = True
        self.path, self.left = path, seconds
        with contextlib.suppress(BrokenPipeError):  # it died, which the end of its output tells
            self._input.write(json.dumps(str(path)).encode() + b"\n")
            self._input.flush()

    def end(self, patience: float = 0.0) -> int:
        """Kill it, unless it ends by itself in that many seconds; returns its exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        self.output.close()
        return self._process.wait()
