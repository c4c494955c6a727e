"""The forward pass of pytorchvideo's SlowFast blocks, with fewer passes over the activations.

The modules and so the names of their weights are pytorchvideo's; their own forward would do every
layer by itself. BatchNorms whose statistics stand still are folded into the convolutions, ReLU and
the sum of the residual blocks are done with the convolution or in place, and the few channels of
a clip are handed to the first convolution as those of pixels two by two, and of frames in pairs.
"""

from collections.abc import Callable
from functools import partial
from itertools import chain
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
from slowfast_dist.model.description import NetworkDescription
from slowfast_dist.model.folding import fold, is_constant
from slowfast_dist.model.gradients import ONE
from slowfast_dist.model.inputs import normalise, standardise_


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


def stem(module: Any, clip: Tensor, network: NetworkDescription | None = None) -> Tensor:
    """Convolution, BatchNorm, ReLU, pooling of a normalised clip (B, 3, T, H, W), or of one in
    uint8 that ``network`` says how to normalise -> (B, D, T, H / 4, W / 4)."""
    conv, norm = module.conv, module.norm
    if network is not None and not (is_stem(conv) and clip.shape[3] % 2 == clip.shape[4] % 2 == 0):
        frames = clip.permute(0, 2, 1, 3, 4)
        clip, network = normalise(frames, network, torch.channels_last_3d), None
    if network is None and not (is_fused(clip) and is_stem(conv)):
        return _pooled(module, conv_norm(conv, norm, clip, relu=True))
    folds = is_constant(norm)
    weight, bias = fold(conv, norm) if folds else (conv.weight, conv.bias)
    at_once = frames_at_once(conv, clip.shape[2]) if _has_idle_lanes(clip.device) else 1
    dtype = compute_dtype(torch.float32 if network else clip.dtype, clip.device)
    pixels = space_to_depth(clip, dtype, at_once, network)
    x = convolve(pixels, *stem_layer(conv, weight, bias, at_once), relu=folds)
    del pixels  # which makes room
    if folds:
        return apart(_pooled(module, x), at_once)
    return _pooled(module, F.relu_(norm(apart(x, at_once))))


def _pooled(module: Any, x: Tensor) -> Tensor:
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


def is_stem(conv: nn.Conv3d) -> bool:
    """Whether it is one of 7 x 7 pixels that moves by 2 in space alone, as all stems here."""
    return (conv.kernel_size[1:], conv.stride, conv.padding[1:]) == ((7, 7), (1, 2, 2), (3, 3))


def frames_at_once(conv: nn.Conv3d, frames: int) -> int:
    """How many of its result's ``frames`` a stem is best done for at once: 2 or 1.

    Vector units have 16 lanes of float32, matrix units as many columns, of which 8 channels leave
    half idle; and 12 channels of two frames fill more of what is summed at once than those of one.
    slowfast_r50's fast stem, a clip, ms of one thread: 17 and 9 in bf16 with AMX, the gradient of
    its weights 31 and 21; in float32 with AVX512 83 and 50, 164 and 55.
    """
    size = conv.kernel_size[0]
    several = size > 1 and size == 2 * int(conv.padding[0]) + 1
    return 2 if several and frames % 2 == 0 and conv.out_channels <= 8 else 1


def _has_idle_lanes(device: torch.device) -> bool:
    """AVX2 has 8 lanes of float32: two frames at once are no faster there."""
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512"


def stem_layer(conv: nn.Conv3d, weight: Tensor, bias: Tensor | None, at_once: int) -> Layer:
    """The stem ``conv`` as a convolution of what `space_to_depth` makes of a clip; its result holds
    ``at_once`` frames as one, see `apart`."""
    weight, before = space_to_depth_weight(weight), int(conv.padding[0])
    if at_once == 2:
        weight, before = weight_of_pairs(weight, before), (before + 1) // 2
        bias = None if bias is None else bias.repeat(2)
    return Layer(weight, bias, ONE, (before, 0, 0))


def space_to_depth(
    clip: Tensor, dtype: torch.dtype, at_once: int = 1, network: NetworkDescription | None = None
) -> Tensor:
    """(B, C, T, H, W) -> (B, 4 F C, T / F, H/2 + 3, W/2 + 3), channels last: one pixel of each
    2 x 2 of F = ``at_once`` frames; with ``network`` from uint8 frames of even size, normalised.

    Vector units take 16 channels at once, and of 3 most of them idle. Round it 2 rows and columns
    of zeros before and 1 behind, or an odd size's half, as the 7 x 7 convolution pads. For
    slowfast_r50's fast stem, forward and backward, 98 ms of a core in place of 265 (2 clips, bf16).
    Bytes are rearranged before they are normalised, a few frames at a time, which the CPU's cache
    holds: 22 ms of a core in place of 35 (the fast pathway's, 1 clip).
    """
    b, c, t, height, width = clip.shape
    if height % 2 or width % 2:
        clip = F.pad(clip, (0, width % 2, 0, height % 2))
    h, w = clip.shape[3] // 2, clip.shape[4] // 2
    parts = clip.view(b, c, t // at_once, at_once, h, 2, w, 2).permute(0, 2, 4, 6, 3, 5, 7, 1)
    x = torch.zeros(
        b, t // at_once, h + 3, w + 3, 4 * at_once * c, dtype=dtype, device=clip.device
    )
    inner = x[:, :, 2:-1, 2:-1].view(parts.shape)
    if network is None:
        inner.copy_(parts)
    else:
        for place, part in zip(chain(*inner), chain(*parts), strict=True):
            values = part.contiguous().to(torch.float32).div_(255)
            standardise_(values.movedim(-1, 1), network)
            place.copy_(values)
    return x.permute(0, 4, 1, 2, 3)


def space_to_depth_weight(weight: Tensor) -> Tensor:
    """Weight (D, C, t, 7, 7) of stride 2 -> (D, 4 C, t, 4, 4), which does the same at stride 1."""
    d, c, t, _, _ = weight.shape
    halves = F.pad(weight, (1, 0, 1, 0)).reshape(d, c, t, 4, 2, 4, 2)
    return halves.permute(0, 4, 6, 1, 2, 3, 5).reshape(d, 4 * c, t, 4, 4)


def weight_of_pairs(weight: Tensor, before: int) -> Tensor:
    """(D, C, t, h, w), which begins ``before`` = (t - 1) / 2 frames before its own, -> (2 D, 2 C,
    2 n + 1, h, w), which begins n = before / 2, rounded up, pairs of frames before its own pair:
    first D channels of a pair's first frame, then of the next."""
    d, c, t, h, w = weight.shape
    pairs = 2 * ((before + 1) // 2) + 1
    first = before % 2
    both = [
        F.pad(weight, (0, 0, 0, 0, skipped, 2 * pairs - t - skipped))
        for skipped in (first, first + 1)
    ]
    halves = torch.cat(both).view(2 * d, c, pairs, 2, h, w)
    return halves.transpose(2, 3).transpose(1, 2).reshape(2 * d, 2 * c, pairs, h, w)


def apart(x: Tensor, at_once: int) -> Tensor:
    """Frames that are ``at_once`` as one (B, F D, T / F, H, W), channels last, -> (B, D, T, H, W),
    channels last."""
    if at_once == 1:
        return x
    frames = x.permute(0, 2, 3, 4, 1).unflatten(4, (at_once, -1)).permute(0, 1, 4, 2, 3, 5)
    return frames.flatten(1, 2).permute(0, 4, 1, 2, 3)
