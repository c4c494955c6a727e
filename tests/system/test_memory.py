"""What a process may take, and what a piece of work takes, in real bytes."""

import ctypes
import gc
import mmap
import os
import resource
import subprocess
import sys
import time
from math import inf
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from slowfast_dist.system import memory as host_memory
from slowfast_dist.system.memory import (
    address_space_kept_back,
    available_memory,
    freed_memory_kept,
    give_back_free_memory,
    keep_freed_memory,
    memory_now,
    peak_growth,
    sampled_growth,
    without_collections,
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
    monkeypatch.setattr(host_memory, "memory_headroom", lambda: [9 * MB, 8 * MB])
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


glibc = pytest.mark.skipif(
    not (psutil.LINUX and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")), reason="needs glibc"
)


KEEPING = """
import mmap, resource
import numpy as np
from slowfast_dist.system.memory import freed_memory_kept, give_back_free_memory, memory_now

SIZE = 80_000_000
PAGES = SIZE // mmap.PAGESIZE


def fresh_pages():
    # How often the kernel had to hand out a page for an array, made, filled and freed ten times.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.full(SIZE, 1, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


give_back_free_memory()
start = memory_now()
with freed_memory_kept():
    fresh_pages()
    assert fresh_pages() < PAGES  # else ten times all of them
    assert memory_now() - start > SIZE / 2
    with freed_memory_kept(wanted=False):
        pass
    assert fresh_pages() < PAGES
assert memory_now() - start < SIZE / 2
fresh_pages()
assert memory_now() - start < SIZE / 2
"""


@glibc
def test_what_is_freed_is_kept_for_what_comes_and_goes_back_at_the_end() -> None:
    """In a process of its own: one that did other things may hold free memory that glibc cannot
    give back, in which all of this would fit."""
    theirs = ("MALLOC_", "GLIBC_TUNABLES")
    environment = {name: at for name, at in os.environ.items() if not name.startswith(theirs)}
    subprocess.run([sys.executable, "-c", KEEPING], env=environment, check=True)


@linux
def test_malloc_is_left_alone_where_the_environment_sets_it_or_there_is_no_glibc(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MALLOC_ARENA_MAX", "2")
        assert not keep_freed_memory()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=print))
    assert not keep_freed_memory()
    with freed_memory_kept():
        give_back_free_memory()
def test_collections_go_on_after_an_import_as_they_did_before() -> None:
    with pytest.raises(KeyError), without_collections():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with without_collections():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
