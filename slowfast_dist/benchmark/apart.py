"""A measurement in a process of its own: its settings of torch and its memory are nobody else's."""

import multiprocessing
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from slowfast_dist.config import RunError, UserError

T = TypeVar("T")


def in_own_process(work: Callable[..., T], *arguments: Any) -> T:
    """What ``work(*arguments)`` returns; what it prints goes to standard error.

    ``work`` is a function of a module. Raises its UserError and RunError, and RunError where memory
    does not suffice or the process ends.
    """
    context = multiprocessing.get_context("spawn")
    connection, other = context.Pipe()
    process = context.Process(target=_run, args=(other, work, arguments))
    process.start()
    other.close()
    try:
        answer = connection.recv()
    except EOFError:
        process.join()
        raise RunError(
            f"the measuring process ended (exit code {process.exitcode}), perhaps for lack of "
            "memory: give smaller batches"
        ) from None
    except BaseException:
        process.kill()
        raise
    process.join()
    if isinstance(answer, Exception):
        raise answer
    return answer


def _run(connection: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        with redirect_stdout(sys.stderr):
            connection.send(work(*arguments))
    except (UserError, RunError) as error:
        connection.send(error)
    except torch.OutOfMemoryError:
        connection.send(RunError("out of GPU memory: give a smaller batch"))
    except KeyboardInterrupt:
        pass
