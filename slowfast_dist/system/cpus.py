"""The CPUs of this process, and how its threads use them."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from slowfast_dist.system.cgroups import cpu_quota


def available_cpus() -> int:
    """CPUs that this process may use, at least 1: those that it is bound to, or fewer where a
    container's quota allows less time (macOS and Windows only say how many there are)."""
    quota = cpu_quota()
    return bound_cpus() if quota is None else max(1, min(bound_cpus(), int(quota)))


def bound_cpus() -> int:
    """CPUs that this process may be on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_limit_note() -> str | None:
    """As "the container allows 2 CPUs (16 on the host)", where a quota allows fewer than this
    process may be on."""
    quota = cpu_quota()
    if quota is None or quota >= bound_cpus():
        return None
    return f"the container allows {quota:g} CPUs ({os.cpu_count()} on the host)"


def compute_threads() -> int:
    """Threads that one operation may use: torch's where it is imported, else as it would choose
    them: OMP_NUM_THREADS of the CPUs that this process may use, or all of these."""
    if (torch := sys.modules.get("torch")) is not None:
        return int(torch.get_num_threads())
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    most = available_cpus()
    return min(int(given), most) if given.isdecimal() and int(given) else most


FORBIDDEN_BY = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Variables that keep torch from instructions that the CPU has."""


def has_bf16() -> bool | None:
    """Whether Linux says that this CPU of x86 has AVX512-BF16; None where that is not known, or
    a variable of FORBIDDEN_BY may forbid it."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((line.split() for line in file if line.startswith("flags")), [])
    except OSError:
        return None
    if "avx512_bf16" in flags and not any(map(os.environ.get, FORBIDDEN_BY)):
        return True
    return None if "avx512_bf16" in flags or not flags else False


DEVICE_FILES = (
    "nvidia*", "nvhost*", "nvmap", "kfd", "dri", "dxg", "accel*", "davinci*", "hl*", "cambricon*",
    "mtgpu*", "neuron*",
)  # fmt: skip
"""In /dev, what drivers of accelerators leave there: NVIDIA's cards and boards, AMD's, Intel's,
Windows' under Linux, TPUs, and those of Huawei, Habana, Cambricon, Moore Threads and AWS."""

BACKENDS = ("torch_npu", "torch_mlu", "torch_musa", "torch_sdaa", "torch_xla", "habana_frameworks")
"""Packages that bring torch another device, as Accelerate looks for them."""


DRIVERS = ("nvidia", "nvgpu", "amdgpu")
"""Linux' modules of GPUs, which may be there before the first program makes the device files."""


def has_cpus_alone(
    environment: Mapping[str, str], devices: Path = Path("/dev"),
    modules: Path = Path("/sys/module"),
) -> bool:  # fmt: skip
    """Whether Linux knows of no device that torch could compute on but CPUs. False: it may be
    otherwise, and torch is to be asked, as where a launcher's variable says anything.

    ``environment``: the process's; ``devices``: the folder of Linux' device files; ``modules``: of
    its loaded modules.
    """
    if any((modules / driver).exists() for driver in DRIVERS):
        return False
    if sys.platform != "linux" or any(name.startswith("ACCELERATE_") for name in environment):
        return False
    if any(any(devices.glob(pattern)) for pattern in DEVICE_FILES):
        return False
    return not any(map(find_spec, BACKENDS))


def let_threads_sleep() -> None:
    """Keep torch's CPU threads from spinning while they wait for each other.

    Beside one other busy process on 2 cores, a step of slowfast_tiny took 3.3 s spinning and 0.6 s
    sleeping. OpenMP reads this when torch is imported: call it before.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def let_numpy_have_one_thread() -> None:
    """Keep numpy's and OpenCV's linear algebra, of which little is used here, from starting a
    thread a CPU when it is imported: a process of one thread can be forked (`workers.template`).
    Call it before."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


# --- a limit to a computation that may never end, as a search for a user's pattern ---------------

class TooMuchCpuError(Exception):
    """The block of a `cpu_limit` took longer than it may."""


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raise TooMuchCpuError in the block once this process has computed for ``seconds`` in it.

    Python code and its regular expressions can be interrupted so, other native code cannot. Time
    in which the process waits or is stopped does not count. In other threads than the main one,
    and on Windows, there is no limit. Limits cannot be nested.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise TooMuchCpuError

    before = signal.signal(signal.SIGVTALRM, end)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    finally:
        signal.signal(signal.SIGVTALRM, before)
