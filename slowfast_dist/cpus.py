"""The CPUs of this process, and how its threads use them."""

import os


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
