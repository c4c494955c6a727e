"""Mixup and CutMix of the clips of a micro-batch, on the device it is on.

Mixup: Zhang et al., mixup: Beyond Empirical Risk Minimization (2018). CutMix: Yun et al., CutMix:
Regularization Strategy (2019); of clips the box is one of height and width, shared over time. A
mixture of A and B and one of B and A are the same, so that each clip keeps the larger share: its
own label stays the one by which training metrics count it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.data.samples.batch import Batch

MIXING = 1
"""Behind what tells a micro-batch from others, what tells its draws from those of dropout."""


@dataclass(frozen=True)
class Mixed:
    """A mixed micro-batch: ``batch`` has the mixed frames, with labels and videos of the clips that
    have the ``share`` of at least one half in them, ``partner`` those of the clips with the rest.
    """

    batch: Batch
    partner: Batch
    share: float


def mix(batch: Batch, augment: AugmentConfig, entropy: Sequence[int]) -> Mixed | None:
    """The micro-batch, each clip with the one before it; None for one clip. ``entropy``: what tells
    this micro-batch from all others, such as seed, step and its number in the step: all randomness
    is from there."""
    if len(batch) < 2 or not augment.mixes:
        return None
    rng = np.random.default_rng([*entropy, MIXING])
    coin, down, across = rng.random(3).tolist()
    both = augment.mixup > 0 and augment.cutmix > 0
    cuts = coin < 0.5 if both else augment.cutmix > 0
    alpha = augment.cutmix if cuts else augment.mixup
    share = float(rng.beta(alpha, alpha))
    partner = replace(
        batch, frames=batch.frames.roll(1, 0), labels=batch.labels.roll(1, 0),
        videos=batch.videos.roll(1, 0),
    )  # fmt: skip
    if cuts:
        frames, share = _cut(batch.frames, partner.frames, share, (down, across))
    else:
        share = max(share, 1 - share)
        frames = _blended(batch.frames, partner.frames, share)
    return Mixed(replace(batch, frames=frames), partner, share)


def _cut(
    frames: Tensor, others: Tensor, share: float, centre: tuple[float, float]
) -> tuple[Tensor, float]:
    """uint8 (B, T, 3, H, W) of ``frames`` with a box of ``others``, or the other way round where
    that box is more than half, and the share of pixels that are the frames' own."""
    height, width = frames.shape[-2:]
    part = sqrt(1 - share)
    # As there: the box's centre is anywhere, and what lies outside is cut off.
    rows, columns = (
        _span(size, part, place) for size, place in zip((height, width), centre, strict=True)
    )
    inside = (rows[1] - rows[0]) * (columns[1] - columns[0]) / (height * width)
    outer, inner = (frames, others) if inside <= 0.5 else (others, frames)
    mixed = outer.clone()
    box = (..., slice(*rows), slice(*columns))
    mixed[box] = inner[box]
    return mixed, max(inside, 1 - inside)


def _span(size: int, part: float, place: float) -> tuple[int, int]:
    """From one pixel to behind another: ``part`` of ``size`` about its ``place``."""
    middle, half = int(place * size), int(part * size) // 2
    return max(middle - half, 0), min(middle + half, size)


def _blended(frames: Tensor, others: Tensor, share: float) -> Tensor:
    """uint8 (B, T, 3, H, W): ``share`` of the frames and the rest of the others, rounded. A clip at
    a time, as floats take four times the memory."""
    mixed = torch.empty_like(frames)
    for clip, other, out in zip(frames, others, mixed, strict=True):
        out.copy_(torch.lerp(other.float(), clip.float(), share).round_())
    return mixed
