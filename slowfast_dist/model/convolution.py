"""Convolution with bias, sum and ReLU: on CPUs in one pass over the output, with gradients.

Elementwise layers wait for memory, not for arithmetic. oneDNN adds, and cuts at 0, what it has in
registers; torch.compile does the same with what it sees here; else they are done in place.
"""

from collections.abc import Sequence
from functools import cache
from itertools import chain
from math import prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from slowfast_dist.model.gradients import ONE, convolution_gradients

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
    layout = _layout(x)
    return bool(
        x.numel()
        and are_fused(x.device, x.dtype)
        and layout is not None
        and (
            layout == torch.channels_last_3d
            or compute_dtype(x.dtype, x.device) == torch.float32
        )
    )


def are_fused(device: torch.device, dtype: torch.dtype = torch.float32) -> bool:
    """Whether `convolve` takes the fused kernels for activations of ``dtype`` whose layout suits
    them; in autocast's type where that is on."""
    if device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return compute_dtype(dtype, device) in fused_dtypes() and bool(torch.backends.mkldnn.enabled)


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
        y = _fused_forward(x, weight, bias, stride, padding, relu, residual)
        ctx.save_for_backward(x, weight, y if relu else None)
        ctx.geometry = stride, padding
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        if y is not None:
            grad = aten.threshold_backward(grad, y, 0)
        needed = ctx.needs_input_grad
        stride, padding = ctx.geometry
        gradients = convolution_gradients(grad, x, weight, stride, padding, needed[:3])
        return *gradients, grad if needed[3] else None, None, None, None


def _fused_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    relu: bool, residual: Tensor | None = None, in_place: bool = False,
) -> Tensor:  # fmt: skip
    """``in_place``: the result takes the memory of ``residual``."""
    geometry = padding, stride, ONE, 1
    after = "relu" if relu else None
    if residual is None:
        return mkldnn._convolution_pointwise(x, weight, bias, *geometry, after or "none", [], "")
    added: tuple[Any, ...] = ("add", 1.0, after, [], "")
    if in_place:
        return mkldnn._convolution_pointwise_.binary(residual, x, weight, bias, *geometry, *added)
    return mkldnn._convolution_pointwise.binary(x, residual, weight, bias, *geometry, *added)


class Layer(NamedTuple):
    """A convolution with what is folded into it."""

    weight: Tensor
    """(D, C, t, h, w)."""
    bias: Tensor | None
    """(D,)."""
    stride: tuple[int, ...]
    padding: tuple[int, ...]


def fits_bottleneck(x: Tensor, convs: Sequence[nn.Conv3d]) -> bool:
    """Whether `bottleneck` takes ``x`` (B, C, T, H, W) for ``convs``: not where `is_fused` or
    `pad_short` would treat one of them in another way."""
    if not is_fused(x) or _layout(x) != torch.channels_last_3d:
        return False
    points = 1
    for size, *steps in zip(x.shape[2:], *(conv.stride for conv in convs[:3]), strict=True):
        points *= size // prod(steps)
    sizes = [zip(x.shape[2:], conv.kernel_size, strict=True) for conv in convs]
    is_long = all(size >= width for size, width in chain(*sizes))
    padded = not is_long and compute_dtype(x.dtype, x.device) == torch.bfloat16
    return not padded and points > 1 and all(conv.out_channels > 1 for conv in convs)


