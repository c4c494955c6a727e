"""A run's best model on one device, from frames to class probabilities, whatever runs it.

torch is imported where it computes, and not for an exported file that another library runs.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.fields import Backend, Precision
from slowfast_dist.inference.metadata import CpuPrecision, Network, export_path, has_own_weights
from slowfast_dist.metrics.calibration import tempered
from slowfast_dist.metrics.task import SeveralLabels
from slowfast_dist.metrics.unknown import UNKNOWN, label_of
from slowfast_dist.runs.best_model import BestModel, load_best, read_best
from slowfast_dist.system.cpus import has_bf16, has_cpus_alone

if TYPE_CHECKING:
    import torch

    from slowfast_dist.model.slowfast import SlowFast


class WithFeatures(Protocol):
    """A network that tells what goes into its last linear layer, as `TorchNetwork` does."""

    def features(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]: ...
    @property
    def head(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


@dataclass(frozen=True)
class Predictor:
    """``best`` says the classes and how clips are cut, and whether they are scored mirrored, too;
    ``network`` computes."""

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

    def with_flip(self, flip: bool) -> "Predictor":
        """One that scores clips mirrored, too, or does not. Raises UserError for a model that
        learned of no mirrored clips."""
        return replace(self, best=replace(self.best, evaluation=self.best.views(None, None, flip)))

    def label(self, label: str, probability: float) -> str:
        """What to say of a video whose most probable class is that."""
        return label_of(label, probability, self.best.min_confidence)

    def probabilities(self, clips: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(B, K) of uint8 clips (B, T, H, W, 3), as `read_frames` gives them with a view, as the
        network says them: the mean over a video's views is what `calibrated` is for. All of a
        clip are NaN where one of its logits is not finite: a softmax would take -inf for a 0. Of
        several labels a clip each is a sigmoid of its own."""
        if self.best.evaluation.flip:
            mirrored = self._probabilities(np.ascontiguousarray(clips[:, :, :, ::-1]))
            if (swaps := self.best.swaps) is not None:
                mirrored = mirrored[:, swaps]
            return (self._probabilities(clips) + mirrored) / 2
        return self._probabilities(clips)

    def _probabilities(self, clips: NDArray[np.uint8]) -> NDArray[np.float64]:
        logits = np.array(self.network(clips))
        broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        logits[broken] = 0
        probabilities = self.best.task.probabilities(logits)
        probabilities[broken] = np.nan
        return probabilities

    def calibrated(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """What to say of samples, (..., K), whose views' mean ``probabilities`` are: those with the
        model's temperature."""
        return tempered(probabilities, self.best.temperature)

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
            raise UserError(
                "--backend: OpenVINO and exported files give no features: use torch"
            )
        return cast(WithFeatures, self.network)


def open_predictor(
    run: Path,
    backend: Backend = "torch",
    mixed_precision: Precision = "auto",
    clips: int | None = 0,
    ahead: bool = False,
) -> Predictor:
    """Load the best model of a run's folder, or of its models folder alone.

    For the backend auto, ``clips``: how many there are to compute; None: very many; ``ahead``: it
    is decided now, on a made clip, as what comes must not wait for that. Raises UserError where
    there is none, it is damaged, or what runs it is missing.
    """
    if backend in ("onnx", "pt2"):  # without torch, as far as the file needs none
        best = read_best(run)
        return Predictor(best, open_answers(best, backend, "no", best.load))
    if backend == "openvino":
        best, cpu = read_best(run), _cpu_precision(mixed_precision)
        return Predictor(best, open_answers(best, backend, cpu, best.load))
    if backend == "auto" and (found := _settled_without_torch(run, mixed_precision, ahead)):
        return found
    from slowfast_dist.distributed.accelerator import make_accelerator

    accelerator = make_accelerator(mixed_precision, 120.0)
    device, precision = accelerator.device, accelerator.mixed_precision
    if backend == "torch" or device.type != "cpu":
        return predictor_of(*load_best(run), device, precision)
    from slowfast_dist.inference.backends.choice import WORTH_CLIPS, AutoNetwork, Choice, made_clip

    worth = clips is None or clips >= WORTH_CLIPS
    choice = Choice(read_best(run), "bf16" if precision == "bf16" else "no", worth, ahead)
    if (settled := choice.settled()) is not None:
        choice.say(settled)
        return Predictor(choice.best, settled)
    best, network = load_best(run)
    if best.weights_sha256 != choice.best.weights_sha256:  # a training wrote another meanwhile
        choice = Choice(best, choice.precision, worth, ahead)
    if choice.reason is not None:
        choice.say(None)
        return predictor_of(best, network, device, precision)
    auto = AutoNetwork(
        choice, lambda: predictor_of(best, network, device, precision).network, lambda: network
    )
    return Predictor(best, auto.choose(made_clip(best.data)) if ahead else auto)


def _settled_without_torch(run: Path, choice: Precision, ahead: bool) -> Predictor | None:
    """The best model by OpenVINO, where that was chosen before; None where it was not, or torch
    alone can tell which device and precision it would take. Raises UserError as `read_best`."""
    precision = _known_precision(choice)
    one_process = (os.environ.get("WORLD_SIZE") or "1") == "1"
    if "torch" in sys.modules or precision is None or not one_process:
        return None  # torch, where it is there, also knows how many threads are this process's
    if not has_cpus_alone(os.environ):
        return None
    from slowfast_dist.inference.backends.choice import Choice

    known = Choice(read_best(run), precision, worth=False, made=ahead)
    if (settled := known.settled()) is None:
        return None
    known.say(settled)
    return Predictor(known.best, settled)


def _cpu_precision(choice: Precision) -> CpuPrecision:
    """As `cpu_precision`, without torch where it is known already."""
    if (known := _known_precision(choice)) is not None:
        return known
    from slowfast_dist.distributed.accelerator import cpu_precision

    return cpu_precision(choice)


def _known_precision(choice: Precision) -> CpuPrecision | None:
    """What it means on the CPU; None where torch alone can tell."""
    if choice == "no" or choice == "bf16":
        return choice
    known = None if os.environ.get("ACCELERATE_MIXED_PRECISION") else has_bf16()
    return None if choice != "auto" or known is None else "bf16" if known else "no"


def open_answers(
    best: BestModel, backend: str, precision: CpuPrecision, load: "Callable[[], SlowFast]",
    by_file: bool = True,
) -> Network:  # fmt: skip
    """The network of another backend than torch: by the file that `export` wrote, of OpenVINO also
    of what ``load`` gives where there is no such file, or not ``by_file``. Raises UserError where
    what it needs is missing or damaged."""
    from slowfast_dist.inference.exported import load_exported

    if backend in ("onnx", "pt2"):
        return load_exported(best, "onnx" if backend == "onnx" else "pt2")
    from slowfast_dist.inference.backends.openvino_network import open_prepared, prepared_key
    from slowfast_dist.inference.backends.openvino_runtime import import_openvino

    import_openvino("--backend openvino")
    if by_file and export_path(best.folder, "openvino").is_file():
        return load_exported(best, "openvino", precision)
    if not has_own_weights(best):
        best.read_weights()  # which says what is wrong, though their graph may be kept
    return open_prepared(best, prepared_key(best), precision, load)


def predictor_of(
    best: BestModel, loaded: "SlowFast", device: "torch.device", mixed_precision: str
) -> Predictor:
    """Of a network with its weights, in the precision no, bf16 or fp16."""
    from slowfast_dist.inference.torch_network import torch_network

    return Predictor(best, torch_network(loaded, device, mixed_precision))
