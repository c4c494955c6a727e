"""What the benchmarks share: how they print, and on what machine they ran."""

import json
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil
import torch

from slowfast_dist.system.cpus import available_cpus


def machine_facts() -> dict[str, Any]:
    """CPUs, and the versions of the libraries that decide the speed; None where one is missing."""
    return {
        "cpus": available_cpus(),
        "cpus_of_the_host": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "av", "decord", "numpy")},
        "opencv": _version("opencv-python-headless") or _version("opencv-python"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def print_table(title: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    """``columns``: heading -> key of the rows. What a row lacks, or is None, stays empty."""
    cells = [list(columns), *([_text(row.get(key)) for key in columns.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    text = [any(isinstance(row.get(key), str) for row in rows) for key in columns.values()]
    print(f"\n{title}")
    for line in cells:
        padded = [
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(line, widths, text, strict=True)
        ]
        print("  ".join(padded).rstrip())


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def print_progress(line: str) -> None:
    """On standard error, while results go to standard output."""
    print(line, file=sys.stderr, flush=True)


def print_json(result: Mapping[str, Any]) -> None:
    """As the last line of standard output."""
    print(json.dumps(result, ensure_ascii=False, allow_nan=False), flush=True)


# --- time, of parts of a piece of work, and of all processes that take part in it ----------------


def device_time(device: torch.device) -> float:
    """Seconds by the clock on the wall, read when the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Laps:
    """Seconds of the ``parts`` of a piece of work by ``clock``; the first begins with the making.

    A call names the part that has ended; of one that comes again the seconds add up.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.parts: dict[str, float] = defaultdict(float)
        self._clock, self._last = clock, clock()

    def __call__(self, part: str) -> None:
        now = self._clock()
        self.parts[part] += now - self._last
        self._last = now


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
