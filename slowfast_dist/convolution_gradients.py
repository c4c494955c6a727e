"""Gradients of convolutions in float32 on CPUs, as matrix products where those are faster.

Activations with the channels last are matrices as they lie in memory, and what a kernel of one
pixel does is a product of such matrices. For the gradients of its weights oneDNN takes longer, most
where the pixels are every second one: 320 -> 512 channels of slowfast_r50 (2 clips, CPU ms on 2
threads) 525 with AVX2 and 94 with AVX512, the product 67 and 47. And on one thread torch takes a
convolution of its own for such kernels, which copies everything into the contiguous layout.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Size = Sequence[int]
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]

ONE = (1, 1, 1)
WIDE = 128
"""Channels, in and out, from which on products of several frames are faster: 1024 -> 256 of 3
frames 63 ms in place of 88, but 128 -> 32 are 21 in place of 8 (AVX512)."""


def fp32_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Size, padding: Size, needed: Sequence[bool]
) -> Gradients:
    """Of ``x`` (B, C, T, H, W), ``weight`` (D, C, t, h, w) and the bias (D,), as ``needed``.

    ``grad`` is the gradient of the result (B, D, T', H', W'). Layouts are channels last.
    """
    of_x, of_weight, of_bias = needed
    grad = grad.contiguous(memory_format=torch.channels_last_3d)
    size = tuple(weight.shape)
    one_product = of_x and size[2:] == ONE and tuple(stride) == ONE and not any(padding)
    products = of_weight and products_pay(size, stride, padding)
    by_sum = of_bias and (products or not of_weight)
    others = [of_x and not one_product, of_weight and not products, of_bias and not by_sum]
    x_grad = weight_grad = bias_grad = None
    if any(others):
        x_grad, weight_grad, bias_grad = torch.ops.aten.convolution_backward(
            grad, x, weight, [size[0]], stride, padding, ONE, False, [0, 0, 0], 1, others
        )
    if one_product:
        x_grad = (pixels_of(grad) @ weight.reshape(size[:2])).permute(0, 4, 1, 2, 3)
    if products:
        weight_grad = weight_gradient(x, grad, size, stride, padding)
    if by_sum:
        bias_grad = grad.sum((0, 2, 3, 4))
    return x_grad, weight_grad, bias_grad


def products_pay(size: Size, stride: Size, padding: Size) -> bool:
    """Whether `weight_gradient` does weights of ``size`` (D, C, t, h, w), and is the faster way."""
    d, c, t, h, w = size
    if h == w == 1:
        return not any(padding[1:]) and (t == 1 or min(c, d) >= WIDE)
    # The fast stem, 2 clips: with AVX2 .6 s in place of 1.3, with AVX512 .4 in place of .3.
    stem = t > 1 and max(c, d) <= 16 and tuple(stride) == ONE and tuple(padding) == (t // 2, 0, 0)
    return stem and t % 2 == 1 and torch.backends.cpu.get_cpu_capability() == "AVX2"


def weight_gradient(x: Tensor, grad: Tensor, size: Size, stride: Size, padding: Size) -> Tensor:
    """(D, C, t, h, w), from ``x`` and ``grad`` as above, where h = w = 1 or it is a stem's:
    stride 1, t odd, as many frames after it as before, no padding of pixels."""
    if size[3] == size[4] == 1:
        return _of_taps(pixels_of(x), pixels_of(grad), size, stride, padding[0])
    return _of_windows(pixels_of(x), pixels_of(grad), size)


def pixels_of(x: Tensor) -> Tensor:
    """(B, C, T, H, W), channels last -> (B, T, H, W, C), contiguous."""
    return x.permute(0, 2, 3, 4, 1)


def _of_taps(x: Tensor, grad: Tensor, size: Size, stride: Size, padding: int) -> Tensor:
    """A product for each of the t frames that a kernel of one pixel covers."""
    d, c, t, _, _ = size
    x = x[:, :, :: stride[1], :: stride[2]]
    if padding:
        x = F.pad(x, (0, 0, 0, 0, 0, 0, padding, padding))
    last = (grad.shape[1] - 1) * stride[0] + 1
    rows = grad.reshape(-1, d).t()
    taps = [rows @ x[:, tap : tap + last : stride[0]].reshape(-1, c) for tap in range(t)]
    return torch.stack(taps, 2).view(*size)


def _of_windows(x: Tensor, grad: Tensor, size: Size) -> Tensor:
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
