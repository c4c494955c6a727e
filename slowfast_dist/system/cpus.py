"""The CPUs of this process, and how its threads use them."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def available_cpus() -> int:
    """CPUs that this process may use (macOS and Windows only say how many there are)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def let_threads_sleep() -> None:
    """Keep torch's CPU threads from spinning while they wait for each other.

    Beside one other busy process on 2 cores, a step of slowfast_tiny took 3.3 s spinning and 0.6 s
    sleeping. OpenMP reads this when torch is imported: call it before.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


# --- a limit to a computation that may never end, as a search for a user's pattern ---------------

class TooMuchCpuError(Exception):
    """The block of a `cpu_limit` took longer than it may."""


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raise TooMuchCpuError in the block once this process has computed for ``seconds`` in it.

    Python code and its regular expressions can be interrupted so, other native code cannot. Time
    in which the process waits or is stopped does not count. In other threads than the main one,
    and on Windows, there is no limit. Limits cannot be nested.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise TooMuchCpuError

    before = signal.signal(signal.SIGVTALRM, end)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    finally:
        signal.signal(signal.SIGVTALRM, before)
