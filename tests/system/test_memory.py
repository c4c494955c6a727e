"""What a process may take, and what a piece of work takes, in real bytes."""

import mmap
import resource
import time
from math import inf
from pathlib import Path

import numpy as np
import psutil
import pytest

from slowfast_dist.system import memory as host_memory
from slowfast_dist.system.memory import (
    address_space_kept_back,
    available_memory,
    cgroup_headroom,
    memory_now,
    peak_growth,
    sampled_growth,
)

MB = 10**6
linux = pytest.mark.skipif(not psutil.LINUX, reason="needs Linux")


def take(size: int) -> mmap.mmap:
    """Memory from the kernel: of malloc's, earlier tests may have left as much to spare."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def use(size: int) -> None:
    np.frombuffer(memory := take(size), np.uint8).fill(1)
    time.sleep(0.5)  # on a busy machine, too, it is sampled meanwhile
    memory.close()


@pytest.mark.parametrize("measure", [peak_growth, sampled_growth])
def test_the_peak_of_memory_that_is_free_again_is_seen(measure) -> None:
    start = memory_now()
    growth = measure(lambda: use(200 * MB), start)
    assert 190 * MB < growth < 250 * MB
    assert measure(lambda: None, memory_now()) < 50 * MB  # not that of before


def test_processes_share_what_the_host_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < available_memory(1) <= psutil.virtual_memory().total
    # Of a control group, as other processes take and free the host's memory meanwhile.
    monkeypatch.setattr(host_memory, "cgroup_headroom", lambda *_: [9 * MB, 8 * MB])
    assert [available_memory(count) for count in (1, 4)] == [8 * MB, 2 * MB]


@linux
def test_a_limit_of_address_space_is_each_processs_own_and_can_be_lowered_for_a_time() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + 300 * MB, before[1]))
    try:
        assert available_memory(1) == pytest.approx(300 * MB, abs=20 * MB)
        assert available_memory(2) == pytest.approx(300 * MB, abs=20 * MB)
        with address_space_kept_back(200 * MB), pytest.raises(OSError, match="allocate memory"):
            take(150 * MB)
        take(150 * MB).close()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@linux
def test_without_a_limit_none_is_set() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    if before[0] != resource.RLIM_INFINITY:
        pytest.skip("this process has a limit of address space")
    with address_space_kept_back(inf):
        assert resource.getrlimit(resource.RLIMIT_AS) == before


def group(folder: Path, **files: int | str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"memory.{name}").write_text(f"{content}\n")


def test_the_tightest_of_nested_control_groups_is_found(tmp_path: Path) -> None:
    """As systemd, SLURM and Kubernetes nest them in version 2, with the files that Linux has."""
    (tmp_path / "cgroup").write_text("0::/job/step\n")
    mount = tmp_path / "mount"
    group(mount / "job", max=4000, high="max", current=3000, stat="anon 5\ninactive_file 500")
    group(mount / "job" / "step", max="max", high=9000, current=2000, stat="inactive_file 100")
    group(mount / "other", max=1, current=1, stat="")
    assert sorted(cgroup_headroom(tmp_path / "cgroup", mount)) == [1500, 7100]


def test_version_1_of_control_groups_is_known_too(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("5:cpu,cpuacct:/a\n4:memory:/a/b\n1:name=systemd:/\n0::/\n")
    mount = tmp_path / "mount"
    group(mount / "memory" / "a", limit_in_bytes=800, usage_in_bytes=700,
          stat="inactive_file 1\ntotal_inactive_file 50")  # fmt: skip
    group(mount / "cpu" / "a", limit_in_bytes=1, usage_in_bytes=1, stat="")
    assert cgroup_headroom(tmp_path / "cgroup", mount) == [150]


def test_inside_a_container_the_mount_is_the_group(tmp_path: Path) -> None:
    """The kernel may name the group as the host sees it, which is not there."""
    (tmp_path / "cgroup").write_text("0::/../kubepods/pod1\n")
    group(tmp_path / "mount", max=1000, current=400, stat="inactive_file 0")
    assert cgroup_headroom(tmp_path / "cgroup", tmp_path / "mount") == [600]


def test_without_control_groups_nothing_limits(tmp_path: Path) -> None:
    assert cgroup_headroom(tmp_path / "missing", tmp_path) == []
