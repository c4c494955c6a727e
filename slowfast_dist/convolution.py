"""Convolution with bias, sum and ReLU: on CPUs in one pass over the output, with gradients.

Elementwise layers wait for memory, not for arithmetic. oneDNN adds, and cuts at 0, what it has in
registers; torch.compile does the same with what it sees here; else they are done in place.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from slowfast_dist.convolution_gradients import ONE, Gradients, fp32_gradients

aten, mkldnn = torch.ops.aten, torch.ops.mkldnn


@cache
def fused_types() -> frozenset[torch.dtype]:
    """What this CPU's convolutions compute in, fused; none where oneDNN's are not x86's."""
    if not (torch.backends.mkldnn.is_available() and hasattr(mkldnn, "_convolution_pointwise")):
        return frozenset()
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return frozenset()
    bf16 = mkldnn._is_mkldnn_bf16_supported()
    return frozenset({torch.float32, torch.bfloat16} if bf16 else {torch.float32})


def compute_type(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """What a convolution of ``dtype`` computes in: autocast's type where that is on."""
    kind = device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else dtype


def is_fused(x: Tensor) -> bool:
    """Whether `convolve` takes the fused kernels for ``x``; a graph that is traced has torch's.

    They fail with tensors whose memory could be in either layout, as of 1 x 1 x 1 points, and in
    bf16 with contiguous ones (torch 2.11 and 2.13).
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not x.numel():
        return False
    dtype, layout = compute_type(x.dtype, x.device), _layout(x)
    return bool(
        dtype in fused_types()
        and torch.backends.mkldnn.enabled
        and layout is not None
        and (dtype == torch.float32 or layout == torch.channels_last_3d)
    )


def _layout(x: Tensor) -> torch.memory_format | None:
    """The one layout that ``x`` (B, C, T, H, W) has in memory; None where it could be another."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last_3d)
    if channels_last == x.is_contiguous():
        return None
    return torch.channels_last_3d if channels_last else torch.contiguous_format


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    *,
    relu: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    """relu(conv3d(x, weight, bias) + residual), in autocast's type where that is on.

    ``x`` (B, C, T, H, W), ``weight`` (D, C, t, h, w), ``residual`` as the result.
    """
    layout = _layout(x)
    if layout is not None and is_fused(x):
        dtype = compute_type(x.dtype, x.device)
        bias = None if bias is None else bias.to(dtype)
        if residual is not None:
            residual = residual.to(dtype).contiguous(memory_format=layout)
        geometry = tuple(stride), tuple(padding)
        return _FusedConvolution.apply(
            x.to(dtype), weight.to(dtype), bias, residual, relu, *geometry
        )
    y = F.conv3d(x, weight, bias, tuple(stride), tuple(padding))
    return add_and_cut(y, residual, relu)


def add_and_cut(y: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """relu(y + residual) in place of ``y``, which no backward pass needs: it is a convolution's or
    a BatchNorm's."""
    if residual is not None:
        y = y.add_(residual)
    return F.relu_(y) if relu else y


class _FusedConvolution(torch.autograd.Function):
    """Kept for the backward pass are ``x``, the weights and, with ReLU, the result; often ``x`` is
    the result of the one before."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        residual: Tensor | None,
        relu: bool,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
    ) -> Tensor:
        geometry = padding, stride, ONE, 1
        after = "relu" if relu else None
        if residual is None:
            y = mkldnn._convolution_pointwise(
                x, weight, bias, *geometry, after or "none", [], ""
            )
        else:
            y = mkldnn._convolution_pointwise.binary(
                x, residual, weight, bias, *geometry, "add", 1.0, after, [], ""
            )
        ctx.save_for_backward(x, weight, y if relu else None)
        ctx.geometry = stride, padding
        ctx.bias_sizes = None if bias is None else [weight.shape[0]]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        stride, padding = ctx.geometry
        if y is not None:
            grad = aten.threshold_backward(grad, y, 0)
        needed = ctx.needs_input_grad
        if x.dtype == torch.float32 and _layout(x) == torch.channels_last_3d:
            gradients: Gradients = fp32_gradients(grad, x, weight, stride, padding, needed[:3])
        else:
            gradients = aten.convolution_backward(
                grad, x, weight, ctx.bias_sizes, stride, padding, ONE, False, [0, 0, 0], 1,
                list(needed[:3]),
            )  # fmt: skip
        return *gradients, grad if needed[3] else None, None, None, None
