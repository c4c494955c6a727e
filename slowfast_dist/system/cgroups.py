"""What the control groups above this process allow it: a container's or a batch job's limits.

Linux alone, of version 1 and 2: https://docs.kernel.org/admin-guide/cgroup-v2.html. Every group
above the process's own limits it as well, so the tightest one counts.
"""

from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
"""The groups of this process, as the kernel names them."""

MOUNT = Path("/sys/fs/cgroup")
"""The folder of all groups."""


def groups(controller: str) -> Iterator[Path]:
    """The folders of this process's group for a ``controller`` ("cpu", "memory"), then of those
    above it.

    Where a container sees only its own part of the tree, the groups that the kernel names are not
    there, and the mount itself is its own.
    """
    for line in _read(MEMBERSHIP).splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers:  # version 1
            if controller not in controllers.split(","):
                continue
            root = MOUNT / controller
        else:  # version 2, which systems that still use version 1 keep elsewhere
            root = MOUNT / "unified" if (MOUNT / "unified").is_dir() else MOUNT
        group = root / name.strip("/")
        yield from (group, *(above for above in group.parents if above.is_relative_to(root)))


def memory_headroom() -> list[int]:
    """Bytes left in each group that limits this process's memory. As the kubelet counts it, what
    lies in the cache for files and was not used lately is free."""
    left = []
    for folder in groups("memory"):
        stat = dict(line.split(" ", 1) for line in _read(folder / "memory.stat").splitlines())
        for limit, usage, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.high", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, used = _read(folder / limit).strip(), _read(folder / usage).strip()
            if most.isdecimal() and used.isdecimal():
                left.append(int(most) - int(used) + int(stat.get(cached, 0)))
    return left


UNLIMITED = 1 << 60
"""Bytes of a limit that is none: version 1 says a number near 2^63."""


def memory_limit() -> int | None:
    """Bytes of memory that the tightest group allows; None: no group limits it."""
    limits = [
        int(most)
        for folder in groups("memory")
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes")
        if (most := _read(folder / name).strip()).isdecimal() and int(most) < UNLIMITED
    ]
    return min(limits, default=None)


def cpu_quota() -> float | None:
    """CPUs' worth of time that the tightest group allows, as 1.5; None: no group limits it."""
    quotas = []
    for folder in groups("cpu"):
        words = _read(folder / "cpu.max").split()  # "max 100000", or microseconds of a period
        if not words:
            words = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        if len(words) == 2 and all(map(str.isdecimal, words)) and int(words[1]):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def out_of_memory_kills() -> int:
    """Processes of this one's group, and of those below it, that the kernel has killed as the group
    was out of memory."""
    killed = 0
    for folder in groups("memory"):
        for name in ("memory.events", "memory.oom_control"):
            for line in _read(folder / name).splitlines():
                word, _, count = line.partition(" ")
                if word == "oom_kill" and count.isdecimal():
                    killed = max(killed, int(count))
    return killed


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
