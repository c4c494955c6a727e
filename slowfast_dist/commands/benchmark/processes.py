"""Measurements in processes of their own, each with its own memory and settings of torch."""

import pickle
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.system.child import Bytes, Channel, Child
from slowfast_dist.system.log import log_to_console

T = TypeVar("T")


class MeasuringProcess:
    """A process that calls functions of modules for this one, one at a time.

    What they print goes to standard error. Use as ``with MeasuringProcess() as process``.
    """

    def __init__(self, root: Path | None = None) -> None:
        """``root``: the folder of another checkout, whose functions they are then."""
        self._child = Child(serve_calls, {}, quiet=False, root=root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # One whose work is done has a minute to end by itself, so that the processes of its loaders
        # end and their files are removed.
        self._child.end(60.0 if kind is None else 0.0)
        self._child.channel.reader.close()

    def call(self, work: Callable[..., T], *arguments: Any) -> T:
        """What ``work(*arguments)`` returns there.

        Raises its UserError and RunError, and RunError where memory does not suffice or the process
        ends.
        """
        self.start(work, *arguments)
        found: T = self.result()
        return found

    def start(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Let it work; `result` waits for it."""
        self._child.send({}, _pickled((work, arguments)))

    def result(self) -> Any:
        """Of the call that was started."""
        message = self._child.channel.receive()
        if message is None or "bug" in message.header:
            if message is not None:
                print(message.header["bug"], file=sys.stderr)
            raise RunError(
                "a measuring process ended, perhaps for lack of memory: give a smaller batch"
            )
        found = pickle.loads(message.data)  # type: ignore[arg-type]
        if message.header["raised"]:
            raise found
        return found


def in_own_process(work: Callable[..., T], *arguments: Any) -> T:
    """What ``work(*arguments)`` returns, as `MeasuringProcess.call`."""
    return in_own_processes(work, [arguments])[0]


def in_own_processes(work: Callable[..., T], arguments: Sequence[tuple[Any, ...]]) -> list[T]:
    """What ``work`` returns for each of ``arguments``, all at once, each in its own process."""
    with ExitStack() as stack:
        processes = [stack.enter_context(MeasuringProcess()) for _ in arguments]
        for process, one in zip(processes, arguments, strict=True):
            process.start(work, *one)
        return [process.result() for process in processes]


def serve_calls(channel: Channel, request: dict[str, Any]) -> None:
    """What a measuring process runs: what is the user's fault, or the machine's, goes back too."""
    log_to_console()
    while (message := channel.receive()) is not None:
        work, arguments = pickle.loads(message.data)  # type: ignore[arg-type]
        try:
            raised, found = False, work(*arguments)
        except (UserError, RunError) as error:
            raised, found = True, error
        except torch.OutOfMemoryError:
            raised, found = True, RunError("out of GPU memory: give a smaller batch")
        channel.send({"raised": raised}, _pickled(found))


def _pickled(value: object) -> Bytes:
    return np.frombuffer(pickle.dumps(value), np.uint8)
