"""The run's own weights as a network from clips to logits and features, computed by torch."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slowfast_dist.model.folding import folded
from slowfast_dist.model.slowfast import SlowFast


class TorchNetwork:
    """A folded network on a device; ``autocast`` makes the context in which it computes."""

    def __init__(
        self, network: SlowFast, device: torch.device,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:  # fmt: skip
        self._network, self.device, self._autocast = network, device, autocast

    def __call__(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode(), self._autocast():
            return self._network(self._frames(clips)).float().cpu().numpy()

    def features(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, F) of clips (B, T, H, W, 3): what goes into the last linear layer."""
        with torch.inference_mode(), self._autocast():
            return self._network.features(self._frames(clips)).cpu().numpy()

    @property
    def head(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight (K, F) and bias (K,) of the last linear layer, from features to logits."""
        layer = self._network.head.proj
        return layer.weight.detach().cpu().numpy(), layer.bias.detach().cpu().numpy()

    def _frames(self, clips: NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(clips).to(self.device).permute(0, 1, 4, 2, 3)


def torch_network(
    loaded: SlowFast, device: torch.device, mixed_precision: str
) -> TorchNetwork:
    """Of a network with its weights, in the precision no, bf16 or fp16."""
    # Not the Accelerator's autocast, which computes as the newest one of the process does: a
    # training in another precision may come between two predictions.
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(mixed_precision)
    autocast = partial(torch.autocast, device.type, kind, enabled=kind is not None)
    plain = loaded.to(device)
    plain.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    with autocast():
        network = folded(plain)
    return TorchNetwork(network, device, autocast)