def bottleneck(x: Tensor, layers: Sequence[Layer], in_place: bool = False) -> Tensor:
    """relu(c(relu(b(relu(a(x))))) + d(x)) of ``layers`` a, b, c and d, or of a, b and c, with ``x``
    itself in place of d(x); in autocast's type where that is on. ``x``: see `fits_bottleneck`.

    As one function it owns the gradients between its layers: ReLU cuts them, and the sums are made,
    in place, where autograd would take fresh memory, for which a step waited as long as for the
    arithmetic.
    """
    dtype = compute_dtype(x.dtype, x.device)
    x = x.to(dtype)
    tensors: list[Tensor | None] = []
    geometry = []
    for layer in layers:
        tensors += [layer.weight.to(dtype), None if layer.bias is None else layer.bias.to(dtype)]
        geometry.append((layer.stride, layer.padding))
    trains = any(t is not None and t.requires_grad for t in (x, *tensors))
    if torch.is_grad_enabled() and trains:
        y: Tensor = _FusedBottleneck.apply(geometry, x, *tensors)
        return y
    return _bottleneck_forward(geometry, x, *tensors, in_place=in_place)[2]


Geometry = Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
"""Stride and padding of each layer."""


def _bottleneck_forward(
    geometry: Geometry, x: Tensor, *tensors: Tensor | None, keep: bool = False,
    in_place: bool = False,
) -> tuple[Tensor | None, Tensor | None, Tensor]:  # fmt: skip
    """The results of the three layers, the first two if they are to be kept."""

    def layer(number: int, x: Tensor, **after: Any) -> Tensor:
        weight, bias = tensors[2 * number], tensors[2 * number + 1]
        assert weight is not None
        return _fused_forward(x, weight, bias, *geometry[number], **after)

    a = layer(0, x, relu=True)
    b = layer(1, a, relu=True)
    kept = (a, b) if keep else (None, None)
    del a  # which makes room for the shortcut
    own = len(geometry) == 4
    shortcut = layer(3, x, relu=False) if own else x
    return *kept, layer(2, b, relu=True, residual=shortcut, in_place=own or in_place)


class _FusedBottleneck(torch.autograd.Function):
    """Kept for the backward pass are ``x``, the results of the three layers, and the weights."""

    @staticmethod
    def forward(
        ctx: Any, geometry: Geometry, x: Tensor, *tensors: Tensor | None
    ) -> Tensor:
        a, b, y = _bottleneck_forward(geometry, x, *tensors, keep=True)
        ctx.save_for_backward(x, a, b, y, *tensors[::2])
        ctx.geometry = geometry
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, a, b, y, *weights = ctx.saved_tensors
        of_x, of_tensors = ctx.needs_input_grad[1], ctx.needs_input_grad[2:]
        inner = of_x or any(of_tensors[:2])
        found: list[Tensor | None] = [None] * len(of_tensors)

        def gradients(
            layer: int, grad: Tensor, x: Tensor, of_x: bool, total: Tensor | None = None
        ) -> Tensor | None:
            stride, padding = ctx.geometry[layer]
            needed = of_x, *of_tensors[2 * layer : 2 * layer + 2]
            x_grad, *found[2 * layer : 2 * layer + 2] = convolution_gradients(
                grad, x, weights[layer], stride, padding, needed, total
            )
            return x_grad

        grad = _cut(grad, y, torch.empty_like(y))
        x_grad: Tensor | None = grad  # of the shortcut; what is left of grad's uses comes before
        of_b = gradients(2, grad, b, inner or any(of_tensors[2:4]))
        own = len(weights) == 4
        # One that steps over pixels adds to the gradient of those that it sees, at the end.
        strided = own and ctx.geometry[3][0] != ONE
        if own:
            x_grad = None if strided else gradients(3, grad, x, of_x)
        if not strided:
            del grad
        if of_b is not None:
            of_a = gradients(1, _cut(of_b, b, of_b), a, inner)
            del of_b
            if of_a is not None:
                x_grad = gradients(0, _cut(of_a, a, of_a), x, of_x, x_grad)
                del of_a
        if strided:
            x_grad = gradients(3, grad, x, of_x, x_grad)
        return None, x_grad if of_x else None, *found


def _cut(grad: Tensor, y: Tensor, out: Tensor) -> Tensor:
    """``grad`` where ReLU's result ``y`` is not 0, else 0; in ``out``, which may be ``grad``."""
    return aten.threshold_backward.grad_input(grad, y, 0, grad_input=out)
