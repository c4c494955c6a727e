"""For libraries that print and log much while they work, and take Ctrl-C for a fault of theirs."""

import io
import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import FrameType


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

    torch.export catches one and raises an error of its own. For the main thread.
    """
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if usual:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception:
        if not came:
            raise
    finally:
        if usual:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt
