"""How a command that prints results ends early: at once, without a word, with nothing left behind.
"""

import io
import logging
import multiprocessing
import os
import select
import signal
import stat
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import FrameType
from typing import Any, TextIO

from slowfast_dist.config.errors import RunError
from slowfast_dist.system.files import FULL, reason_of


@contextmanager
def _handled(
    handler: Callable[[int, FrameType | None], Any] | signal.Handlers,
    names: Sequence[str] = ("SIGINT",),
) -> Iterator[None]:
    """Give signals to ``handler`` in here: those that nobody handles, or ignores, as nohup does."""
    before = {}
    for name in names:
        number = getattr(signal, name, None)  # Windows has not all of them
        if number and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


@contextmanager
def interrupted_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process in here as it ends one that is not Python's: for imports.

    A KeyboardInterrupt in the middle of one comes out as whatever the library makes of it, as
    "ImportError: initialization failed" of scipy's.
    """
    with _handled(signal.SIG_DFL):
        yield


@contextmanager
def ends_at_signals() -> Iterator[None]:
    """Let a signal raise SystemExit in here, with the exit code that a shell gives it; a second one
    ends the process wherever it is. For the main thread."""
    ending = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        if ending:
            os._exit(128 + number)
        ending = True
        # Before anything else: a loader's worker that is just handing a clip over would print how
        # that broke off. And torch's handler would take their end for a fault.
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for worker in multiprocessing.active_children():
            worker.kill()
        raise SystemExit(128 + number)

    with _handled(end, ("SIGINT", "SIGTERM", "SIGHUP")):
        yield


def output_is_closed() -> bool:
    """Whether nobody reads any more what is printed: of a pipe or a socket, standard output or
    standard error. A BrokenPipeError alone does not tell: it may be of any other connection."""
    return any(map(_is_closed, filter(None, (sys.stdout, sys.stderr))))


def _is_closed(stream: TextIO) -> bool:
    try:
        stream.flush()
    except BrokenPipeError:
        return True
    except (OSError, ValueError):
        return False
    # Nothing waits to be printed where it is unbuffered, as with PYTHONUNBUFFERED.
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(events & select.POLLERR for _, events in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # Windows has no poll; not a real file
        return False


def _is_full(stream: TextIO) -> bool:
    """Whether the file of a stream without a buffer, in which nothing waits, has no space left."""
    try:
        number = stream.fileno()
        os.write(number, b"")  # fails on what is always full, as /dev/full
        return stat.S_ISREG(os.fstat(number).st_mode) and os.fstatvfs(number).f_bavail == 0
    except (AttributeError, OSError, ValueError) as error:
        return isinstance(error, OSError) and error.errno in FULL


@contextmanager
def ends_with_its_pipe() -> Iterator[None]:
    """Raise SystemExit in here where nobody reads any more what is printed, and RunError where its
    disk is full."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()  # what is still to be printed fails here, not as Python ends
    except OSError as error:
        closed = isinstance(error, BrokenPipeError) and output_is_closed()
        # What still waits to be printed, and cannot be, goes nowhere: else Python's own last flush
        # fails once more, as on a full disk.
        full = ""
        for name, stream in (("output", sys.stdout), ("error", sys.stderr)):
            if stream is None:
                continue
            try:
                stream.flush()
                if error.errno in FULL and _is_full(stream):
                    full = full or f"standard {name}"
            except OSError as unprinted:
                full = full or (f"standard {name}" if unprinted.errno in FULL else "")
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if closed:
            raise SystemExit(141) from None  # as one that SIGPIPE ends, as ``| head`` does to most
        if full and error.errno in FULL and not error.filename:
            raise RunError(f"{full}: {reason_of(error)}") from None
        raise


# --- for libraries that print and log much, and take Ctrl-C for a fault of theirs ----------------

@contextmanager
def quiet() -> Iterator[None]:
    """Drop what the block prints, warns and logs; what it raises comes through."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)


@contextmanager
def ends_at_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C come out of the block as KeyboardInterrupt, whatever a library makes of it.
    torch.export catches one and raises an error of its own. For the main thread."""
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    with _handled(interrupt):
        try:
            yield
        except Exception:
            if not came:
                raise
    if came:
        raise KeyboardInterrupt
