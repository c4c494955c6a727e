"""What a training step costs by calculation: at least, on one device, and about, on many GPUs.

The least is that of its arithmetic and of its memory traffic, both counted from pytorchvideo's
network on the meta device, where nothing is computed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import log2
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from slowfast_dist.config.fields import OptimizerName
from slowfast_dist.config.training import OptimizerConfig
from slowfast_dist.model.description import network_defaults
from slowfast_dist.model.slowfast import plain_network
from slowfast_dist.training.optim import values_per_parameter

DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Of activations, by mixed precision."""

GPUS = {
    # Name -> TFLOP/s dense in bf16 or fp16 (TF32 for "no"), and 1e9 bytes/s of the memory: the
    # makers' data sheets. A longer name stands before the shorter one that it contains.
    "H200": (989.0, 494.0, 4800.0),
    "H100 PCIe": (756.0, 378.0, 2000.0),
    "H100 NVL": (835.0, 417.0, 3900.0),
    "H100": (989.0, 494.0, 3350.0),
    "A100-SXM4-80GB": (312.0, 156.0, 2039.0),
    "A100 80GB PCIe": (312.0, 156.0, 1935.0),
    "A100": (312.0, 156.0, 1555.0),
    "L40S": (362.0, 183.0, 864.0),
    "L4": (121.0, 60.0, 300.0),
    "A10G": (70.0, 35.0, 600.0),
    "Tesla T4": (65.0, 8.1, 320.0),
    "Tesla V100": (125.0, 15.7, 900.0),
}


@dataclass(frozen=True)
class Work:
    """Of one clip: floating point operations (a multiplication and an addition are 2), numbers that
    convolutions and the head read and write; and numbers of parameters."""

    forward_flops: float
    training_flops: float
    """Forward and backward."""
    forward_numbers: float
    training_numbers: float
    parameters: float


def count_work(name: str, num_classes: int, num_frames: int, crop_size: int) -> Work:
    """Count the work of a published model, by its name, on clips of this size.

    The memory traffic is the least that is possible with every other operation joined to a
    convolution: forward, each convolution reads its input and writes its output once; backward, it
    reads the output's gradient for the input's and again for the weights', reads the input, and
    writes the input's gradient. Weights are counted with the parameters, once a step.
    """
    published = network_defaults(name)
    with torch.device("meta"):
        network = plain_network(published, num_classes)
        slow, fast = (
            torch.empty(1, 3, frames, crop_size, crop_size)
            for frames in (num_frames // published.alpha, num_frames)
        )
    numbers = {"forward": 0, "backward": 0}

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        (taken,) = inputs
        numbers["forward"] += taken.numel() + output.numel()
        numbers["backward"] += 2 * output.numel() + taken.numel()
        numbers["backward"] += taken.numel() if taken.requires_grad else 0

    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            module.register_forward_hook(count)
    counter = FlopCounterMode(display=False)
    with counter:
        logits = network([slow, fast])
        forward = counter.get_total_flops()
        logits.sum().backward()
    return Work(
        forward_flops=forward,
        training_flops=counter.get_total_flops(),
        forward_numbers=numbers["forward"],
        training_numbers=numbers["forward"] + numbers["backward"],
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )


@dataclass(frozen=True)
class Roofline:
    """The least seconds of a step of B clips by arithmetic and by memory."""

    compute: float
    memory: float

    @property
    def slower(self) -> float:
        """What no step can be faster than."""
        return max(self.compute, self.memory)


@dataclass(frozen=True)
class Peak:
    """What a device does at most: ``tflops``, in 1e12 operations a second, and ``gbytes``, in 1e9
    bytes of its memory a second; ``source`` says where from."""

    tflops: float
    gbytes: float
    source: str

    def roofline(self, flops: float, moved: float) -> Roofline:
        """The least time for so many operations, and bytes that are read and written."""
        return Roofline(flops / (self.tflops * 1e12), moved / (self.gbytes * 1e9))


def training_roofline(
    work: Work, batch_size: int, precision: str, optimizer: OptimizerName, peak: Peak
) -> Roofline:
    """Of a step of ``batch_size`` clips: forward, backward, and the optimizer's update."""
    # In float32: gradients are written, and weights read in the forward and the backward pass; in
    # the update the gradient is read, the weight and what the optimizer keeps of it go both ways.
    passes = 3 + 3 + 2 * values_per_parameter(OptimizerConfig(optimizer))
    weights = 4 * work.parameters * passes
    moved = batch_size * DTYPES[precision].itemsize * work.training_numbers + weights
    return peak.roofline(batch_size * work.training_flops, moved)


def evaluation_roofline(work: Work, batch_size: int, precision: str, peak: Peak) -> Roofline:
    """Of scoring ``batch_size`` clips."""
    numbers = batch_size * DTYPES[precision].itemsize * work.forward_numbers
    return peak.roofline(batch_size * work.forward_flops, numbers + 4 * work.parameters)


@cache
def find_peak(
    device: torch.device, precision: str, tflops: float | None, gbytes: float | None
) -> Peak:
    """As given; else as known for the GPU; else measured on the device."""
    if tflops and gbytes:
        return Peak(tflops, gbytes, "as given")
    found = _known(device, precision) or _measured(device, precision)
    if tflops or gbytes:
        found = Peak(tflops or found.tflops, gbytes or found.gbytes, f"as given and {found.source}")
    return found


def _known(device: torch.device, precision: str) -> Peak | None:
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    for known, (half, single, gbytes) in GPUS.items():
        if re.search(rf"\b{known}\b", name):  # an L40 is no L4
            return Peak(single if precision == "no" else half, gbytes, f"data sheet of {known}")
    return None


def _measured(device: torch.device, precision: str) -> Peak:
    side = 8192 if device.type == "cuda" else 2048  # enough to be busy
    size = 1 << 28  # bytes: more than any cache holds
    a, b = (torch.randn(side, side, device=device).to(DTYPES[precision]) for _ in range(2))
    seconds = _median_seconds(lambda: a @ b)
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = _median_seconds(lambda: target.copy_(source))
    return Peak(
        2 * side**3 / seconds / 1e12,
        2 * size / copied / 1e9,
        f"measured: product of {side} x {side} matrices, copy of {size >> 20} MiB",
    )


def _median_seconds(work: Callable[[], object]) -> float:
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=1.0).median


