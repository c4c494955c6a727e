"""CPU time of a piece of work, over all processes that take part in it."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

_ALL_THREADS = 2  # CPUCLOCK_SCHED of Linux: the clock of a whole process, to the nanosecond


@dataclass(frozen=True)
class Cost:
    """Seconds: of the CPUs, and of the clock on the wall."""

    cpu: float
    wall: float


class Meter:
    """Counts from its making on: this process and all its descendants, with all their threads.

    Only a descendant that ends meanwhile without being this process's own child is not counted.
    Outside Linux, where reading clips starts no process, descendants count once they have ended.
    """

    def __init__(self) -> None:
        self._others = _others()
        self._wall, self._own = time.perf_counter(), time.process_time()

    def cost(self) -> Cost:
        """Since the making; what the metering costs is not in it."""
        own, wall = time.process_time() - self._own, time.perf_counter() - self._wall
        return Cost(own + _others() - self._others, wall)


def cost_of(work: Callable[[], object]) -> Cost:
    """What a call of ``work`` costs."""
    meter = Meter()
    work()
    return meter.cost()


def _others() -> float:
    """CPU seconds of the descendants that live, and of the children that ended."""
    process = psutil.Process()
    times = process.cpu_times()
    total = times.children_user + times.children_system
    if sys.platform == "linux":
        for other in process.children(recursive=True):
            try:
                # As clock_getcpuclockid(3) makes it. /proc counts in hundredths of a second, or
                # leaves out threads that have ended.
                total += time.clock_gettime((~other.pid << 3) | _ALL_THREADS)
            except OSError:  # it has just ended
                continue
    return total
