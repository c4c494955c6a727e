"""What containers and batch jobs allow: made files as the kernel writes them, and a real group."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slowfast_dist.system import cgroups, cpus
from slowfast_dist.system.cgroups import (
    cpu_quota,
    memory_headroom,
    memory_limit,
    out_of_memory_kills,
)
from slowfast_dist.system.cpus import available_cpus, cpu_limit_note
from tests.helpers.training_runs import ROOT


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all groups; tmp_path/cgroup names those of this process."""
    monkeypatch.setattr(cgroups, "MOUNT", tmp_path / "mount")
    monkeypatch.setattr(cgroups, "MEMBERSHIP", tmp_path / "cgroup")
    return tmp_path / "mount"


def member(mount: Path, *lines: str) -> None:
    (mount.parent / "cgroup").write_text("\n".join(lines) + "\n")


def group(folder: Path, controller: str = "memory", **files: int | str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{controller}.{name}").write_text(f"{content}\n")


def test_the_tightest_of_nested_groups_counts(mount: Path) -> None:
    """As systemd, SLURM and Kubernetes nest them in version 2, with the files that Linux has."""
    member(mount, "0::/job/step")
    group(mount / "job", max=4000, high="max", current=3000, stat="anon 5\ninactive_file 500")
    group(mount / "job" / "step", max="max", high=9000, current=2000, stat="inactive_file 100")
    group(mount / "other", max=1, current=1, stat="")
    assert sorted(memory_headroom()) == [1500, 7100] and memory_limit() == 4000
    group(mount / "job", "cpu", max="150000 100000")
    group(mount / "job" / "step", "cpu", max="max 100000")
    assert cpu_quota() == 1.5
    group(mount / "job" / "step", "cpu", max="50000 100000")
    assert cpu_quota() == 0.5 and available_cpus() == 1
    group(mount / "job" / "step", events="low 0\noom 2\noom_kill 2\noom_group_kill 0")
    assert out_of_memory_kills() == 2


def test_version_1_is_known_too(mount: Path) -> None:
    member(mount, "5:cpu,cpuacct:/a", "4:memory:/a/b", "1:name=systemd:/", "0::/")
    group(mount / "memory" / "a", limit_in_bytes=800, usage_in_bytes=700,
          stat="inactive_file 1\ntotal_inactive_file 50")  # fmt: skip
    group(mount / "cpu" / "a", limit_in_bytes=1, usage_in_bytes=1, stat="")
    assert memory_headroom() == [150] and memory_limit() == 800
    group(mount / "cpu", "cpu", cfs_quota_us=-1, cfs_period_us=100000)
    assert cpu_quota() is None
    group(mount / "cpu" / "a", "cpu", cfs_quota_us=250000, cfs_period_us=100000)
    assert cpu_quota() == 2.5
    group(mount / "memory" / "a" / "b", oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 3")
    assert out_of_memory_kills() == 3


def test_inside_a_container_the_mount_is_the_group(mount: Path) -> None:
    """The kernel may name the group as the host sees it, which is not there."""
    member(mount, "0::/../kubepods/pod1")
    group(mount, max=1000, current=400, stat="inactive_file 0")
    group(mount, "cpu", max="200000 100000")
    assert memory_headroom() == [600] and cpu_quota() == 2


def test_without_control_groups_nothing_limits(mount: Path) -> None:
    assert memory_headroom() == [] and memory_limit() is cpu_quota() is None
    assert out_of_memory_kills() == 0
    group(mount / "memory", limit_in_bytes=9223372036854771712, usage_in_bytes=1)
    member(mount, "4:memory:/")
    assert memory_limit() is None


def test_a_quota_is_said_and_counts_in_whole_cpus(
    mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member(mount, "0::/")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(cpus, "bound_cpus", lambda: 12)
    assert available_cpus() == 12 and cpu_limit_note() is None
    for quota, count in (("250000", 2), ("300000", 3), ("20000", 1)):
        group(mount, "cpu", max=f"{quota} 100000")
        assert available_cpus() == count
        said = f"the container allows {int(quota) / 1e5:g} CPUs (16 on the host)"
        assert cpu_limit_note() == said
    group(mount, "cpu", max="1200000 100000")
    assert available_cpus() == 12 and cpu_limit_note() is None


PRINTS = """
import os
from pathlib import Path
for folder in __import__("sys").argv[1:]:
    try:
        Path(folder, "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        raise SystemExit(f"{folder} takes no process: {error}")
from slowfast_dist.system.cgroups import cpu_quota, memory_headroom, memory_limit
print(cpu_quota(), memory_limit(), 0 < min(memory_headroom()) <= 300 << 20)
"""


@pytest.fixture
def real_groups() -> Iterator[list[Path]]:
    """A group of 1.5 CPUs and 300 MiB, made below this process's own."""
    made: list[Path] = []
    try:
        limits: dict[str, dict[str, int | str]] = {
            "cpu": {"cpu.max": "150000 100000", "cpu.cfs_quota_us": "150000"},
            "memory": {"memory.max": 300 << 20, "memory.limit_in_bytes": 300 << 20},
        }
        for controller, files in limits.items():
            above = next((one for one in cgroups.groups(controller) if one.is_dir()), None)
            if above is None:
                pytest.skip(f"no control group of {controller}")
            folder = above / f"slowfast_dist_{os.getpid()}"
            if folder not in made:
                try:
                    folder.mkdir()
                except OSError as error:
                    pytest.skip(f"no control group can be made: {error}")
                made.append(folder)
            chosen = [name for name in files if (folder / name).exists()]
            if not chosen:
                pytest.skip(f"the group has no controller for {controller}")
            (folder / chosen[0]).write_text(str(files[chosen[0]]))
        yield made
    finally:
        for folder in made:
            folder.rmdir()


def test_the_limits_of_a_real_group_are_found(real_groups: list[Path]) -> None:
    found = subprocess.run(
        [sys.executable, "-c", PRINTS, *real_groups], cwd=ROOT, capture_output=True, text=True
    )
    if "takes no process" in found.stderr:
        pytest.skip(found.stderr.strip())
    assert found.stdout == f"1.5 {300 << 20} True\n", found.stderr
