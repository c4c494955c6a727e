"""Running statistics of local BatchNorm that do not depend on the number of processes.

BatchNorm's running mean and variance are an exponential average over micro-batches in order:
``r <- (1 - m) r + m x``. The average is linear in the x, so each process can keep only the part
that its own micro-batches contribute, decayed for those that other processes forwarded, and the
sum over processes is what one process would have had after forwarding all of them in order.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class RunningStatistics:
    """The running statistics of ``layers``, BatchNorms that see only their process's batches.

    From construction on the buffers of a process hold its part alone, the first process's with
    what was there before. With one process that is simply the whole.
    """

    def __init__(self, layers: list[_BatchNorm], rank: int, world_size: int) -> None:
        assert all(layer.momentum is not None for layer in layers)
        assert len({layer.momentum for layer in layers}) <= 1
        self.layers = layers
        self.world_size = world_size
        self.momentum: float = layers[0].momentum or 0.0 if layers else 0.0
        self.tracked = int(_counter(layers[0])) if layers else 0
        self.batches = 0  # micro-batches over all processes
        self.decayed = 0  # those that the buffers are decayed for
        if rank > 0 and layers:
            torch._foreach_zero_(self._buffers())

    def _buffers(self) -> list[Tensor]:
        pairs = [(layer.running_mean, layer.running_var) for layer in self.layers]
        return [buffer for pair in pairs for buffer in pair if buffer is not None]

    def before_own(self, micro_batch: int) -> None:
        """Call before forwarding number ``micro_batch`` of the next step's micro-batches."""
        number = self.batches + micro_batch
        if number > self.decayed and self.layers:
            torch._foreach_mul_(self._buffers(), (1 - self.momentum) ** (number - self.decayed))
        self.decayed = number + 1

    def after_step(self, micro_batches: int) -> None:
        """Call after a step of ``micro_batches`` over all processes."""
        self.batches += micro_batches

    def unchanged(self) -> AbstractContextManager[None]:
        """Forward in training mode without touching the statistics (for repeats of weight 0)."""
        return _unchanged(self.layers)

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Collective. In here every process's buffers are the whole; then its part again."""
        if self.world_size == 1 or not self.layers:
            yield
            return
        own = self.part()
        whole = own * (1 - self.momentum) ** (self.batches - self.decayed)
        dist.all_reduce(whole)
        counts = [_counter(layer).clone() for layer in self.layers]
        self._fill(whole)
        for layer in self.layers:
            _counter(layer).fill_(self.tracked + self.batches)
        try:
            yield
        finally:
            self._fill(own)
            for layer, count in zip(self.layers, counts, strict=True):
                _counter(layer).copy_(count)

    def part(self) -> Tensor:
        """This process's buffers as one vector, float32 (n,), for a checkpoint."""
        buffers = [buffer.flatten() for buffer in self._buffers()]
        return torch.cat(buffers) if buffers else torch.empty(0)

    def restore(self, part: Tensor, tracked: int, batches: int, decayed: int) -> None:
        """Go on from what a checkpoint of the same number of processes held."""
        self._fill(part)
        self.tracked, self.batches, self.decayed = tracked, batches, decayed

    def _fill(self, flat: Tensor) -> None:
        buffers = self._buffers()
        parts = flat.split([buffer.numel() for buffer in buffers]) if buffers else ()
        for buffer, values in zip(buffers, parts, strict=True):
            buffer.copy_(values.view_as(buffer))


def recomputing(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts for torch.utils.checkpoint: the second forward pass of ``block`` counts no batch."""
    layers = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training]
    return nullcontext(), _unchanged(layers)


@contextmanager
def _unchanged(layers: list[_BatchNorm]) -> Iterator[None]:
    before = [(_counter(layer).clone(), layer.momentum) for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, (count, momentum) in zip(layers, before, strict=True):
            layer.momentum = momentum
            _counter(layer).copy_(count)


def _counter(layer: _BatchNorm) -> Tensor:
    assert layer.num_batches_tracked is not None
    return layer.num_batches_tracked