# --- a model of the step of many GPUs: arithmetic with stated assumptions, not a measurement -----

BACKWARD_SHARE = 2 / 3
"""Share of a step's time that the backward pass takes, as it computes twice what the forward pass
does."""

HOP_SECONDS = 1e-5
"""Seconds that a message takes from one GPU to the next beside its bytes, on NVLink or
InfiniBand."""

BUCKET_BYTES = 25 * 2**20
"""Bytes of gradients that DistributedDataParallel sends together, by default."""


def all_reduce_seconds(
    gradient_bytes: float, processes: int, per_node: int, node_gbytes: float, network_gbytes: float
) -> float:
    """Of gradients over processes that fill nodes of ``per_node`` one after the other; the rates
    within a node and between nodes are in 1e9 bytes a second, of each process and each way.

    First within a node, where each process sends and gets (g-1)/g of the bytes to leave it with the
    sum of a g-th part, then that part in a ring over the m nodes, 2 (m-1)/m of it, then within the
    node again: NCCL's hierarchical ring (Patarasuk and Yuan, 2009, show that a ring moves the least
    bytes). Each bucket takes log2 of the processes in hops besides, both ways, as NCCL's trees do.
    """
    if processes == 1:
        return 0.0
    local = min(processes, per_node)
    nodes = -(-processes // per_node)
    inside = 2 * (local - 1) / local * gradient_bytes / (node_gbytes * 1e9)
    between = 2 * (nodes - 1) / nodes * gradient_bytes / local / (network_gbytes * 1e9)
    buckets = max(1.0, gradient_bytes / BUCKET_BYTES)
    return inside + between + buckets * 2 * log2(processes) * HOP_SECONDS


def exposed_seconds(
    compute: float, all_reduce: float, gradient_bytes: float, overlap: float
) -> float:
    """How many of the ``all_reduce`` seconds of its gradients a step waits for, which takes
    ``compute`` seconds by itself.

    They hide behind ``overlap`` of the backward pass, but for the last bucket, which is whole only
    when that ends; the step waits for the rest.
    """
    last = all_reduce * min(1.0, BUCKET_BYTES / gradient_bytes)
    return max(last, all_reduce - overlap * BACKWARD_SHARE * compute)
