"""The Accelerator of a run: made here alone, on a rendezvous of our own, with the precision and
the threads with which this machine computes fastest."""

import os
import platform
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import DDPCommunicationHookType
from torch.distributed import PrefixStore  # type: ignore[attr-defined]

from slowfast_dist.config.errors import UserError
from slowfast_dist.distributed.environment import refuse_unsupported
from slowfast_dist.distributed.rendezvous import join
from slowfast_dist.model.convolution import fused_dtypes
from slowfast_dist.system.cpus import available_cpus

SLOW_PROCESS_SECONDS = 600.0
"""Seconds beyond --distributed.timeout, after which a silent process counts as lost, that a
collective waits for one that lives: it may meet video after video that hangs the decoder."""


_made_group: object = None
"""The process group that was made here, where one was: that of a caller of the library stays."""


def make_accelerator(
    mixed_precision: str,
    timeout: float,
    compression: Literal["none", "bf16", "fp16"] = "none",
    shared_folder: Path | None = None,
) -> Accelerator:
    """The Accelerator of this process: device, process group and mixed precision.

    ``mixed_precision`` auto takes the launcher's choice, else what the hardware has; ``timeout``:
    seconds without a sign of life after which another process counts as lost; ``compression``:
    in which gradients travel; ``shared_folder``: one that all hosts see, as the run's is or will
    be (None: where the processes were started). BatchNorm buffers are not broadcast and gradient
    accumulation is left to the training step. Raises UserError for fp16 without a GPU, which would
    silently be fp32, for bf16 gradients without one, which gloo cannot add up, and for what a
    launcher asks for and is not there (fp8, FSDP, DeepSpeed, Megatron-LM).
    """
    refuse_unsupported(os.environ)
    precision = _precision(mixed_precision)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    on_cpu = not torch.cuda.is_available()
    if dist.is_initialized():
        _require_same_size(world_size)
    elif world_size > 1:
        _make_group(world_size, timeout, _existing(shared_folder))
    # Accelerate refuses another precision than that of a process's first Accelerator; a program
    # that trains and then predicts may need two.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        # Plain torchrun without a GPU would otherwise start N independent one-process runs.
        cpu=on_cpu and world_size > 1,
        mixed_precision=precision,
        dynamo_backend="no",  # --model.compile does that, and leaves DDP's no_sync as it is
        step_scheduler_with_optimizer=False,
        kwargs_handlers=[
            DistributedDataParallelKwargs(
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
                comm_hook=DDPCommunicationHookType(compression.replace("none", "no")),
            )
        ],
    )
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise UserError("--mixed-precision fp16 needs a GPU: use bf16 or no on a CPU")
    if compression == "bf16" and accelerator.device.type == "cpu":
        raise UserError("--distributed.compression bf16 needs GPUs: use fp16 or none on a CPU")
    assert accelerator.num_processes == world_size
    share_cpus(local_processes())
    # Of convolutions of 1 x 1 x 1, whose memory is the same under either of the strides it names.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
    if accelerator.device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    return accelerator


def _existing(folder: Path | None) -> Path:
    """It, or the nearest folder above it that there is."""
    path = (folder or Path()).absolute()
    return next((one for one in (path, *path.parents) if one.is_dir()), Path("/"))


def _make_group(world_size: int, timeout: float, shared_folder: Path) -> None:
    """The process group, which Accelerate then takes as it is."""
    global _made_group
    store, _ = join(timeout, shared_folder)
    if uses_gpu():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group(
        "nccl" if uses_gpu() else "gloo",
        store=PrefixStore("group", store),
        rank=int(os.environ["RANK"]),
        world_size=world_size,
        timeout=timedelta(seconds=timeout + SLOW_PROCESS_SECONDS),
    )
    _made_group = dist.group.WORLD


def _require_same_size(world_size: int) -> None:
    """Raise UserError where a caller made a process group of which the environment says nothing."""
    if (own := dist.get_world_size()) != world_size:
        raise UserError(
            f"a process group of {own} is there, but WORLD_SIZE is {world_size}: set RANK, "
            "WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE as torchrun does, or end the group first"
        )


def close_group() -> None:
    """End the process group where it was made here; one that a caller made stays as it is."""
    global _made_group
    if dist.is_initialized() and dist.group.WORLD is _made_group:
        dist.destroy_process_group()
    _made_group = None


def _precision(choice: str) -> str | None:
    """None leaves the decision to the launcher."""
    if choice == "bf16" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        raise UserError("--mixed-precision bf16: this GPU has no bf16: use fp16 or no")
    if choice == "auto" and os.environ.get("ACCELERATE_MIXED_PRECISION") == "fp8":
        raise UserError(
            "the launcher's mixed precision fp8 is not supported (it would be computed in bf16): "
            "give --mixed-precision bf16, fp16 or no"
        )
    if choice == "auto":
        return None if "ACCELERATE_MIXED_PRECISION" in os.environ else hardware_precision()
    return choice


def uses_gpu() -> bool:
    """Whether there is a GPU, and the launcher's environment does not keep Accelerate off it."""
    use_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "on")
    return torch.cuda.is_available() and not use_cpu


def hardware_precision() -> str:
    """The fastest mixed precision that this machine computes natively."""
    if uses_gpu():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return _cpu_hardware_precision()


def cpu_precision(choice: str) -> Literal["no", "bf16"]:
    """What --mixed-precision means for what computes on the CPU, also where there is a GPU. Raises
    UserError for fp16."""
    if choice == "auto":
        choice = os.environ.get("ACCELERATE_MIXED_PRECISION") or _cpu_hardware_precision()
    if choice not in ("no", "bf16"):
        raise UserError(f"--mixed-precision {choice} needs a GPU: use bf16 or no on a CPU")
    return "bf16" if choice == "bf16" else "no"


def _cpu_hardware_precision() -> Literal["no", "bf16"]:
    has_bf16 = platform.machine() in ("x86_64", "AMD64") and torch.cpu._is_avx512_bf16_supported()
    # oneDNN does not compute it everywhere: ONEDNN_MAX_CPU_ISA can forbid what the CPU has.
    return "bf16" if has_bf16 and torch.bfloat16 in fused_dtypes() else "no"


def share_cpus(processes: int) -> None:
    """Give this process its share of the CPUs, of ``processes`` on this host, as torch's threads.

    torch takes all CPUs for each process, which then wait for each other. OMP_NUM_THREADS, the
    user's or torchrun's, decides where it is set. On a GPU threads hardly matter.
    """
    if not uses_gpu() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, available_cpus() // processes))


def local_processes() -> int:
    """Training processes on this host, as the launcher says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")))
