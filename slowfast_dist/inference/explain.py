"""Where and when a network looks in a clip: by gradients at the input, against shuffled weights.

The gradients of a class's logit are averaged on the straight path from a still clip (the mean of
the frames) to the clip, as integrated gradients do (Sundararajan et al., 2017), and multiplied by
the input. They are taken at the input of both pathways: no layer is chosen, and what the fast
pathway tells the slow one counts where it came from.

Such a map, and every one of the CAM family, also shows mere contrast: a network with random weights
gives nearly the same (Adebayo et al., 2018). So the same is done with the weights of each layer
shuffled, several times, and what is told is how far the map is above those. Of a network that
learned nothing only noise is left.
"""

import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast_dist.model.inputs import pathways, slow_indices
from slowfast_dist.model.slowfast import SlowFast

STEPS = 3
"""Points of the path from the still clip to the clip. With one, fewer of the demo's videos have
over half of the map on what moves."""

SHUFFLED = 5
"""Networks with shuffled weights; their noise is one part in the square root of that."""

CELLS = 16
"""Cells of the map along height and width; over 3 x 3 of them, and 3 frames, it is averaged."""

FLOOR = 0.1
"""Share of the map's mean that is added before the logarithm: where nothing is, a little more of it
means nothing."""


@dataclass(frozen=True)
class Explanation:
    """Maps float32 (T, CELLS, CELLS), not negative: how many doublings a place is above what the
    shuffled networks show there; of both pathways together, and of each alone."""

    joined: NDArray[np.float32]
    slow: NDArray[np.float32]
    fast: NDArray[np.float32]

    @cached_property
    def when(self) -> NDArray[np.float64]:
        """The share of the joined map that each frame holds, (T,); even where the map is empty."""
        mass = self.joined.sum(axis=(1, 2), dtype=np.float64)
        return mass / mass.sum() if mass.sum() > 0 else np.full(len(mass), 1 / len(mass))


def enlarged(cells: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """A map (T, CELLS, CELLS) as (T, size, size), linearly between the cells' middles."""
    maps = torch.from_numpy(cells)[:, None]
    large = F.interpolate(maps, (size, size), mode="bilinear", align_corners=False)
    return np.asarray(large[:, 0].numpy(), np.float32)


class Explainer:
    """Explains clips by a network of its own, in float32: ``network`` is changed, and not folded,
    as folded layers write into their input's memory."""

    def __init__(self, network: SlowFast, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        network.to(self._device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._network = network.eval().requires_grad_(False)
        self._shuffled = [shuffled(self._network, seed) for seed in range(SHUFFLED)]

    def explain(self, clip: NDArray[np.uint8], label: int) -> Explanation:
        """Of a clip uint8 (T, S, S, 3) and the class of index ``label``. The same clip gives the
        same map, whatever was explained before."""
        frames = torch.from_numpy(np.ascontiguousarray(clip)).to(self._device)
        frames = frames.permute(0, 3, 1, 2)[None]
        found = self._maps(self._network, frames, label)
        total = torch.zeros_like(found)
        for other in self._shuffled:
            normalise_on(other, frames)
            total += self._maps(other, frames, label)
        above = (found - total / len(self._shuffled)).clamp(min=0)
        joined, slow, fast = above.float().cpu().numpy()
        return Explanation(joined, slow, fast)

    def _maps(self, network: SlowFast, frames: Tensor, label: int) -> Tensor:
        """Logarithms to base 2 of what is attributed to each cell, float64 (3, T, CELLS, CELLS):
        joined, slow, fast."""
        slow, fast = attributions(network, frames, label)
        weights = _between(frames.shape[1], slow_indices(frames.shape[1], network.description))
        slow = torch.einsum("ts,shw->thw", weights.to(slow), slow)
        maps = torch.stack([slow + fast, slow, fast]).double()
        maps = F.adaptive_avg_pool3d(maps, (maps.shape[1], CELLS, CELLS))
        maps = F.avg_pool3d(maps[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
        mean = maps.mean(dim=(1, 2, 3), keepdim=True)
        return torch.log2(maps / mean.clamp(min=1e-30) + FLOOR)


def attributions(network: SlowFast, frames: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """Of uint8 frames (1, T, 3, S, S): |gradient x input|, summed over the colours, of the slow
    pathway (T/alpha, S, S), divided by alpha, as each of its frames stands for so many, and of the
    fast one (T, S, S)."""
    clips = pathways(frames, network.description)
    still = [clip.mean(dim=2, keepdim=True) for clip in clips]
    sums = [torch.zeros_like(clip) for clip in clips]
    for step in range(1, STEPS + 1):
        leaves = [
            torch.lerp(a.expand_as(b), b, step / STEPS).requires_grad_()
            for a, b in zip(still, clips, strict=True)
        ]
        with torch.enable_grad():
            logit = network.of_pathways(leaves)[0, label]
            gradients = torch.autograd.grad(logit, leaves)
        for total, gradient in zip(sums, gradients, strict=True):
            total += gradient
    slow, fast = ((a * b).sum(dim=1)[0].abs() for a, b in zip(sums, clips, strict=True))
    return slow / network.description.alpha, fast


def shuffled(network: SlowFast, seed: int) -> SlowFast:
    """A copy whose weights of each layer are in another order: as large, and of no use. Its
    BatchNorms are to be told of a clip with `normalise_on`."""
    generator = torch.Generator().manual_seed(seed)
    result = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in result.parameters():
            if parameter.ndim > 1:
                order = torch.randperm(parameter.numel(), generator=generator)
                mixed = parameter.flatten()[order.to(parameter.device)]
                parameter.copy_(mixed.view(parameter.shape))
    return result


def normalise_on(network: SlowFast, frames: Tensor) -> None:
    """Make the statistics of all BatchNorms those of these frames (B, T, 3, S, S) alone: with those
    of other weights activations would vanish or grow from layer to layer."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.training, norm.momentum = True, 1.0
    with torch.no_grad():
        network(frames)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.training, norm.momentum = False, momentum


def _between(frames: int, indices: Tensor) -> Tensor:
    """(T, T/alpha): by which share each slow frame, at those of the T frames, counts for a frame,
    linearly between them."""
    places = indices.cpu().numpy()
    rows = [np.interp(np.arange(frames), places, column) for column in np.eye(len(places))]
    return torch.from_numpy(np.stack(rows, axis=1))
