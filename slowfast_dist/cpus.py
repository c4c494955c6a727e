"""The CPUs of this process."""

import os


def available_cpus() -> int:
    """CPUs that this process may use (macOS and Windows only say how many there are)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
