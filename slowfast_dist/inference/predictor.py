"""A run's best model on one device, from frames to class probabilities, whatever runs it.

torch is imported where it computes, and not for an exported file that another library runs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.metrics.task import SeveralLabels
from slowfast_dist.metrics.unknown import UNKNOWN, label_of
from slowfast_dist.runs.best_model import BestModel, load_best, read_best

if TYPE_CHECKING:
    import torch

    from slowfast_dist.model.slowfast import SlowFast

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Logits (B, K) of clips (B, T, H, W, 3), T, H and W as the model's own."""


class WithFeatures(Protocol):
    """A network that tells what goes into its last linear layer, as `TorchNetwork` does."""

    def features(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]: ...
    @property
    def head(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


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

    def _with_features(self) -> "WithFeatures":
        if not hasattr(self.network, "features"):
            raise UserError("--backend: an exported file gives no features: use torch")
        return cast(WithFeatures, self.network)


def open_predictor(
    run: Path,
    backend: Literal["torch", "onnx", "pt2"] = "torch",
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto",
) -> Predictor:
    """Load the best model of a run's folder, or of its models folder alone.

    Raises UserError where there is none, it is damaged, or what runs it is missing.
    """
    if backend == "torch":
        from slowfast_dist.distributed.accelerator import make_accelerator

        best, network = load_best(run)
        accelerator = make_accelerator(mixed_precision, 120.0)
        return predictor_of(best, network, accelerator.device, accelerator.mixed_precision)
    from slowfast_dist.inference.exported import load_exported

    best = read_best(run)
    return Predictor(best, load_exported(best, backend))


def predictor_of(
    best: BestModel, loaded: "SlowFast", device: "torch.device", mixed_precision: str
) -> Predictor:
    """Of a network with its weights, in the precision no, bf16 or fp16."""
    from slowfast_dist.inference.torch_network import torch_network

    return Predictor(best, torch_network(loaded, device, mixed_precision))
