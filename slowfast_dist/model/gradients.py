"""Gradients of convolutions on CPUs, in float32 and bf16 by whatever is fastest for their size.

Activations with the channels last are matrices as they lie in memory, and what a kernel of one
pixel does is a product of such matrices; the gradient of the input of a convolution that does not
move is a convolution itself, with the weights mirrored. On one thread, as where every core has a
process, torch takes a convolution of its own for kernels of few channels or of one pixel, which
copies everything into the contiguous layout: of 32 -> 8 channels of 3 frames (slowfast_r50, one
clip, CPU ms with AVX512) the weights take 53, the products 2, the input 30, the mirrored
convolution 2. On more threads these gain little: then only those are taken that do. In bf16 torch
has oneDNN's way for all sizes, which is slow for weights that are many and for strides; and its
threads wait for each other by spinning, so that beside other work they take ten times as long.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

aten, mkldnn = torch.ops.aten, torch.ops.mkldnn

Size = Sequence[int]
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]

ONE = (1, 1, 1)


def convolution_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Size, padding: Size, needed: Sequence[bool],
    total: Tensor | None = None,
) -> Gradients:  # fmt: skip
    """Of ``x`` (B, C, T, H, W), ``weight`` (D, C, t, h, w) and the bias (D,), as ``needed``.

    ``grad`` is the gradient of the result (B, D, T', H', W'). ``total``, as ``x``: that of ``x``
    is added to it, in place, and it is returned.
    """
    channels_last = x.is_contiguous(memory_format=torch.channels_last_3d)
    if not channels_last or x.is_contiguous():
        of_x, of_weight, of_bias = aten.convolution_backward(
            grad, x, weight, [weight.shape[0]], stride, padding, ONE, False, [0, 0, 0], 1,
            list(needed),
        )  # fmt: skip
        return of_x if total is None or of_x is None else total.add_(of_x), of_weight, of_bias
    of_x, of_weight, of_bias = needed
    grad = grad.contiguous(memory_format=torch.channels_last_3d)
    size = tuple(weight.shape)
    by_x = input_way(size, stride, padding, x.dtype) if of_x else ""
    by_weight = weight_way(size, stride, padding, x.dtype) if of_weight else ""
    by_sum = of_bias and (bool(by_weight) or not of_weight)
    others = [of_x and not by_x, of_weight and not by_weight, of_bias and not by_sum]
    x_grad = weight_grad = bias_grad = None
    if any(others):
        x_grad, weight_grad, bias_grad = aten.convolution_backward(
            grad, x, weight, [size[0]], stride, padding, ONE, False, [0, 0, 0], 1, others
        )
        if total is not None and x_grad is not None:
            x_grad = total.add_(x_grad)
    if by_x == "product":
        x_grad = _product_input_gradient(grad, weight, total)
    elif by_x == "strided":
        x_grad = _strided_input_gradient(grad, x, weight, stride, total)
    elif by_x:
        x_grad = _mirrored_input_gradient(grad, weight, padding, total)
    pixels, grads = channels_last_view(x), channels_last_view(grad)
    if by_weight == "pixels":
        weight_grad = _pixels_weight_gradient(pixels, grads, size, stride, padding[0])
    elif by_weight == "frames":
        weight_grad = _frames_weight_gradient(pixels, grads, size)
    elif by_weight == "windows":
        weight_grad = _windows_weight_gradient(pixels, grads, size, stride)
    elif by_weight:
        weight_grad = _stem_weight_gradient(pixels, grads, size)
    if by_sum:
        bias_grad = grad.sum((0, 2, 3, 4))
    return x_grad, weight_grad, bias_grad


MOST_PAIRS = 1 << 18
"""Pairs of channels, one in and one out, up to which kernels of one pixel and several frames are
mirrored: of 1024 x 256 on two threads it takes as long as oneDNN's way (2 clips, 34 CPU ms),
which does not add to a total besides; of 2048 x 512, whose weights take long to turn, 47 in place
of 35."""

FEW_CHANNELS = 64
"""Channels, in and out, up to which kernels of several pixels are mirrored: of 8 channels of 3 x 3
pixels on one thread 2 CPU ms in place of 20, on two 3.5 and 3.8 (2 clips)."""

SOME_CHANNELS = 64
"""Channels, in and out, from which on the gradient of the input of kernels of one pixel is faster
by a product in bf16: 512 and 128 (1 clip, one thread with AMX) 2.2 ms in place of 2.5, but of 8 and
32 1.1 in place of .7."""

FEW_FOR_PRODUCTS = 32
"""Channels, in and out, up to which one thread is faster by products for the weights of kernels of
several pixels: 8 of 3 x 3 pixels 4.5 CPU ms in place of 17; of 64 they take twice as long."""

MANY_CHANNELS = 128
"""Channels, in and out, from which on several threads are faster by products for the weights of
kernels of one pixel and several frames: of 640 and 256 (2 clips) 88 CPU ms in place of 129, but of
128 and 32 they take 8 in place of 4."""


MANY_WEIGHTS = 1 << 18
"""Pairs of channels, one in and one out, from which on products are faster in bf16 for the weights
of kernels of one pixel, and in both types for those of several: 1024 x 256 of 3 frames (2 clips,
one thread with AMX) 10 ms in place of 15, 512 x 512 of 3 x 3 pixels 18 and 47 (float32: 48 and 58
on two threads, with AVX2 53 and 56 on one); of 256 x 64 they take longer."""

MANY_STRIDED_WEIGHTS = 1 << 16
"""The same of kernels of several pixels that move by 2: 256 x 256 15 ms in place of 16, 512 x 512
19 and 72 (float32: 50 and 48, 50 and 62 on two threads, with AVX2 57 and 166, 60 and 126 on one);
of 128 x 128 they take twice as long."""


def input_way(size: Size, stride: Size, padding: Size, dtype: torch.dtype) -> str:
    """How the gradient of the input of weights of ``size`` (D, C, t, h, w) is fastest: as a
    "product", as one that is "strided", by the "mirrored" convolution, or "" by oneDNN's own way.
    """
    d, c, *kernel = size
    fp32 = dtype == torch.float32
    if tuple(kernel) == ONE and not any(padding):
        if tuple(stride) != ONE:
            return "strided"
        return "product" if fp32 or min(c, d) >= SOME_CHANNELS else ""
    if tuple(stride) != ONE or not fp32:
        return ""
    pixelwise = kernel[1] == kernel[2] == 1
    few = c * d <= MOST_PAIRS if pixelwise else max(c, d) <= FEW_CHANNELS
    short = all(around < width for width, around in zip(kernel, padding, strict=True))
    return "mirrored" if few and short else ""


def weight_way(size: Size, stride: Size, padding: Size, dtype: torch.dtype) -> str:
    """How the gradient of weights of ``size`` (D, C, t, h, w) is fastest: by products of all
    "pixels", of "frames", of the "windows" that the kernel sees, as a "stem", or "" by oneDNN's own
    way.

    Of all pixels where the kernel has one (in bf16 where the result is as long as the input, and
    weights are many or the kernel steps over pixels); of frames on one thread where channels are
    few and the result is as large as the input, of windows where they are many, both of kernels of
    one frame, odd; as a stem where t, odd, covers as many frames after a frame as before it,
    without a padding of pixels.
    """
    d, c, t, h, w = size
    alone, fp32 = torch.get_num_threads() == 1, dtype == torch.float32
    if h == w == 1:
        if any(padding[1:]):
            return ""
        if fp32:
            fast = t == 1 or stride[0] > 1 or alone or min(c, d) >= MANY_CHANNELS
        else:
            strided = tuple(stride) != ONE
            as_long = stride[0] == 1 and t == 2 * padding[0] + 1  # the result, as the input
            fast = as_long and (t == 1 if strided else c * d >= MANY_WEIGHTS)
        return "pixels" if fast else ""
    if t == 1 and h % 2 == w % 2 == 1 and tuple(padding) == (0, h // 2, w // 2):
        if tuple(stride) == ONE and max(c, d) <= FEW_FOR_PRODUCTS:
            return "frames" if alone and fp32 else ""
        many = MANY_WEIGHTS if tuple(stride) == ONE else MANY_STRIDED_WEIGHTS
        return "windows" if stride[0] == 1 and c * d >= many else ""
    # The fast stem, 2 clips: with AVX2 .6 s in place of 1.3, with AVX512 .4 in place of .3.
    stem = t > 1 and max(c, d) <= 16 and tuple(stride) == ONE and tuple(padding) == (t // 2, 0, 0)
    avx2 = torch.backends.cpu.get_cpu_capability() == "AVX2"
    return "stem" if stem and t % 2 == 1 and fp32 and avx2 else ""


def channels_last_view(x: Tensor) -> Tensor:
    """(B, C, T, H, W), channels last -> (B, T, H, W, C), contiguous."""
    return x.permute(0, 2, 3, 4, 1)


def _product_input_gradient(grad: Tensor, weight: Tensor, total: Tensor | None) -> Tensor:
    matrix = weight.reshape(weight.shape[:2])
    if total is None:
        return (channels_last_view(grad) @ matrix).permute(0, 4, 1, 2, 3)
    rows = channels_last_view(grad).reshape(-1, matrix.shape[0])
    channels_last_view(total).view(-1, matrix.shape[1]).addmm_(rows, matrix)
    return total


def _strided_input_gradient(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Size, total: Tensor | None
) -> Tensor:
    """Of kernels of one pixel (B, C, T, H, W): pixels that it steps over have no gradient."""
    found = torch.zeros_like(x) if total is None else total
    seen = channels_last_view(found)[:, :: stride[0], :: stride[1], :: stride[2]]
    seen += channels_last_view(grad) @ weight.reshape(weight.shape[:2])
    return found


def _mirrored_input_gradient(
    grad: Tensor, weight: Tensor, padding: Size, total: Tensor | None
) -> Tensor:
    """By a convolution of ``grad`` with the weights mirrored, which adds to ``total`` besides."""
    mirrored = mirrored_weight(weight)
    around = [k - 1 - p for k, p in zip(weight.shape[2:], padding, strict=True)]
    geometry = around, ONE, ONE, 1
    if total is None:
        return mkldnn._convolution_pointwise(grad, mirrored, None, *geometry, "none", [], "")
    return mkldnn._convolution_pointwise_.binary(
        total, grad, mirrored, None, *geometry, "add", 1.0, None, [], ""
    )


def mirrored_weight(weight: Tensor) -> Tensor:
    """(D, C, t, h, w) -> (C, D, t, h, w), each kernel turned about its centre."""
    if weight.shape[3] * weight.shape[4] > 1:
        turned = weight.flip(2, 3, 4).transpose(0, 1)
        return turned.contiguous(memory_format=torch.channels_last_3d)
    # As matrices, which torch transposes by blocks, and anything else value by value.
    taps = [tap[..., 0, 0].t().contiguous() for tap in weight.unbind(2)]
    return torch.stack(taps[::-1], 1)[:, :, None, None].permute(0, 4, 1, 2, 3)


def _pixels_weight_gradient(
    x: Tensor, grad: Tensor, size: Size, stride: Size, padding: int
) -> Tensor:
    """A product for each of the t frames that a kernel of one pixel covers. ``x`` (B, T, H, W, C),
    ``grad`` (B, T', H', W', D) -> (D, C, t, h, w), here as below."""
    d, c, t, _, _ = size
    x = x[:, :, :: stride[1], :: stride[2]]
    if t == 1 and stride[0] == 1 and not padding:
        return (grad.reshape(-1, d).t() @ x.reshape(-1, c)).view(*size)
    if grad.dtype == torch.bfloat16:
        assert stride[0] == 1 and x.shape[1] == grad.shape[1], (size, stride)
        taps = [_shifted_product(x, grad, tap - padding) for tap in range(t)]
        return torch.stack(taps, 1).view(d, t, 1, 1, c).permute(0, 4, 1, 2, 3)
    total = grad.new_zeros(d, t, c)
    for tap in range(t):
        # Frame n of the result sees frame n * stride + tap - padding of x, where there is one.
        first = max(0, -((tap - padding) // stride[0]))
        last = min(grad.shape[1] - 1, (x.shape[1] - 1 + padding - tap) // stride[0])
        start = first * stride[0] + tap - padding
        for pixels, grads in zip(x, grad, strict=True):  # clip by clip, so that nothing is copied
            seen = pixels[start :: stride[0]][: last + 1 - first].flatten(1, 2)
            given = grads[first : last + 1].flatten(1, 2)
            if stride[0] == 1:
                total[:, tap].addmm_(given.flatten(0, 1).t(), seen.flatten(0, 1))
            else:
                total[:, tap] += torch.bmm(given.transpose(1, 2), seen).sum(0)
    return total.view(d, t, 1, 1, c).permute(0, 4, 1, 2, 3)


def _shifted_product(x: Tensor, grad: Tensor, shift: int) -> Tensor:
    """(D, C) of frames ``grad`` that see those of ``x`` ``shift`` later, all clips in one product:
    sums of bf16 are rounded once so. As many frames as have none to see get no gradient."""
    rows, given = x.reshape(-1, x.shape[4]), grad
    pixels = shift * grad.shape[2] * grad.shape[3]
    if shift:
        given = grad.clone(memory_format=torch.contiguous_format)
        (given[:, -shift:] if shift > 0 else given[:, :-shift]).zero_()
    columns = given.reshape(-1, grad.shape[4]).t()
    if shift > 0:
        return columns[:, :-pixels] @ rows[pixels:]
    return columns[:, -pixels:] @ rows[: max(0, len(rows) + pixels)]


def _frames_weight_gradient(x: Tensor, grad: Tensor, size: Size) -> Tensor:
    """A product for each pixel of the kernel and each frame, which then lies in the CPU's cache."""
    d, c, _, h, w = size
    # With as many zeros in each row and column of both, each pixel of the kernel sees the frame,
    # a row behind the other, some places on, and what it sees beyond an edge has the gradient 0.
    around = F.pad(x, (0, 0, w // 2, w // 2, h // 2, h // 2))
    behind = F.pad(grad, (0, 0, 0, w - 1, 0, h - 1))
    width, pixels = around.shape[3], around.shape[2] * around.shape[3]
    total = grad.new_zeros(h, w, d, c)
    for seen, given in zip(around.flatten(2, 3), behind.flatten(2, 3).transpose(2, 3), strict=True):
        for row in range(h):
            for column in range(w):
                on = row * width + column
                total[row, column] += torch.bmm(given[:, :, : pixels - on], seen[:, on:]).sum(0)
    return total.permute(2, 3, 0, 1).unsqueeze(2)


def _windows_weight_gradient(x: Tensor, grad: Tensor, size: Size, stride: Size) -> Tensor:
    """One product, with the h x w pixels that each place of the result has seen beside each other:
    in memory that is h w times the input's, of many channels a few pixels."""
    d, c, _, h, w = size
    around = F.pad(x, (0, 0, w // 2, w // 2, h // 2, h // 2))
    windows = around.unfold(2, h, stride[1]).unfold(3, w, stride[2])
    rows = windows.permute(0, 1, 2, 3, 5, 6, 4).reshape(-1, h * w * c)
    return (grad.reshape(-1, d).t() @ rows).view(d, 1, h, w, c).permute(0, 4, 1, 2, 3)


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
