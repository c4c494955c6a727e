"""From uint8 frames to the normalised clips of the two pathways."""

import torch
from torch import Tensor

from slowfast_dist.config.data import RESNET_ALPHA

MEAN, STD = 0.45, 0.225
"""Of the pixel values in [0, 1], every channel alike: pytorchvideo's Kinetics models."""

NORMALISATION = {"divide_by": 255.0, "mean": MEAN, "std": STD}
"""What `normalise` does, in words that best_model.json keeps."""


def normalise(
    frames: Tensor, memory_format: torch.memory_format = torch.contiguous_format,
    dtype: torch.dtype = torch.float32,
) -> Tensor:  # fmt: skip
    """uint8 frames (B, T, 3, H, W) in 0..255 -> clip (B, 3, T, H, W), (x/255 - mean)/std.

    In float32 also under autocast, as elementwise arithmetic is not autocast; then rounded to
    ``dtype``, on a GPU all in one kernel: a GPU adds, multiplies and converts on the way, a CPU
    would take it for three passes.
    """
    assert frames.dtype == torch.uint8 and frames.ndim == 5, (frames.dtype, frames.shape)
    if dtype != torch.float32 and frames.is_cuda and not torch.compiler.is_compiling():
        source = frames.permute(0, 2, 1, 3, 4)
        out = torch.empty_like(source, dtype=dtype, memory_format=memory_format)
        # On a CPU this gives, for bf16 and fp16, all 256 values of the exact formula, rounded.
        black = torch.full((), -MEAN / STD, device=frames.device)
        return torch.add(black, source, alpha=1 / (255 * STD), out=out)
    clip = frames.permute(0, 2, 1, 3, 4).to(torch.float32, memory_format=memory_format)
    return clip.div_(255).sub_(MEAN).div_(STD).to(dtype)  # in place: `clip` is a fresh copy


def slow_indices(num_frames: int, device: torch.device | None = None) -> Tensor:
    """int64 (T/4,): the fast frames that the slow pathway sees; 0 4 8 13 17 22 26 31 of 32.

    The whole part of T/4 points spread evenly from 0 to T-1, as the published models were trained
    (PySlowFast's linspace(0, T-1, T/4).long()); in integers, so that no device rounds differently.
    """
    count = num_frames // RESNET_ALPHA
    return torch.arange(count, device=device) * (num_frames - 1) // max(count - 1, 1)


def pathways(
    frames: Tensor, memory_format: torch.memory_format = torch.contiguous_format,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:  # fmt: skip
    """uint8 frames (B, T, 3, H, W) -> normalised [slow (B, 3, T/4, H, W), fast (B, 3, T, H, W)]. A
    fresh list each time: pytorchvideo's blocks write into it."""
    slow = frames.index_select(1, slow_indices(frames.shape[1], frames.device))
    return [normalise(slow, memory_format, dtype), normalise(frames, memory_format, dtype)]
