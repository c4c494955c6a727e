"""Averages of the weights over steps or epochs: what torch's AveragedModel keeps, for a checkpoint.

AveragedModel copies the whole network; here only what trains is kept. BatchNorm's statistics are
not averaged, as by default there: those of the running network go with an average over steps, and
`PreciseStatistics` measures them for one over epochs, whose weights are further apart.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from slowfast_dist.model.slowfast import SlowFast

PREFIX = "average."
"""Of the names of averaged tensors in a checkpoint's training.safetensors."""


class AveragedWeights:
    """A running average of the parameters of ``network`` that train.

    ``decay``: of an exponential average over updates, which begins with less (`decay_at`); None:
    all updates count alike, as in stochastic weight averaging (Izmailov et al. 2018). The first
    update is a copy.
    """

    def __init__(self, network: SlowFast, decay: float | None = None) -> None:
        self.decay, self.updates = decay, 0
        self._own: dict[str, Tensor] = {
            name: p for name, p in network.named_parameters() if p.requires_grad
        }
        self._average = {name: p.detach().clone() for name, p in self._own.items()}

    def decay_at(self, updates: int) -> float:
        """What the average so far weighs after so many ``updates``; the new weights the rest.

        (1 + t) / (10 + t) while that is less than the decay, as TensorFlow's
        ExponentialMovingAverage has it: else of few steps most would be the first weights.
        """
        if self.decay is None:
            return updates / (updates + 1)
        return min(self.decay, (1 + updates) / (10 + updates)) if updates else 0.0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network's weights as they are now."""
        own, average = list(self._own.values()), list(self._average.values())
        torch._foreach_lerp_(average, own, 1 - self.decay_at(self.updates))
        self.updates += 1

    @contextmanager
    def in_network(self) -> Iterator[None]:
        """In here the network's weights are the averaged ones, then its own again. Without an
        update they stay its own."""
        if not self.updates:
            yield
            return
        own = list(self._own.values())
        with torch.no_grad():
            before = [parameter.clone() for parameter in own]
            torch._foreach_copy_(own, list(self._average.values()))
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(own, before)

    @torch.no_grad()
    def restore(self, saved: Mapping[str, Tensor], updates: int) -> None:
        """Go on from the tensors of a checkpoint, by the parameters' names."""
        for name, average in self._average.items():
            average.copy_(saved[name])
        self.updates = updates


def capture(averages: Mapping[str, AveragedWeights]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of all averages for a checkpoint, as "average.NAME.PARAMETER", and how many
    updates each has, by NAME."""
    tensors = {
        f"{PREFIX}{name}.{parameter}": tensor.clone()
        for name, average in averages.items()
        for parameter, tensor in average._average.items()
    }
    return tensors, {name: average.updates for name, average in averages.items()}


def of_average(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Those of one average among a checkpoint's tensors, by the parameters' names."""
    start = f"{PREFIX}{name}."
    return {key.removeprefix(start): value for key, value in tensors.items()
            if key.startswith(start)}  # fmt: skip
