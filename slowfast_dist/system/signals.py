"""A request to stop, as schedulers and people send it: a signal sets a flag that the loop reads.

And the signals of a process that only serves another one. No torch here: the handlers go in before
anything slow is imported, so that a signal during the imports counts.
"""

import ctypes
import os
import signal
import sys
from types import FrameType

STOP_SIGNALS = ("SIGTERM", "SIGINT")
PREEMPT_SIGNALS = ("SIGUSR1", "SIGUSR2")
"""What asks for a stop before the settings say which one does."""

_received: str | None = None
_installed: set[str] = set()


class StopRequested(Exception):
    """This process was asked to stop before there was anything to save."""


def install(*more: str) -> None:
    """Let SIGTERM, SIGINT and ``more`` (names, as SIGUSR1) ask for a stop; a second SIGINT ends.

    Others that an earlier call named end the process again. Signals that the parent blocked, so
    that none is lost while Python starts, are let through.
    """
    wanted = {*STOP_SIGNALS, *more}
    for name in _installed - wanted:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    for name in wanted:
        signal.signal(getattr(signal, name), _note)
    _installed.clear()
    _installed.update(wanted)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {getattr(signal, name) for name in wanted})


def _note(number: int, frame: FrameType | None) -> None:
    global _received
    if _received is not None and number == signal.SIGINT:
        os._exit(128 + number)
    _received = signal.Signals(number).name
    _announce(_received)


def _announce(what: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        line = f"{what}: asked to stop: finishing the step, then saving (Ctrl-C: at once)\n"
        os.write(2, line.encode())  # print is not safe in a handler


def end_at_once() -> None:
    """From now on a signal ends this process as it did before `install`."""
    for name in _installed:
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def received() -> str | None:
    """The name of the signal that asked this process to stop, if one did."""
    return _received


def request(name: str) -> None:
    """Ask this process to stop, as the signal ``name`` that another process received."""
    global _received
    if _received is None:
        _received = name
        _announce(f"{name} to another process")


def forget() -> None:
    """No stop is asked for any more: for a program that trains several times."""
    global _received
    _received = None


def raise_if_received() -> None:
    """Raise StopRequested if this process was asked to stop."""
    if _received is not None:
        raise StopRequested(_received)


# --- a process that serves another one -----------------------------------------------------------

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

# Looked up here and not in a forked process, where another thread's lock could be in the way.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with_parent(expected_parent: int) -> None:
    """Have the kernel kill this process (SIGKILL) when its parent ends; at once if it has ended.

    ``expected_parent`` is the parent's process id. The parent counts as ended with the thread that
    started this process, so that must be one that stays. Linux only: elsewhere nothing happens.
    """
    if _prctl is None:
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != expected_parent:  # it ended before the kernel knew
        os._exit(1)


def serve_parent(parent: int) -> None:
    """In a process that only serves another one, of that id: let that one decide when to stop, and
    end with it (`die_with_parent`).

    Launchers signal whole process groups, and schedulers every process of a job.
    """
    die_with_parent(parent)
    ignore_stops()


def ignore_stops() -> None:
    """Leave it to another process when this one stops."""
    for name in (*STOP_SIGNALS, *PREEMPT_SIGNALS, "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
