"""Processes that answer questions about files and may crash or hang: that costs only the file.

Not multiprocessing's, which would import the main script, and with it torch, in each of them.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.system import signals
from slowfast_dist.system.parent import die_with_parent

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


# A process that decodes for this one and sends what it finds: it may hang or crash at no harm.
#
# Whatever waits in native code (a decoder, a camera's driver, a name server) ends only with its
# process. A message is a header (JSON) and, where it says so, an array of bytes behind it.


Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Message:
    """``header`` as it was sent; ``data`` uint8 of the shape that was sent, None where none was."""

    header: dict[str, Any]
    data: Bytes | None


@dataclass(frozen=True)
class Ended:
    """The process sends no more; ``how`` it ended, for people ("signal SIGSEGV")."""

    how: str


class StreamProcess:
    """Runs ``function`` of ``room`` in a new process, which gets ``request`` (JSON).

    A thread here hands each of its messages to ``deliver`` as it comes, and at last an `Ended`.
    A ``deliver`` that does not return holds the process back: no more than a pipe's worth waits.
    """

    def __init__(
        self,
        room: str,
        function: str,
        request: Mapping[str, Any],
        deliver: Callable[[Message | Ended], None],
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {room} import {function}; {function}()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            # Ctrl-C is this process's business; a group of its own where there are such.
            process_group=0 if os.name == "posix" else None,
        )
        self._deliver = deliver
        self.tell({"parent": os.getpid(), **request})
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def tell(self, value: Any) -> None:
        """Send one JSON value, for which the process must ask with `Line.ask`."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: the end of its output tells
            self._process.stdin.write(json.dumps(value).encode() + b"\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End it, if it still runs."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.close()

    def __enter__(self) -> "StreamProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            while (message := _receive(pipe)) is not None:
                self._deliver(message)
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._deliver(Ended(how))


def _receive(pipe: IO[bytes]) -> Message | None:
    """None at the end, also in the middle of a message."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    shape = header.pop("shape", None)
    if shape is None:
        return Message(header, None)
    data = np.empty(shape, np.uint8)
    rest = data.reshape(-1).data
    while rest:
        read = pipe.readinto(rest)  # type: ignore[attr-defined]
        if not read:
            return None
        rest = rest[read:]
    return Message(header, data)


# --- in the process ------------------------------------------------------------------------------


class Line:
    """The other end: what the process was asked, and where its messages go."""

    def __init__(self) -> None:
        self.request: dict[str, Any] = self.ask()
        die_with_parent(self.request["parent"])
        signals.leave_to_parent()
        self._answers = os.fdopen(os.dup(1), "wb", buffering=0)
        silent = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):  # what native libraries print
            os.dup2(silent, stream)

    def ask(self) -> Any:
        """The next value that the other process tells."""
        return json.loads(sys.stdin.readline())

    def send(self, header: Mapping[str, Any], data: Bytes | None = None) -> None:
        """Send a message; returns when most of it is taken."""
        shape = {} if data is None else {"shape": list(data.shape)}
        self._write(json.dumps({**header, **shape}).encode() + b"\n")
        if data is not None:
            self._write(np.ascontiguousarray(data).reshape(-1).data)

    def _write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._answers.write(rest) :]


def run(work: Callable[[Line], None]) -> NoReturn:
    """Do ``work``, send {"bug": its traceback} where it raises, and end the process."""
    line = Line()
    try:
        work(line)
    except BrokenPipeError:  # nobody listens any more
        os._exit(1)
    except Exception:
        line.send({"bug": traceback.format_exc()})
    os._exit(0)  # nothing to tidy up, and what hangs in a thread of FFmpeg's may do so
