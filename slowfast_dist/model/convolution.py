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

aten, mkldnn = torch.ops.aten, torch.ops.mkldnn


@cache
def fused_dtypes() -> frozenset[torch.dtype]:
    """What this CPU's convolutions compute in, fused; none where oneDNN's are not x86's."""
    if not (torch.backends.mkldnn.is_available() and hasattr(mkldnn, "_convolution_pointwise")):
        return frozenset()
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return frozenset()
    bf16 = mkldnn._is_mkldnn_bf16_supported()
    return frozenset({torch.float32, torch.bfloat16} if bf16 else {torch.float32})


def compute_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
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
    dtype, layout = compute_dtype(x.dtype, x.device), _layout(x)
    return bool(
        dtype in fused_dtypes()
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
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    *, relu: bool = False, residual: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """relu(conv3d(x, weight, bias) + residual), in autocast's type where that is on. ``x`` (B, C,
    T, H, W), ``weight`` (D, C, t, h, w), ``residual`` as the result."""
    x, padding = pad_short(x, weight.shape[2:], padding)
    layout = _layout(x)
    if layout is not None and is_fused(x):
        dtype = compute_dtype(x.dtype, x.device)
        bias = None if bias is None else bias.to(dtype)
        if residual is not None:
            residual = residual.to(dtype).contiguous(memory_format=layout)
        return _FusedConvolution.apply(
            x.to(dtype), weight.to(dtype), bias, residual, relu, tuple(stride), tuple(padding)
        )
    y = F.conv3d(x, weight, bias, tuple(stride), tuple(padding))
    return add_relu(y, residual, relu)


def pad_short(
    x: Tensor, kernel: Sequence[int], padding: Sequence[int]
) -> tuple[Tensor, tuple[int, ...]]:
    """``x`` (B, C, T, H, W) with zeros around, and the padding that is left for the convolution.

    Only dimensions shorter than the kernel are padded. On CPUs with AVX512-bf16 and without AMX
    (AMD EPYC; torch 2.13 with its oneDNN) the gradient of the weights is otherwise computed from
    memory that nobody wrote, silently: of 3 frames in time that is every clip whose slow pathway
    has two frames, as ``--data.num-frames 8`` gives.
    """
    if (
        x.device.type != "cpu"
        or compute_dtype(x.dtype, x.device) != torch.bfloat16
        or not torch.is_grad_enabled()
        or torch.compiler.is_compiling()
    ):
        return x, tuple(padding)
    short = [
        around if around and size < width else 0
        for size, width, around in zip(x.shape[2:], kernel, padding, strict=True)
    ]
    if not any(short):
        return x, tuple(padding)
    t, h, w = short
    rest = tuple(around - done for around, done in zip(padding, short, strict=True))
    return F.pad(x, (w, w, h, h, t, t)), rest


def add_relu(y: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
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
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None,
        relu: bool, stride: tuple[int, ...], padding: tuple[int, ...],
    ) -> Tensor:  # fmt: skip
        geometry = padding, stride, ONE, 1
        after = "relu" if relu else None
        if residual is None:
            y = mkldnn._convolution_pointwise(x, weight, bias, *geometry, after or "none", [], "")
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


# Gradients of convolutions in float32 on CPUs, as matrix products where those are faster.
#
# Activations with the channels last are matrices as they lie in memory, and what a kernel of one
# pixel does is a product of such matrices. For the gradients of its weights oneDNN takes longer,
# most where the pixels are every second one: 320 -> 512 channels of slowfast_r50 (2 clips, CPU ms
# on 2 threads) 525 with AVX2 and 94 with AVX512, the product 67 and 47. And on one thread torch
# takes a convolution of its own for such kernels, which copies everything into the contiguous
# layout.

Size = Sequence[int]
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]

ONE = (1, 1, 1)
MIN_MATMUL_CHANNELS = 128
"""Channels, in and out, from which on matrix products of several frames are faster: 1024 -> 256 of
3 frames 63 ms in place of 88, but 128 -> 32 are 21 in place of 8 (AVX512)."""


