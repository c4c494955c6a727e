"""What this machine computes fastest: precision, threads, compilation; and a line that says so.

Nothing here asks the user: a setting that is the fastest safe one everywhere on a kind of hardware
is no setting. Measured is on CPUs only, with slowfast_r50 on clips of 32 frames at 224 px.
"""

import os
import platform
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from slowfast_dist.convolution import fused_types
from slowfast_dist.cpus import available_cpus
from slowfast_dist.model import SlowFast, live_batchnorms


def cpu_is_wanted() -> bool:
    """Whether the launcher's environment keeps Accelerate off the GPUs."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "on")


def uses_gpu() -> bool:
    return torch.cuda.is_available() and not cpu_is_wanted()


def hardware_precision() -> str:
    """The fastest mixed precision that this machine computes natively."""
    if uses_gpu():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    has_bf16 = platform.machine() in ("x86_64", "AMD64") and torch.cpu._is_avx512_bf16_supported()
    # oneDNN does not compute it everywhere: ONEDNN_MAX_CPU_ISA can forbid what the CPU has.
    if has_bf16 and torch.bfloat16 in fused_types():
        return "bf16"
    return "no"


def share_cpus(processes: int) -> None:
    """Give this process its share of the CPUs, of ``processes`` on this host, as torch's threads.

    torch takes all CPUs for each process, which then wait for each other. OMP_NUM_THREADS, the
    user's or torchrun's, decides where it is set. On a GPU threads hardly matter.
    """
    if not uses_gpu() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, available_cpus() // processes))


def compile_network(network: nn.Module) -> None:
    """torch.compile for shapes that do not change: a short last batch is compiled by itself.

    What is compiled is kept, so that a second start is quick (slowfast_tiny on a CPU: 5 CPU seconds
    in place of 148), in torch's TORCHINDUCTOR_CACHE_DIR; torch's own place for it, in /tmp, is not
    there after a restart of the machine.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "slowfast_dist" / "compiled"))
    network.compile(dynamic=False)


def summary(accelerator: Accelerator, network: SlowFast, compiled: bool) -> str:
    """One line for the user: what a step is computed with on this machine."""
    device = accelerator.device.type
    parts = [_precision_words(device, accelerator.mixed_precision), _layout_words(network)]
    parts.append(_norm_words(network))
    if compiled:
        parts.append("compiled")
    elif device == "cpu" and fused_types():
        parts.append("convolutions with sum and ReLU in one pass")
    if network.checkpoint_activations:
        parts.append("activations computed again")
    return f"{_device_words(device)}: {', '.join(part for part in parts if part)}"


def _device_words(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"{device}, {threads} thread{'s' if threads > 1 else ''}"


def _precision_words(device: str, precision: str) -> str:
    if precision == "no":
        return "fp32 (TF32)" if device == "cuda" else "fp32"
    if device != "cpu":
        return precision
    for name, supported in (
        ("AMX", torch.cpu._is_amx_tile_supported),
        ("AVX512-bf16", torch.cpu._is_avx512_bf16_supported),
    ):
        if supported():
            return f"{precision} ({name})"
    return f"{precision} (emulated, so slow: --mixed-precision no is faster here)"


def _layout_words(network: SlowFast) -> str:
    return "channels_last_3d" if network.channels_last else "contiguous"


def _norm_words(network: SlowFast) -> str:
    if not any(live_batchnorms(network)):
        return "frozen BatchNorm folded into the convolutions"
    words = "synchronised" if network.norm == "sync" else "local"
    if network.frozen_stages:
        return f"BatchNorm {words}, folded in the {network.frozen_stages} frozen stages"
    return f"BatchNorm {words}"
