"""A model of what gradients cost that travel between processes, and of the step of many GPUs.

It is arithmetic with stated assumptions, not a measurement.
"""

from dataclasses import dataclass
from math import log2

BACKWARD_SHARE = 2 / 3
"""Of a step's time: the backward pass computes twice what the forward pass does."""

HOP_SECONDS = 1e-5
"""That a message takes beside its bytes, from one GPU to the next, on NVLink or InfiniBand."""

BUCKET_BYTES = 25 * 2**20
"""Of gradients that DistributedDataParallel sends together, by default."""


@dataclass(frozen=True)
class Links:
    """What connects the processes: rates in 1e9 bytes a second, of each process and each way."""

    per_node: int
    """Processes of a node."""
    node_gbytes: float
    network_gbytes: float


@dataclass(frozen=True)
class ModelledStep:
    """Of one step: seconds of the all-reduce, and how many of them the step waits for."""

    all_reduce: float
    exposed: float
    compute: float

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.compute + self.exposed

    @property
    def efficiency(self) -> float:
        """Speed of a process, as a share of its speed alone."""
        return self.compute / self.seconds


def all_reduce_seconds(gradient_bytes: float, processes: int, links: Links) -> float:
    """Of gradients over processes that fill their nodes one after the other.

    First within a node, where each process sends and gets (g-1)/g of the bytes to leave it with the
    sum of a g-th part, then that part in a ring over the m nodes, 2 (m-1)/m of it, then within the
    node again: NCCL's hierarchical ring (Patarasuk and Yuan, 2009, show that a ring moves the least
    bytes). Each bucket takes log2 of the processes in hops besides, both ways, as NCCL's trees do.
    """
    if processes == 1:
        return 0.0
    local = min(processes, links.per_node)
    nodes = -(-processes // links.per_node)
    inside = 2 * (local - 1) / local * gradient_bytes / (links.node_gbytes * 1e9)
    between = 2 * (nodes - 1) / nodes * gradient_bytes / local / (links.network_gbytes * 1e9)
    buckets = max(1.0, gradient_bytes / BUCKET_BYTES)
    return inside + between + buckets * 2 * log2(processes) * HOP_SECONDS


def model_step(
    compute: float, all_reduce: float, gradient_bytes: float, overlap: float
) -> ModelledStep:
    """A step of ``compute`` seconds by itself, whose gradients take ``all_reduce`` seconds.

    They hide behind ``overlap`` of the backward pass, but for the last bucket, which is whole only
    when that ends; the step waits for the rest.
    """
    last = all_reduce * min(1.0, BUCKET_BYTES / gradient_bytes)
    exposed = max(last, all_reduce - overlap * BACKWARD_SHARE * compute)
    return ModelledStep(all_reduce, exposed, compute)
