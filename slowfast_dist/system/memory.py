"""Memory of this host: how much a process may still take, and how much a piece of work takes."""

import ctypes
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any

import psutil

from slowfast_dist.system.cgroups import memory_headroom

PROC = Path("/proc/self")


def memory_now() -> int:
    """Bytes of RAM that this process holds."""
    return psutil.Process().memory_info().rss


@contextmanager
def without_collections() -> Iterator[None]:
    """No search for garbage in the block, which imports: these make hundreds of thousands of
    objects, which stay, and to look through them again and again is 8 % of torch's import."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def available_memory(processes: int) -> float:
    """Bytes that this process may take beyond what it holds, if ``processes`` share the host.

    Of the host's RAM what is free or can be freed, or less where a control group (a container, a
    batch system's job) allows less; also no more than ``ulimit -v`` leaves each process.
    """
    ram = min([psutil.virtual_memory().available, *memory_headroom()])
    return max(0.0, min(ram / processes, address_space_left()))


def address_space_left() -> float:
    """Bytes of address space below ``ulimit -v`` that this process does not use; inf without it."""
    if not hasattr(psutil, "RLIMIT_AS"):  # Linux and FreeBSD alone have it
        return inf
    process = psutil.Process()
    limit, _ = process.rlimit(psutil.RLIMIT_AS)
    return inf if limit == psutil.RLIM_INFINITY else limit - process.memory_info().vms


@contextmanager
def address_space_kept_back(amount: float) -> Iterator[None]:
    """Within it, ``ulimit -v`` leaves this process ``amount`` bytes less, where there is one."""
    if address_space_left() == inf:
        yield
        return
    process = psutil.Process()
    soft, hard = process.rlimit(psutil.RLIMIT_AS)
    process.rlimit(psutil.RLIMIT_AS, (max(0, soft - int(amount)), hard))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_AS, (soft, hard))


def peak_growth(work: Callable[[], object], start: int) -> int:
    """Do ``work``; the most bytes of RAM that this process held meanwhile, beyond ``start``.

    Exact where the kernel keeps count and lets it begin anew (Linux), else from samples a
    millisecond apart.
    """
    try:
        (PROC / "clear_refs").write_text("5")  # of VmHWM: man 5 proc_pid_clear_refs
    except OSError:
        return sampled_growth(work, start)
    work()
    status = dict(line.split(":", 1) for line in (PROC / "status").read_text().splitlines())
    return 1024 * int(status["VmHWM"].split()[0]) - start


def sampled_growth(work: Callable[[], object], start: int) -> int:
    """As `peak_growth`, without the kernel's help."""
    peak, done = memory_now(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, memory_now())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return peak - start


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Names of glibc's malloc.h for mallopt."""

KEPT = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1}
"""No block has pages of its own, which go back to the kernel with it, and the heap's end goes back
only from as many bytes on as mallopt can name."""

USUAL = {M_MMAP_MAX: 65536, M_TRIM_THRESHOLD: 128 << 10}
"""What mallopt(3) says they are."""

OTHERS_SETTINGS = ("MALLOC_", "GLIBC_TUNABLES")
"""How the variables begin by which a user's environment sets malloc."""


def keep_freed_memory() -> bool:
    """From here on malloc keeps what is freed for what comes, so that a step takes the memory of
    the one before; returns whether it does.

    With glibc alone, and not where the environment sets malloc. Fresh memory costs more than to
    fill it: the kernel hands it out in pages of 4 KiB and clears each of them first.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None or any(name.startswith(OTHERS_SETTINGS) for name in os.environ):
        return False
    for setting, value in KEPT.items():
        mallopt(setting, value)
    return True


@contextmanager
def freed_memory_kept(wanted: bool = True) -> Iterator[None]:
    """`keep_freed_memory` within it, if ``wanted``; at its end all that is free goes back."""
    kept = wanted and keep_freed_memory()
    try:
        yield
    finally:
        if kept:
            mallopt = _glibc("mallopt")
            for setting, value in USUAL.items():
                mallopt(setting, value)
            give_back_free_memory()


def _glibc(name: str) -> Any:
    """Its function, where the C library is glibc."""
    library = ctypes.CDLL(None) if psutil.LINUX else None
    return getattr(library, name, None) if hasattr(library, "gnu_get_libc_version") else None


def give_back_free_memory() -> None:
    """Return to the host what malloc keeps for later, where it can (glibc).

    slowfast_r50, 4 clips of 8 frames at 112 px: at most 510 MB as the first piece of work, 668
    after smaller ones, whose memory stayed in pieces; 594 if that is given back in between.
    """
    if (trim := _glibc("malloc_trim")) is not None:
        trim(0)
