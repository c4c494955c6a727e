"""Measurements in processes of their own: their settings of torch and memory are nobody else's."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from slowfast_dist.config import RunError, UserError

T = TypeVar("T")


def in_own_process(work: Callable[..., T], *arguments: Any) -> T:
    """What ``work(*arguments)`` returns; as `in_own_processes`."""
    (result,) = in_own_processes(work, [arguments])
    return result


def in_own_processes(work: Callable[..., T], arguments: Sequence[tuple[Any, ...]]) -> list[T]:
    """What ``work`` returns for each of ``arguments``, all at once, each in its own process.

    ``work`` is a function of a module; what it prints goes to standard error. Raises its UserError
    and RunError, and RunError where memory does not suffice or a process ends.
    """
    context = multiprocessing.get_context("spawn")
    connections, processes = [], []
    try:
        for one in arguments:
            connection, other = context.Pipe()
            # No daemons: they may have loaders' processes.
            processes.append(context.Process(target=_run, args=(other, work, one)))
            processes[-1].start()
            other.close()
            connections.append(connection)
        answers = [answer(connection) for connection in connections]
        for process in processes:
            process.join()
        return answers
    finally:
        for process in processes:
            process.kill()


def answer(connection: Connection) -> Any:
    """What the measuring process sends, or its error raised."""
    try:
        sent = connection.recv()
    except EOFError:
        raise RunError(
            "a measuring process ended, perhaps for lack of memory: give a smaller batch"
        ) from None
    if isinstance(sent, Exception):
        raise sent
    return sent


def _run(connection: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with answering(connection):
        connection.send(work(*arguments))


@contextmanager
def answering(connection: Connection) -> Iterator[None]:
    """In the process that measures: prints go to standard error, and what is the user's fault, or
    the machine's, to the process that asked."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (UserError, RunError) as error:
        connection.send(error)
    except torch.OutOfMemoryError:
        connection.send(RunError("out of GPU memory: give a smaller batch"))
    except KeyboardInterrupt:
        pass
