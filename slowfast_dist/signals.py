"""A request to stop, as schedulers and people send it: a signal sets a flag that the loop reads.

No torch here: the handlers go in before it is imported, so that a signal during the import counts.
"""

import os
import signal
from types import FrameType

STOP_SIGNALS = ("SIGTERM", "SIGINT")

_received: str | None = None


def install(*more: str) -> None:
    """Let SIGTERM, SIGINT and ``more`` (names, as SIGUSR1) ask for a stop; a second SIGINT ends."""
    for name in {*STOP_SIGNALS, *more}:
        signal.signal(getattr(signal, name), _note)


def _note(number: int, frame: FrameType | None) -> None:
    global _received
    if _received is not None and number == signal.SIGINT:
        os._exit(128 + number)
    _received = signal.Signals(number).name


def received() -> str | None:
    """The name of the signal that asked this process to stop, if one did."""
    return _received
