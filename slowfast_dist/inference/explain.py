"""Where and when a network sees its class in a clip: integrated gradients against chance.

What the class has above the mean of all classes is divided among the pixels by integrated gradients
(Sundararajan et al., 2017), on the straight path from a clip of one colour, the clip's own mean, to
the clip. They are taken at the input of both pathways: no layer is chosen, and what the fast
pathway tells the slow one counts where it came from. Their sum is what the class gained on the way.

Such a map, and every one of the CAM family, also shows mere contrast: that of a network with random
weights lies on what moves as well (Adebayo et al., 2018). So the same is done with the class's
weights of the last layer in another order, several times: heads as large, that learned nothing. Of
random weights one order is as good as any, whatever lies below, so their map has as much energy as
those; a trained class has many times as much. By how much, that is the map's strength: a map of
strength 0 says no more than chance, and is flat.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from slowfast_dist.inference.windows import Stopped
from slowfast_dist.model.inputs import pathways, slow_indices
from slowfast_dist.model.slowfast import SlowFast

STEPS = 4
"""Points of the path, in the middles of as many equal parts. The sum of the demo's maps is then
within 11 % of what the class gained."""

SHUFFLED_HEADS = 5
"""Orders of the class's weights. On the demo the energies of one and another differ by a factor of
2 at most, those of the class are 12 to 200 times as large."""

MARGIN = 4.0
"""Times the mean energy of the shuffled heads that counts as chance. Of random networks the energy
is .5 to 1.7 times that mean."""

CELLS = 16
"""Cells of the map along height and width; over 3 x 3 of them, and 3 frames, it is averaged."""

BACKWARD = 2
"""What the way back through a network costs, in ways there: each convolution is done twice, for its
input and for the sum over it. By it the time of a whole map is foretold from its beginning."""

GoOn = Callable[[float], bool]
"""Asked between two parts of the work, of which the share is done that it is given: whether to go
on."""


@dataclass(frozen=True)
class Map:
    """``found`` float32 (T, CELLS, CELLS), not negative: the share that each cell holds of all that
    speaks for the class. ``strength``, 0 to 1: how much of the map counts; the rest may be
    chance."""

    found: NDArray[np.float32]
    strength: float

    @property
    def shares(self) -> NDArray[np.float64]:
        """(T, CELLS, CELLS), their sum is 1: what may be chance lies evenly on all."""
        return self.strength * self.found.astype(np.float64) + (1 - self.strength) / self.found.size

    @property
    def when(self) -> NDArray[np.float64]:
        """The share of each frame, (T,)."""
        return np.asarray(self.shares.sum(axis=(1, 2)))

    def colours(self, size: int) -> NDArray[np.float32]:
        """How much to colour each pixel, (T, size, size), at most ``strength``; linearly between
        the cells' middles."""
        large = F.interpolate(torch.from_numpy(self.found)[:, None], (size, size), mode="bilinear")
        scaled = large[:, 0] * (self.strength / max(float(large.max()), 1e-30))
        return np.asarray(scaled.numpy(), np.float32)


@dataclass(frozen=True)
class Explanation:
    """Of both pathways together, and of each alone."""

    joined: Map
    slow: Map
    fast: Map


