"""OpenVINO's models come and go, and a signal with a handler still ends no process.

The faults would end the process of the tests, so that one of its own looks at what the system says:
the stack on which the main thread would take signals must be mapped.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.export.conftest import Done
from tests.helpers.training_runs import ROOT

pytest.importorskip("openvino", reason="openvino, of the extra 'cpu', is what these tests are of")

if sys.platform != "linux":
    pytest.skip("/proc tells what is mapped on Linux alone", allow_module_level=True)

LOOK = """
import ctypes, signal, sys
from pathlib import Path

class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_size_t), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

def look():
    now, no_stack = Stack(), 2
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(now)) == 0
    if now.flags & no_stack:
        return
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(part, 16) for part in line.split()[0].split("-"))
        if low <= now.start and now.start + now.size <= high and " rw" in line:
            return
    sys.exit("the stack for signals is not mapped")
"""

OPEN = """
import gc
from slowfast_dist.inference.exported import load_exported
from slowfast_dist.runs.best_model import read_best

best = read_best(Path(sys.argv[1]))
opened = [load_exported(best, "openvino") for _ in range(3)]
while opened:
    del opened[0]
    gc.collect()
    look()
signals = []
signal.signal(signal.SIGUSR1, lambda *_: signals.append(1))
signal.raise_signal(signal.SIGUSR1)
assert signals == [1]
print("alive")
"""

INT8 = """
from slowfast_dist.commands.export.command import run_export
from slowfast_dist.config.commands.export import Export

run_export(Path(sys.argv[1]), Export(format="openvino", int8=True, tolerance=0.9))
look()
print("alive")
"""


def runs(program: str, run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK + program, str(run)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1:] == ["alive"], done.stderr[-2000:]


def test_after_several_models(run: Path, exports: dict[str, Done]) -> None:
    runs(OPEN, run)


@pytest.mark.slow
def test_after_nncf_which_opens_cores_of_its_own(whole: Path) -> None:
    runs(INT8, whole)
