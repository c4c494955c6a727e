"""A process that serves another one must not outlive it, however that one ends."""

import ctypes
import os
import signal
import sys

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
