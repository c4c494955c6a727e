"""What this machine computes fastest: precision and threads.

Nothing here asks the user: a setting that is the fastest safe one everywhere on a kind of hardware
is no setting. Measured is on CPUs only, with slowfast_r50 on clips of 32 frames at 224 px.
"""

import os
import platform

import torch

from slowfast_dist.model.convolution import fused_dtypes
from slowfast_dist.system.cpus import available_cpus


def uses_gpu() -> bool:
    """Whether there is a GPU, and the launcher's environment does not keep Accelerate off it."""
    use_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "on")
    return torch.cuda.is_available() and not use_cpu


def hardware_precision() -> str:
    """The fastest mixed precision that this machine computes natively."""
    if uses_gpu():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    has_bf16 = platform.machine() in ("x86_64", "AMD64") and torch.cpu._is_avx512_bf16_supported()
    # oneDNN does not compute it everywhere: ONEDNN_MAX_CPU_ISA can forbid what the CPU has.
    if has_bf16 and torch.bfloat16 in fused_dtypes():
        return "bf16"
    return "no"


def share_cpus(processes: int) -> None:
    """Give this process its share of the CPUs, of ``processes`` on this host, as torch's threads.

    torch takes all CPUs for each process, which then wait for each other. OMP_NUM_THREADS, the
    user's or torchrun's, decides where it is set. On a GPU threads hardly matter.
    """
    if not uses_gpu() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, available_cpus() // processes))
