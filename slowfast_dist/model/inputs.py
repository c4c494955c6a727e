"""From uint8 frames to the normalised clips of the two pathways."""

import torch
from torch import Tensor

from slowfast_dist.model.description import NetworkDescription


def normalise(
    frames: Tensor, network: NetworkDescription,
    memory_format: torch.memory_format = torch.contiguous_format,
    dtype: torch.dtype = torch.float32,
) -> Tensor:  # fmt: skip
    """uint8 frames (B, T, 3, H, W) in 0..255 -> clip (B, 3, T, H, W), (x/255 - mean)/std.

    In float32 also under autocast, as elementwise arithmetic is not autocast; then rounded to
    ``dtype``, on a GPU all in one kernel (one a channel where those differ): a GPU adds, multiplies
    and converts on the way, a CPU would take it for three passes.
    """
    assert frames.dtype == torch.uint8 and frames.ndim == 5, (frames.dtype, frames.shape)
    source = frames.permute(0, 2, 1, 3, 4)
    if dtype != torch.float32 and frames.is_cuda and not torch.compiler.is_compiling():
        return normalise_in_one(source, network, memory_format, dtype)
    clip = source.to(torch.float32, memory_format=memory_format).div_(255)  # a fresh copy
    return standardise_(clip, network).to(dtype)


def standardise_(clip: Tensor, network: NetworkDescription) -> Tensor:
    """(x - mean)/std of values in 0..1, float32 (B, 3, T, H, W), in place."""
    for part, mean, std in _channels(clip, network):
        part.sub_(mean).div_(std)
    return clip


def normalise_in_one(
    source: Tensor, network: NetworkDescription, memory_format: torch.memory_format,
    dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """uint8 (B, 3, T, H, W) -> the same as `normalise`, with one operation on each value."""
    clip = torch.empty_like(source, dtype=dtype, memory_format=memory_format)
    channels = zip(_channels(source, network), _channels(clip, network), strict=True)
    for (values, mean, std), (out, _, _) in channels:
        # On a CPU this gives, for bf16 and fp16, all 256 values of the exact formula, rounded.
        black = torch.full((), -mean / std, device=source.device)
        torch.add(black, values, alpha=1 / (255 * std), out=out)
    return clip


def _channels(clip: Tensor, network: NetworkDescription) -> list[tuple[Tensor, float, float]]:
    """The parts of a clip (B, 3, T, H, W) with a mean and a std of their own: all of it, or a view
    of each channel."""
    pairs = list(zip(network.mean, network.std, strict=True))
    if len(set(pairs)) == 1:
        return [(clip, *pairs[0])]
    return [(clip[:, channel], *pair) for channel, pair in enumerate(pairs)]


def slow_indices(
    num_frames: int, network: NetworkDescription, device: torch.device | None = None
) -> Tensor:
    """int64 (T/alpha,): the fast frames that the slow pathway sees; with alpha 4 of 32 frames
    0 4 8 13 17 22 26 31 by linspace, 0 4 8 12 16 20 24 28 by stride.

    linspace is the whole part of T/alpha points spread evenly from 0 to T-1, as PySlowFast's
    linspace(0, T-1, T/alpha).long(); in integers, so that no device rounds differently.
    """
    count = num_frames // network.alpha
    assert count * network.alpha == num_frames, (num_frames, network.alpha)
    steps = torch.arange(count, device=device)
    if network.slow_frames == "stride":
        return steps * network.alpha
    return steps * (num_frames - 1) // max(count - 1, 1)


def raw_pathways(frames: Tensor, network: NetworkDescription) -> list[Tensor]:
    """uint8 frames (B, T, 3, H, W) -> uint8 [slow (B, 3, T/alpha, H, W), fast (B, 3, T, H, W)],
    as they lie in memory."""
    assert frames.dtype == torch.uint8 and frames.ndim == 5, (frames.dtype, frames.shape)
    indices = slow_indices(frames.shape[1], network, frames.device)
    pixels = frames.permute(0, 1, 3, 4, 2)  # contiguous, so that whole frames are picked
    slow = pixels.index_select(1, indices).permute(0, 4, 1, 2, 3)
    return [slow, frames.permute(0, 2, 1, 3, 4)]


def pathways(
    frames: Tensor, network: NetworkDescription,
    memory_format: torch.memory_format = torch.contiguous_format,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:  # fmt: skip
    """uint8 frames (B, T, 3, H, W) -> normalised [slow (B, 3, T/alpha, H, W), fast (B, 3, T, H,
    W)]. A fresh list each time: pytorchvideo's blocks write into it."""
    slow = frames.index_select(1, slow_indices(frames.shape[1], network, frames.device))
    return [normalise(clip, network, memory_format, dtype) for clip in (slow, frames)]
