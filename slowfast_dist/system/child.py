"""Processes that work for this one: how each is started, what goes to and fro, how it ends.

What may hang or crash in native code (a decoder, a camera's driver, a name server) does so in such
a process, at no harm to this one. Not multiprocessing's, which would import the main script, and
with it torch, in each of them.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.system import signals

Bytes = NDArray[np.uint8]

HANGS, CRASHES = "hangs the decoder", "crashes the decoder"
"""How the reasons begin that are given for a file whose process was late, or died."""


@dataclass(frozen=True)
class Message:
    """``header`` as it was sent; ``data`` uint8 of the shape that was sent, None where none was."""

    header: dict[str, Any]
    data: Bytes | None


class Channel:
    """One end of the two pipes between a process and its child. A message is a line of JSON and,
    where that gives a "shape", as many bytes behind it."""

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self.reader, self.writer = reader, writer

    def send(self, header: Mapping[str, Any], data: Bytes | None = None) -> None:
        """Returns when the other end has taken most of it; raises BrokenPipeError where that has
        ended."""
        shape = {} if data is None else {"shape": list(data.shape)}
        self.writer.write(json.dumps({**header, **shape}).encode() + b"\n")
        if data is not None:
            self.writer.write(np.ascontiguousarray(data).reshape(-1).data)
        self.writer.flush()

    def receive(self) -> Message | None:
        """The next message; None at the end, also in the middle of a message."""
        line = self.reader.readline()
        if not line.endswith(b"\n"):
            return None
        header = json.loads(line)
        shape = header.pop("shape", None)
        if shape is None:
            return Message(header, None)
        data = np.empty(shape, np.uint8)
        read = self.reader.readinto(data.reshape(-1).data)  # type: ignore[attr-defined]
        return Message(header, data) if read == data.size else None


Work = Callable[[Channel, dict[str, Any]], None]
"""A function of a module that a child runs, with its end of the channel and the request."""


class Child:
    """A new process that runs ``work`` with ``request`` (JSON); it ends with this one.

    An error that ``work`` raises comes as the message {"bug": its traceback}. Signals are left to
    this process. The child counts this process as ended with the thread that starts it.
    """

    def __init__(
        self, work: Work, request: Mapping[str, Any], quiet: bool = True, root: Path | None = None
    ) -> None:
        """``quiet``: drop what the child and its libraries print; else it goes to standard
        error. ``root``: the folder of another checkout, whose package it runs."""
        paths = [*([] if root is None else [str(root)]), *sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from slowfast_dist.system.child import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=root,  # where Python looks first
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            # Ctrl-C is this process's business; a group of its own where there are such.
            process_group=0 if os.name == "posix" else None,
        )
        assert self._process.stdin and self._process.stdout
        self.channel = Channel(self._process.stdout, self._process.stdin)
        start = {"parent": os.getpid(), "work": name_of(work), "quiet": quiet}
        self.send({**start, "request": request})

    def send(self, header: Mapping[str, Any], data: Bytes | None = None) -> None:
        """As `Channel.send`; that the child has ended is told by the end of its messages."""
        with contextlib.suppress(BrokenPipeError):
            self.channel.send(header, data)

    def end(self, patience: float = 0.0) -> int:
        """Kill it, unless it ends in so many seconds, as it does when it waits for a message.
        Returns its exit code, minus the number of a signal."""
        if not patience:  # first: what is still unsent would wait for one that hangs
            self._process.kill()
        with contextlib.suppress(BrokenPipeError):  # it has ended, with something unread
            self.channel.writer.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self._process.kill()
        return self._process.wait()


@dataclass(frozen=True)
class Ended:
    """The process sends no more; ``how`` it ended, for people ("signal SIGSEGV")."""

    how: str


class StreamProcess(Child):
    """A child that sends what it finds as it finds it: a thread hands each of its messages to
    ``deliver`` as it comes, and at last an `Ended`.

    A ``deliver`` that does not return holds the process back: no more than a pipe's worth waits.
    """

    def __init__(
        self, work: Work, request: Mapping[str, Any], deliver: Callable[[Message | Ended], None]
    ) -> None:
        super().__init__(work, request)
        self._deliver = deliver
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _read(self) -> None:
        with self.channel.reader:
            while (message := self.channel.receive()) is not None:
                self._deliver(message)
        self._deliver(Ended(how_it_ended(self._process.wait())))


def how_it_ended(code: int) -> str:
    """An exit code, or minus the number of a signal, in words."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def name_of(function: Callable[..., Any]) -> str:
    """By which `function_of` finds a module's function in another process."""
    return f"{function.__module__}:{function.__qualname__}"


def function_of(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


# --- in the child --------------------------------------------------------------------------------


def main() -> None:
    """What a child runs: the work that its first message names."""
    channel = Channel(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
    first = channel.receive()
    if first is None:
        return
    signals.serve_parent(first.header["parent"])  # one that hangs sees no end of its input
    if first.header["quiet"]:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(2, 1)
    try:
        function_of(first.header["work"])(channel, first.header["request"])
    except BrokenPipeError:  # nobody listens any more
        os._exit(1)
    except Exception:
        channel.send({"bug": traceback.format_exc()})
        sys.exit(1)
