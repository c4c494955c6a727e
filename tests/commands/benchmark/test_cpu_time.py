"""CPU time of a piece of work, in whatever process and thread it is done."""

import subprocess
import sys
import threading
import time

import pytest

from slowfast_dist.commands.benchmark.output import Meter, cost_of

BURN = 0.15
BURN_IN_THREAD = f"""
import threading, time
def burn():
    while time.thread_time() < {BURN}:
        pass
thread = threading.Thread(target=burn)
thread.start()
thread.join()
"""


def burn() -> None:
    end = time.thread_time() + BURN
    while time.thread_time() < end:
        pass


def test_all_threads_count_and_waiting_does_not() -> None:
    def work() -> None:
        thread = threading.Thread(target=burn)
        thread.start()
        burn()
        thread.join()
        time.sleep(1.0)

    cost = cost_of(work)
    assert 2 * BURN <= cost.cpu < 2 * BURN + 0.7
    assert cost.wall >= 1.0 + BURN


def test_a_child_that_has_ended_counts() -> None:
    cost = cost_of(lambda: subprocess.run([sys.executable, "-c", BURN_IN_THREAD], check=True))
    assert cost.cpu >= BURN


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has clocks of other processes")
def test_descendants_that_live_count_with_the_threads_that_have_ended() -> None:
    script = f"{BURN_IN_THREAD}\nprint('done', flush=True)\ninput()"
    outer = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {script!r}], check=True)"
    )
    meter = Meter()
    with subprocess.Popen(
        [sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdin is not None
        assert child.stdout.readline() == "done\n"
        before = meter.cost()
        assert before.cpu >= BURN, "a grandchild's"
        time.sleep(1.0)
        assert before.cpu <= meter.cost().cpu < before.cpu + 0.7
        child.stdin.write("\n")
