"""A process that serves another one must not outlive it, however that one ends."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_LAUNCHERS = ("accelerate", "torchrun", "torch.distributed", "torch/distributed", "slurmstepd")

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


def launcher() -> int | None:
    """The process number of this process's parent, if that is a launcher of training processes.

    A shell or a terminal is none: what was started in its background outlives it.
    """
    parent = os.getppid()
    try:
        command = Path(f"/proc/{parent}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return None
    return parent if any(name in command for name in _LAUNCHERS) else None


def end_when_a_sibling_died(launcher: int, siblings: int, asked: Callable[[], bool]) -> None:
    """End this process once it was ``asked`` to stop while fewer than ``siblings`` processes run.

    A launcher asks its processes to stop also when one of them died, and kills them half a minute
    later; there is no other way to know it before they have met.
    """
    if not asked():
        return
    import psutil  # only now: it takes its time

    running = [
        child
        for child in psutil.Process(launcher).children()
        if child.status() != psutil.STATUS_ZOMBIE
    ]
    if len(running) < siblings:
        os.write(2, b"error: another process of this host died before training began\n")
        os._exit(1)
