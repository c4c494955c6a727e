"""BatchNorm whose statistics stand still, folded into the convolution before it.

With constant mean and variance BatchNorm is a scale and a shift of each channel, and so another
convolution: ``norm(conv(x)) = conv(x; s w) + b`` with ``s = scale / sqrt(variance + eps)`` and
``b = shift - mean s``. Scale and shift still train: their gradients pass through the few numbers s
and b in place of whole activations, of which BatchNorm would keep one more for the backward pass.
"""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast_dist.model.convolution import compute_dtype

Network = TypeVar("Network", bound=nn.Module)


def is_constant(norm: nn.Module | None) -> bool:
    """Whether ``norm`` is nothing, or a BatchNorm that normalises by its running statistics."""
    return norm is None or (
        isinstance(norm, _BatchNorm) and not norm.training and norm.running_mean is not None
    )


def fold(conv: nn.Conv3d, norm: _BatchNorm | None) -> tuple[Tensor, Tensor | None]:
    """Weight (D, C, t, h, w) and bias (D,) of the one convolution; ``norm`` must be constant."""
    if norm is None:
        return conv.weight, conv.bias
    assert norm.running_mean is not None and norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = norm.weight * scale
    shift = (0 if conv.bias is None else conv.bias) - norm.running_mean
    shift = shift * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    weight = conv.weight
    if weight.is_cpu and weight.requires_grad and not torch.compiler.is_compiling():
        return _Scaled.apply(weight, scale, compute_dtype(weight.dtype, weight.device)), shift
    return weight * scale.view(-1, 1, 1, 1, 1), shift


class _Scaled(torch.autograd.Function):
    """Weights (D, C, t, h, w) times ``scale`` (D,), in ``dtype``: its backward pass goes over the
    weights, which of late layers are more than the activations, half as often as autograd's."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(weight, scale)
        return (weight * scale.view(-1, 1, 1, 1, 1)).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weight, scale = ctx.saved_tensors
        last = weight.is_contiguous(memory_format=torch.channels_last_3d)
        layout = torch.channels_last_3d if last else torch.contiguous_format
        ours = grad.to(weight.dtype, memory_format=layout)
        weight_grad = scale_grad = None
        if ctx.needs_input_grad[1]:
            rows = [
                (t.permute(0, 2, 3, 4, 1) if last else t).flatten(1) for t in (ours, weight)
            ]
            scale_grad = torch.linalg.vecdot(*rows)
        if ctx.needs_input_grad[0]:
            factor = scale.view(-1, 1, 1, 1, 1)
            weight_grad = ours * factor if ours.data_ptr() == grad.data_ptr() else ours.mul_(factor)
        return weight_grad, scale_grad, None


CONV_NORM_PAIRS = {
    "conv": "norm", "conv_fast_to_slow": "norm", "conv_a": "norm_a", "conv_b": "norm_b",
    "conv_c": "norm_c", "branch1_conv": "branch1_norm",
}  # fmt: skip
"""Convolution and BatchNorm in pytorchvideo's modules, by the names of their attributes."""


@torch.no_grad()
def folded(network: Network) -> Network:
    """A copy for inference in which no BatchNorm is left: folded once, not in each forward pass.

    ``network`` stays as it is, and what is not a folded convolution is shared with it: scores are
    those of the weights at the time of the call. Called under autocast, the convolutions' weights
    are converted once as well, and the copy must be called under it too. In evaluation mode
    whatever the mode before; not compiled.
    """
    shared = {id(t): t for t in (*network.parameters(), *network.buffers())}
    result = copy.deepcopy(network, shared).eval()
    for module in result.modules():
        for conv_name, norm_name in CONV_NORM_PAIRS.items():
            conv = getattr(module, conv_name, None)
            if not isinstance(conv, nn.Conv3d):
                continue
            weight, bias = fold(conv, getattr(module, norm_name))
            weight = weight.to(compute_dtype(weight.dtype, weight.device))
            conv.weight = nn.Parameter(weight, requires_grad=False)
            conv.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
            setattr(module, norm_name, None)
    return result
