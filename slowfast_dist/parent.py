"""A process that serves another one must not outlive it, however that one ends."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MISTAKE_SECONDS = 3.0
"""In which a process ends by itself where the other one's end was a mistake that all make."""

_LAUNCHERS = {
    "accelerate", "accelerate-launch", "accelerate.commands.launch", "torchrun",
    "torch.distributed.run", "torch.distributed.launch", "slurmstepd:",
}  # fmt: skip
_LAUNCHED = ("RANK", "ACCELERATE_MIXED_PRECISION", "SLURM_STEP_ID")

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
    if not any(name in os.environ for name in _LAUNCHED):
        return None
    parent = os.getppid()
    try:
        command = Path(f"/proc/{parent}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return None
    words = command.split("\0")
    names = {Path(word).name for word in (*words, words[0].split(" ")[0])}  # or a process's title
    return parent if names & _LAUNCHERS else None


def end_when_a_sibling_died(launcher: int, siblings: int, asked: Callable[[], bool]) -> None:
    """End this process once it was ``asked`` to stop while fewer than ``siblings`` processes run.

    A launcher asks its processes to stop also when one of them died, and kills them half a minute
    later; there is no other way to know it before they have met.
    """
    if not asked() or _running(launcher) >= siblings:
        return
    time.sleep(MISTAKE_SECONDS)
    os.write(2, b"error: another process of this host died before training began\n")
    os._exit(1)


def _running(launcher: int) -> int:
    import psutil  # only now: it takes its time

    count = 0
    for child in psutil.Process(launcher).children():
        with suppress(psutil.NoSuchProcess):
            count += child.status() != psutil.STATUS_ZOMBIE
    return count
