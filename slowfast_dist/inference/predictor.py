"""A run's best model on one device, from frames to class probabilities, whatever runs it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.inference.exported import load_exported
from slowfast_dist.metrics.task import SeveralLabels
from slowfast_dist.metrics.unknown import UNKNOWN, label_of
from slowfast_dist.model.folding import folded
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import BestModel, load_best, read_best

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Logits (B, K) of clips (B, T, H, W, 3), T, H and W as the model's own."""


class TorchNetwork:
    """A folded network on a device; ``autocast`` makes the context in which it computes."""

    def __init__(
        self, network: SlowFast, device: torch.device,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:  # fmt: skip
        self._network, self._device, self._autocast = network, device, autocast

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
        return torch.from_numpy(clips).to(self._device).permute(0, 1, 4, 2, 3)


@dataclass(frozen=True)
class Predictor:
    """``best`` says the classes and how clips are cut; ``network`` computes."""

    best: BestModel
    network: Network

    @property
    def classes(self) -> tuple[str, ...]:
        return self.best.classes

    def labels(self, probabilities: NDArray[np.float64]) -> list[tuple[str, float]] | None:
        """Of several labels a clip those that are at their thresholds or above them, probabilities
        (K,), the most probable first; None where a clip has one label."""
        task = self.best.task
        if not isinstance(task, SeveralLabels):
            return None
        said = np.flatnonzero(task.decide(probabilities))
        order = said[np.argsort(-probabilities[said], kind="stable")]
        return [(self.classes[place], float(probabilities[place])) for place in order]

    def unsure_below(self, min_confidence: float) -> "Predictor":
        """One that says `unknown` of what is less probable. Raises UserError for a model that has a
        class of that name."""
        if min_confidence and UNKNOWN in self.classes:
            raise UserError(
                f"--min-confidence {min_confidence:g}: the model has a class {UNKNOWN!r}, so that "
                "nobody could tell which is meant: leave it out"
            )
        return replace(self, best=replace(self.best, min_confidence=min_confidence))

    def label(self, label: str, probability: float) -> str:
        """What to say of a video whose most probable class is that."""
        return label_of(label, probability, self.best.min_confidence)

    def probabilities(self, clips: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(B, K) of uint8 clips (B, T, H, W, 3), as `read_frames` gives them with a view. All of a
        clip are NaN where one of its logits is not finite: a softmax would take -inf for a 0. Of
        several labels a clip each is a sigmoid of its own."""
        logits = np.array(self.network(clips))
        broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        logits[broken] = 0
        probabilities = self.best.task.probabilities(logits)
        probabilities[broken] = np.nan
        return probabilities

    def features(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What goes into the last linear layer, (B, F), of clips as `probabilities` takes them.
        Raises UserError where only an exported file computes."""
        return self._with_features().features(clips)

    @property
    def head(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight (K, F) and bias (K,) of the last linear layer, which makes logits of `features`,
        also of their means. Raises as that."""
        return self._with_features().head

    def _with_features(self) -> TorchNetwork:
        if not isinstance(self.network, TorchNetwork):
            raise UserError("--backend: an exported file gives no features: use torch")
        return self.network


def open_predictor(
    run: Path,
    backend: Literal["torch", "onnx", "pt2"] = "torch",
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto",
) -> Predictor:
    """Load the best model of a run's folder, or of its models folder alone.

    Raises UserError where there is none, it is damaged, or what runs it is missing.
    """
    if backend == "torch":
        best, network = load_best(run)
        accelerator = make_accelerator(mixed_precision, 120.0)
        return predictor_of(best, network, accelerator.device, accelerator.mixed_precision)
    best = read_best(run)
    return Predictor(best, load_exported(best, backend))


def predictor_of(
    best: BestModel, loaded: SlowFast, device: torch.device, mixed_precision: str
) -> Predictor:
    """Of a network with its weights, in the precision no, bf16 or fp16."""
    # Not the Accelerator's autocast, which computes as the newest one of the process does: a
    # training in another precision may come between two predictions.
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(mixed_precision)
    autocast = partial(torch.autocast, device.type, kind, enabled=kind is not None)
    plain = loaded.to(device)
    plain.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    with autocast():
        network = folded(plain)

    return Predictor(best, TorchNetwork(network, device, autocast))
