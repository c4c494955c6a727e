"""One forward and backward before training: does the gradient arrive? It changes nothing.

And is the network well? The kernels of a training step may turn NaN into numbers, so its tensors
are looked at, and one clip goes through the modules as eager torch computes them.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slowfast_dist.config.errors import UserError
from slowfast_dist.model.finite import describe_broken
from slowfast_dist.model.inputs import pathways
from slowfast_dist.model.slowfast import SlowFast, head_parameters, live_batchnorms, slowfast

Autocast = Callable[[], AbstractContextManager[object]]


def check_gradients(
    model: nn.Module, frames: Tensor, labels: Tensor, autocast: Autocast
) -> tuple[float, float]:
    """Forward ``frames`` uint8 (B, T, 3, H, W) and backward from ``labels`` int64 (B,), or bool
    (B, K) of several a clip; returns the cross-entropy and the norm of the head's gradient.

    Weights, gradients, BatchNorm statistics, modes and random states are afterwards what they
    were, bit for bit. No collective: one process may call it alone. Compiles nothing.
    Raises UserError where a tensor of the network or its output is not finite, and where the head's
    gradient is missing, zero or not finite.
    """
    net = slowfast(model)
    if broken := describe_broken(net.state_dict()):
        raise UserError(
            f"sanity check: {broken}, so that the network's answers mean nothing: give other "
            "--model.weights"
        )
    if not eager_logits(net, frames[:1], autocast).isfinite().all():
        raise UserError(
            "sanity check: the network's output for the first clip is not finite, though its "
            "weights are: they are too large to compute with. Give other --model.weights, or try "
            "--mixed-precision no"
        )
    named = {name: p for name, p in net.named_parameters() if p.requires_grad}
    loss, grads = gradients(net, list(named.values()), frames, labels, autocast)
    head = {id(parameter) for parameter in head_parameters(net)}
    of_head = {
        name: grad
        for (name, parameter), grad in zip(named.items(), grads, strict=True)
        if id(parameter) in head
    }
    if faults := [
        f"{name} is {fault}" for name, grad in of_head.items() if (fault := _fault(grad))
    ]:
        raise UserError(
            f"sanity check: the gradient of {' and '.join(faults)} in the first micro-batch (loss "
            f"{loss.item():g}), so the head would learn nothing: check that --model.weights "
            "holds finite numbers, or try --mixed-precision no"
        )
    norms = [grad.norm() for grad in of_head.values() if grad is not None]
    return loss.item(), torch.stack(norms).norm().item()


def gradients(
    net: SlowFast, parameters: list[nn.Parameter], frames: Tensor, labels: Tensor,
    autocast: Autocast,
) -> tuple[Tensor, tuple[Tensor | None, ...]]:  # fmt: skip
    """The loss of a micro-batch as in `check_gradients`, and the gradients of ``parameters``.

    It takes the memory of a training step, and it too leaves no trace, waits for no other process
    and compiles nothing.
    """
    cuda = [frames.device] if frames.is_cuda else []
    with torch.random.fork_rng(cuda), _training_mode(net), torch.enable_grad():
        with autocast():
            # forward, not __call__: past torch.compile, which would compile this mode as well.
            logits = net.forward(frames).float()
        several = labels.dtype == torch.bool
        loss = (
            F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
            if several
            else F.cross_entropy(logits, labels)
        )
        # Unlike backward() it leaves .grad alone, and DistributedDataParallel's hooks out of it.
        return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)


def eager_logits(net: SlowFast, frames: Tensor, autocast: Autocast) -> Tensor:
    """The logits of a clip by pytorchvideo's own modules, in training mode, without a trace."""
    cuda = [frames.device] if frames.is_cuda else []
    with torch.random.fork_rng(cuda), _training_mode(net), torch.no_grad(), autocast():
        x: Any = pathways(frames, net.description)
        for block in net.blocks:
            x = block(x)
        return x


@contextmanager
def _training_mode(net: SlowFast) -> Iterator[None]:
    """Training mode in which no BatchNorm touches its statistics or talks to other processes.

    A BatchNorm without running statistics normalises by those of its batch also in evaluation
    mode, and there SyncBatchNorm does not synchronise.
    """
    modes = [(module, module.training) for module in net.modules()]
    layers = list(live_batchnorms(net))
    buffers = [(layer.running_mean, layer.running_var) for layer in layers]
    try:
        net.train()
        for layer in layers:
            layer.eval()
            layer.running_mean = layer.running_var = None
        yield
    finally:
        for layer, (mean, var) in zip(layers, buffers, strict=True):
            layer.running_mean, layer.running_var = mean, var
        for module, training in modes:
            module.training = training


def _fault(grad: Tensor | None) -> str | None:
    if grad is None:
        return "missing"
    if not grad.isfinite().all():
        return "not finite"
    return None if grad.any() else "zero"
