"""Shared memory that is let go of while another looks for it."""

import os
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from slowfast_dist.system.workers import shared
from slowfast_dist.system.workers.shared import allocate, file_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/fd")


def test_another_thread_may_let_go_of_memory_while_a_value_is_packed() -> None:
    others, ended = [allocate(100) for _ in range(500)], threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            allocate(100)

    thread, interval = threading.Thread(target=come_and_go), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(400):
            _, fd, places = shared._pack(np.arange(9))
            os.close(fd)
            assert places == [(0, 72)]
    finally:
        ended.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert len(others) == 500


def test_a_value_without_arrays_takes_no_other_ones_file() -> None:
    other = allocate(5000)
    _, fd, places = shared._pack("no array")
    assert not places and os.fstat(fd).st_size < other.size
    os.close(fd)


def test_a_fork_finds_none_of_this_process_files_by_an_address() -> None:
    """It may have closed them, and then they are others'."""
    array = allocate(5000)
    array[:] = 7
    fd = file_of(array.data)
    _, own = shared._allocated[array.ctypes.data]
    assert os.path.samestat(os.fstat(fd), os.fstat(own))
    os.close(fd)
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside torch's threads
        pid = os.fork()
    if not pid:
        try:
            os.dup2(os.open(os.devnull, os.O_RDWR), own)  # closed, and another's
            os.write(writer, Path(f"/proc/self/fd/{file_of(array.data)}").read_bytes())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == bytes(array)
