"""How a command that prints results ends early: at once, without a word, with nothing left behind.
"""

import io
import logging
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import FrameType
from typing import Any


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


@contextmanager
def ends_with_its_pipe() -> Iterator[None]:
    """Raise SystemExit in here where nobody reads any more what is printed."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()  # what is still to be printed fails here, not as Python ends
    except OSError as error:
        # What still waits to be printed, and cannot be, goes nowhere: else Python's own last flush
        # fails once more, as on a full disk.
        for stream in filter(None, (sys.stdout, sys.stderr)):
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if isinstance(error, BrokenPipeError):
            raise SystemExit(141) from None  # as one that SIGPIPE ends, as ``| head`` does to most
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