class Explainer:
    """Explains clips by a network of its own, in float32: ``network`` is changed, and not folded,
    as folded layers write into their input's memory."""

    def __init__(
        self, network: SlowFast, several_labels: bool = False, device: torch.device | str = "cpu"
    ) -> None:
        """With ``several_labels`` a clip each class stands for itself: its logit is explained, and
        not what it has above the mean of all."""
        self._device = torch.device(device)
        network.to(self._device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._network = network.eval().requires_grad_(False)
        weights = network.head.proj.weight
        alone = several_labels or len(weights) == 1
        self._weights = weights if alone else weights - weights.mean(dim=0)
        generator = torch.Generator().manual_seed(0)
        features = weights.shape[1]
        orders = [torch.randperm(features, generator=generator) for _ in range(SHUFFLED_HEADS)]
        self._orders = torch.stack([torch.arange(features), *orders]).to(self._device)

    def explain(
        self, clip: NDArray[np.uint8], label: int, go_on: GoOn | None = None
    ) -> Explanation:
        """Of a clip uint8 (T, S, S, 3) and the class of index ``label``. The same clip gives the
        same map, whatever was explained before. Raises Stopped where ``go_on`` says so."""
        frames = torch.from_numpy(np.ascontiguousarray(clip)).to(self._device)
        frames = frames.permute(0, 3, 1, 2)[None]
        heads = self._weights[label][self._orders]
        slow, fast = attributions(self._network, frames, heads, go_on)
        return Explanation(*(_held_against_chance(one) for one in (slow + fast, slow, fast)))


def attributions(
    network: SlowFast, frames: Tensor, heads: Tensor, go_on: GoOn | None = None
) -> list[Tensor]:
    """What each cell adds to (features @ head) of uint8 ``frames`` (1, T, 3, S, S), for each of
    ``heads`` (N, F), against a clip of its mean colour: [slow, fast], float64 (N, T, CELLS, CELLS).
    What the slow pathway's frames add is dealt to the frames that they lie among. Raises Stopped.
    """
    done, all_of_it = 0, STEPS * (1 + BACKWARD * len(heads))
    clips = pathways(frames, network.description)
    changes = [clip - clip.mean(dim=(2, 3, 4), keepdim=True) for clip in clips]
    sums = [torch.zeros(len(heads), clip.shape[2], CELLS, CELLS) for clip in clips]
    for step in range(STEPS):
        share = 1 - (step + 0.5) / STEPS
        leaves = [
            (clip - share * change).requires_grad_()
            for clip, change in zip(clips, changes, strict=True)
        ]
        with torch.enable_grad():
            features = network.pathway_features(leaves)
        done += 1
        for number, head in enumerate(heads):
            more = number + 1 < len(heads)
            gradients = torch.autograd.grad(features, leaves, head[None], retain_graph=more)
            for total, gradient, change in zip(sums, gradients, changes, strict=True):
                total[number] += _cells((gradient * change).sum(dim=1)[0]).cpu() / STEPS
            done += BACKWARD
            if go_on is not None and not go_on(done / all_of_it):
                raise Stopped
    slow, fast = (total.double() for total in sums)
    dealt = _dealt(frames.shape[1], slow_indices(frames.shape[1], network.description))
    return [torch.einsum("ts,nshw->nthw", dealt, slow), fast]


def _cells(pixels: Tensor) -> Tensor:
    """Sums of what each cell holds, (T, CELLS, CELLS), of (T, S, S)."""
    count, height, width = pixels.shape
    means = F.adaptive_avg_pool3d(pixels[None], (count, CELLS, CELLS))[0]
    return means * (height * width / CELLS**2)


def _held_against_chance(found: Tensor) -> Map:
    """The map of the first head of (N, T, CELLS, CELLS); the others are the shuffled ones."""
    smooth = F.avg_pool3d(found[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    energies = smooth.square().sum(dim=(1, 2, 3))
    evidence = smooth[0].clamp(min=0)
    total = float(evidence.sum())
    if not (total > 0 and torch.isfinite(energies).all()):  # nothing speaks for it, or an overflow
        return Map(np.full(evidence.shape, 1 / evidence.numel(), np.float32), 0.0)
    strength = 1 - MARGIN * float(energies[1:].mean() / energies[0])
    return Map((evidence / total).float().numpy(), max(0.0, strength))


def _dealt(frames: int, indices: Tensor) -> Tensor:
    """(T, T/alpha): how much of what each slow frame adds goes to each of the T frames: most to its
    own, linearly less up to the slow frames beside it; columns sum to 1."""
    places = indices.cpu().numpy()
    rows = [np.interp(np.arange(frames), places, column) for column in np.eye(len(places))]
    shares = np.stack(rows, axis=1)
    return torch.from_numpy(shares / shares.sum(axis=0))