def fp32_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Size, padding: Size, needed: Sequence[bool]
) -> Gradients:
    """Of ``x`` (B, C, T, H, W), ``weight`` (D, C, t, h, w) and the bias (D,), as ``needed``.
    ``grad`` is the gradient of the result (B, D, T', H', W'). Layouts are channels last."""
    of_x, of_weight, of_bias = needed
    grad = grad.contiguous(memory_format=torch.channels_last_3d)
    size = tuple(weight.shape)
    one_product = of_x and size[2:] == ONE and tuple(stride) == ONE and not any(padding)
    products = of_weight and matmul_is_faster(size, stride, padding)
    by_sum = of_bias and (products or not of_weight)
    others = [of_x and not one_product, of_weight and not products, of_bias and not by_sum]
    x_grad = weight_grad = bias_grad = None
    if any(others):
        x_grad, weight_grad, bias_grad = aten.convolution_backward(
            grad, x, weight, [size[0]], stride, padding, ONE, False, [0, 0, 0], 1, others
        )
    if one_product:
        x_grad = (channels_last_view(grad) @ weight.reshape(size[:2])).permute(0, 4, 1, 2, 3)
    if products:
        pixels, grads = channels_last_view(x), channels_last_view(grad)
        if size[3] == size[4] == 1:
            weight_grad = _pointwise_weight_gradient(pixels, grads, size, stride, padding[0])
        else:
            weight_grad = _stem_weight_gradient(pixels, grads, size)
    if by_sum:
        bias_grad = grad.sum((0, 2, 3, 4))
    return x_grad, weight_grad, bias_grad


def matmul_is_faster(size: Size, stride: Size, padding: Size) -> bool:
    """Whether matrix products give the gradient of weights of ``size`` (D, C, t, h, w) faster.

    They can for kernels of one pixel, and for stems of stride 1 whose t, odd, covers as many frames
    after a frame as before it, without a padding of pixels.
    """
    d, c, t, h, w = size
    if h == w == 1:
        return not any(padding[1:]) and (t == 1 or min(c, d) >= MIN_MATMUL_CHANNELS)
    # The fast stem, 2 clips: with AVX2 .6 s in place of 1.3, with AVX512 .4 in place of .3.
    stem = t > 1 and max(c, d) <= 16 and tuple(stride) == ONE and tuple(padding) == (t // 2, 0, 0)
    return stem and t % 2 == 1 and torch.backends.cpu.get_cpu_capability() == "AVX2"


def channels_last_view(x: Tensor) -> Tensor:
    """(B, C, T, H, W), channels last -> (B, T, H, W, C), contiguous."""
    return x.permute(0, 2, 3, 4, 1)


def _pointwise_weight_gradient(
    x: Tensor, grad: Tensor, size: Size, stride: Size, padding: int
) -> Tensor:
    """A product for each of the t frames that a kernel of one pixel covers. ``x`` (B, T, H, W, C),
    ``grad`` (B, T', H', W', D) -> (D, C, t, h, w), here as below."""
    d, c, t, _, _ = size
    x = x[:, :, :: stride[1], :: stride[2]]
    if padding:
        x = F.pad(x, (0, 0, 0, 0, 0, 0, padding, padding))
    last = (grad.shape[1] - 1) * stride[0] + 1
    rows = grad.reshape(-1, d).t()
    taps = [rows @ x[:, tap : tap + last : stride[0]].reshape(-1, c) for tap in range(t)]
    return torch.stack(taps, 2).view(*size)


def _stem_weight_gradient(x: Tensor, grad: Tensor, size: Size) -> Tensor:
    """h products for each frame: its pixels, w beside each other as one row, with the gradients of
    the t frames that see it. oneDNN has no fast way to few channels without AVX512."""
    d, c, t, h, w = size
    clips, frames, height, width = grad.shape[:4]
    around = F.pad(grad, (0, 0, 0, 0, 0, 0, t // 2, t // 2))
    total = grad.new_zeros(h, t * d, w * c)
    for clip in range(clips):
        for frame in range(frames):
            beside = x[clip, frame].unfold(1, w, 1).transpose(2, 3).reshape(-1, w * c)
            seen = around[clip, frame : frame + t].permute(0, 3, 1, 2).reshape(t * d, -1)
            for row in range(h):
                total[row].addmm_(seen, beside[row * width : (row + height) * width])
    # The first frame that sees one sees it with its last tap.
    return total.view(h, t, d, w, c).flip(1).permute(2, 4, 1, 0, 3)
