"""A request to stop, as schedulers and people send it: a signal sets a flag that the loop reads.

No torch here: the handlers go in before it is imported, so that a signal during the import counts.
"""

import os
import signal
from types import FrameType

STOP_SIGNALS = ("SIGTERM", "SIGINT")

_received: str | None = None
_installed: set[str] = set()


def install(*more: str) -> None:
    """Let SIGTERM, SIGINT and ``more`` (names, as SIGUSR1) ask for a stop; a second SIGINT ends."""
    _installed.update(STOP_SIGNALS, more)
    for name in _installed:
        signal.signal(getattr(signal, name), _note)


def _note(number: int, frame: FrameType | None) -> None:
    global _received
    if _received is not None and number == signal.SIGINT:
        os._exit(128 + number)
    _received = signal.Signals(number).name
    if os.environ.get("RANK", "0") == "0":
        line = f"{_received}: finishing the step, then saving; Ctrl-C again ends at once\n"
        os.write(2, line.encode())  # print is not safe in a handler


def leave_to_parent() -> None:
    """In a process that only serves another one: let that one decide when to stop.

    Launchers signal whole process groups, and schedulers every process of a job.
    """
    for name in (*STOP_SIGNALS, "SIGUSR1", "SIGUSR2", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)


def end_at_once() -> None:
    """From now on a signal ends this process as it did before `install`."""
    for name in _installed:
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def received() -> str | None:
    """The name of the signal that asked this process to stop, if one did."""
    return _received
