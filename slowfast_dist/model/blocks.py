"""The forward pass of pytorchvideo's SlowFast blocks, with fewer passes over the activations.

The modules and so the names of their weights are pytorchvideo's; their own forward would do every
layer by itself. BatchNorms whose statistics stand still are folded into the convolutions, ReLU and
the sum of the residual blocks are done with the convolution or in place, and the few channels of
a clip are handed to the first convolution as those of pixels two by two.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from slowfast_dist.model.batchnorm import recomputing
from slowfast_dist.model.convolution import (
    Layer,
    add_relu,
    bottleneck,
    compute_dtype,
    convolve,
    fits_bottleneck,
    is_fused,
)
from slowfast_dist.model.folding import fold, is_constant


def pathway_blocks(
    block: Any, x: list[Tensor], block_forward: Callable[[Any, Tensor], Tensor]
) -> list[Tensor]:
    """A stage of both pathways [slow, fast], then what the fast one gives to the slow one."""
    slow, fast = (
        block_forward(part, clip) for part, clip in zip(block.multipathway_blocks, x, strict=True)
    )
    fusion = block.multipathway_fusion
    if isinstance(fusion, nn.Identity):
        return [slow, fast]
    relu = fusion.activation is not None
    lateral = conv_norm(fusion.conv_fast_to_slow, fusion.norm, fast, relu=relu)
    return [torch.cat([slow, lateral], 1), fast]


def stem(module: Any, clip: Tensor) -> Tensor:
    """Convolution, BatchNorm, ReLU, pooling of a normalised clip (B, 3, T, H, W)."""
    conv, norm = module.conv, module.norm
    if is_fused(clip) and _is_stem(conv):
        folds = is_constant(norm)
        weight, bias = fold(conv, norm) if folds else (conv.weight, conv.bias)
        pixels = space_to_depth(clip, compute_dtype(clip.dtype, clip.device))
        weight = space_to_depth_weight(weight)
        stride, padding = (conv.stride[0], 1, 1), (conv.padding[0], 0, 0)
        if pairs_are_faster(pixels, weight):
            bias = None if bias is None else bias.repeat(2)
            stride = (conv.stride[0], 1, 2)
            x = convolve(pixels, weight_of_pairs(weight), bias, stride, padding, relu=folds)
            x = apart(x)
        else:
            x = convolve(pixels, weight, bias, stride, padding, relu=folds)
        del pixels  # which makes room
        x = x if folds else F.relu_(norm(x))
    else:
        x = conv_norm(conv, norm, clip, relu=True)
    if not torch.is_autocast_enabled(x.device.type):
        return module.pool(x)
    # The largest of some numbers needs no float32, into which a CPU's autocast would copy them.
    with torch.autocast(x.device.type, enabled=False):
        return module.pool(x)


def stage(module: Any, x: Tensor, recompute: bool) -> Tensor:
    """Residual blocks. ``recompute``: keep only their inputs for the backward pass.

    Two clips of slowfast_r50 in bf16 then need 770 MiB beside the weights in place of 950, and a
    quarter more time. Kept by stages in place of blocks it is the same.
    """
    for number, block in enumerate(module.res_blocks):
        if recompute and torch.is_grad_enabled():
            # Nothing in a block is random.
            x = checkpoint(
                residual_block, block, x, use_reentrant=False, preserve_rng_state=False,
                context_fn=partial(recomputing, block),
            )  # fmt: skip
        else:
            x = residual_block(block, x, in_place=number > 0)
    return x


def residual_block(block: Any, x: Tensor, in_place: bool = False) -> Tensor:
    """relu(bottleneck(x) + shortcut(x)); ``in_place``: without gradients it may overwrite ``x``."""
    inner = block.branch2
    pairs = [(inner.conv_a, inner.norm_a), (inner.conv_b, inner.norm_b)]
    pairs.append((inner.conv_c, inner.norm_c))
    if block.branch1_conv is not None:
        pairs.append((block.branch1_conv, block.branch1_norm))
    convs, norms = zip(*pairs, strict=True)
    if all(map(is_constant, norms)) and fits_bottleneck(x, convs):
        layers = [Layer(*fold(conv, norm), conv.stride, conv.padding) for conv, norm in pairs]
        return bottleneck(x, layers, in_place)
    shortcut = x if len(pairs) == 3 else conv_norm(*pairs[3], x)  # of where x is another size
    y = conv_norm(inner.conv_a, inner.norm_a, x, relu=True)
    y = conv_norm(inner.conv_b, inner.norm_b, y, relu=True)
    return conv_norm(inner.conv_c, inner.norm_c, y, relu=True, residual=shortcut)


def conv_norm(
    conv: nn.Conv3d, norm: Any, x: Tensor, relu: bool = False, residual: Tensor | None = None
) -> Tensor:
    """relu(norm(conv(x)) + residual), folded where ``norm`` is constant."""
    assert conv.groups == 1 and conv.dilation == (1, 1, 1) and not isinstance(conv.padding, str)
    if is_constant(norm):
        weight, bias = fold(conv, norm)
        return convolve(x, weight, bias, conv.stride, conv.padding, relu=relu, residual=residual)
    y = convolve(x, conv.weight, conv.bias, conv.stride, conv.padding)
    return add_relu(norm(y), residual, relu)


def _is_stem(conv: nn.Conv3d) -> bool:
    """Whether it is one of 7 x 7 pixels that moves by 2, as all stems here."""
    return (conv.kernel_size[1:], conv.stride[1:], conv.padding[1:]) == ((7, 7), (2, 2), (3, 3))


def space_to_depth(clip: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, C, T, H, W) -> (B, 4 C, T, H/2 + 3, W/2 + 3), channels last: one pixel of each 2 x 2.

    Vector units take 16 channels at once, and of 3 most of them idle. Round it 2 rows and columns
    of zeros before and 1 behind, or an odd size's half, as the 7 x 7 convolution pads. For
    slowfast_r50's fast stem, forward and backward, 98 ms of a core in place of 265 (2 clips, bf16).
    """
    clip = F.pad(clip, (0, clip.shape[4] % 2, 0, clip.shape[3] % 2))
    b, c, t, h, w = clip.shape
    x = torch.zeros(b, t, h // 2 + 3, w // 2 + 3, 4 * c, dtype=dtype, device=clip.device)
    inner = x[:, :, 2:-1, 2:-1].view(b, t, h // 2, w // 2, 2, 2, c)
    inner.copy_(clip.view(b, c, t, h // 2, 2, w // 2, 2).permute(0, 2, 3, 5, 4, 6, 1))
    return x.permute(0, 4, 1, 2, 3)


def space_to_depth_weight(weight: Tensor) -> Tensor:
    """Weight (D, C, t, 7, 7) of stride 2 -> (D, 4 C, t, 4, 4), which does the same at stride 1."""
    d, c, t, _, _ = weight.shape
    halves = F.pad(weight, (1, 0, 1, 0)).reshape(d, c, t, 4, 2, 4, 2)
    return halves.permute(0, 4, 6, 1, 2, 3, 5).reshape(d, 4 * c, t, 4, 4)


def pairs_are_faster(x: Tensor, weight: Tensor) -> bool:
    """Whether a convolution of ``x`` (B, C, T, H, W) with ``weight`` (D, C, t, h, w), in space of
    stride 1 and without padding, is better done for two pixels beside each other at once.

    AVX512 has 16 lanes of float32, of which 8 channels leave half idle. slowfast_r50's fast stem, a
    clip, CPU ms of one thread: 77 and 50, the gradient of its weights 151 and 75.
    """
    if x.device.type != "cpu":
        return False
    even = (x.shape[4] - weight.shape[4] + 1) % 2 == 0
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    few = weight.shape[0] <= 8
    return few and even and wide and compute_dtype(x.dtype, x.device) == torch.float32


def weight_of_pairs(weight: Tensor) -> Tensor:
    """(D, C, t, h, w) -> (2 D, C, t, h, w + 1): first D channels of a pixel, then of the next."""
    return torch.cat([F.pad(weight, (0, 1)), F.pad(weight, (1, 0))])


def apart(x: Tensor) -> Tensor:
    """Pairs of pixels (B, 2 D, T, H, W / 2), channels last -> pixels (B, D, T, H, W), which lie in
    memory in the same order."""
    pixels = x.permute(0, 2, 3, 4, 1).unflatten(4, (2, -1)).flatten(3, 4)
    return pixels.permute(0, 4, 1, 2, 3)
