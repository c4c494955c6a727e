"""A limit to the CPU time of a computation that may never end, as a search for a user's pattern."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
