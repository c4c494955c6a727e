"""What computes an evaluation: torch, OpenVINO, or a file that ``export`` wrote."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.fields import Backend
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.distributed.accelerator import cpu_precision
from slowfast_dist.distributed.collectives import run_on_main
from slowfast_dist.inference.backends.choice import WORTH_CLIPS, Choice, missing_libraries
from slowfast_dist.inference.metadata import CpuPrecision, Network
from slowfast_dist.inference.predictor import Predictor, open_answers, predictor_of
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import BestModel
from slowfast_dist.system.memory import give_back_free_memory
from slowfast_dist.training.evaluation import OtherNetwork


@dataclass(frozen=True)
class Answers:
    """``backend`` computes in ``precision`` by ``network``, on every process the same: torch's, or
    another's."""

    backend: str
    precision: str
    network: SlowFast | OtherNetwork


def choose_answers(
    best: BestModel, network: SlowFast | None, accelerator: Accelerator, command: EvaluateCommand,
    clips: EvaluationClips, many: bool = False,
) -> Answers:  # fmt: skip
    """Collective. ``network``: torch's, with the best weights, which it loses where another
    computes, as nothing is computed with it any more; None: it is read where it is needed;
    ``many``: whether there is more to compute than ``clips``. Raises UserError where what --backend
    names is missing or damaged, and ReplacedMeanwhile as `BestModel.load`."""
    opened: list[Network] = []

    def load() -> SlowFast:
        return _read(best) if network is None else network

    def decide() -> str:
        found = _faster(best, load, accelerator, clips, many)
        if found is not None:
            opened.append(found)
        return "torch" if found is None else "openvino"

    precision: str = accelerator.mixed_precision
    backend: str = command.backend
    if backend == "auto":
        backend = run_on_main(accelerator, decide)
    elif backend == "openvino":
        precision = cpu_precision(command.mixed_precision)
    elif backend != "torch":
        precision = "no"
    if backend == "torch":
        return Answers("torch", precision, load())

    def open_one() -> None:
        if not opened:
            by_file = command.backend != "auto"
            on_cpu = _on_cpu(precision)
            opened.append(open_answers(best, backend, on_cpu, load, by_file))

    run_on_main(accelerator, open_one)  # the others find what it kept
    open_one()
    if network is not None:
        network.to("meta")
    give_back_free_memory()
    return Answers(backend, precision, OtherNetwork(opened[0], len(best.classes)))


def _read(best: BestModel) -> SlowFast:
    """Its network. Raises as `BestModel.load`."""
    network = best.load()
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    give_back_free_memory()  # of the file that was read, and of the other layout
    return network


def may_do_without_torch(backend: Backend) -> bool:
    """Whether a process may compute without torch's network, which is then read where it is needed:
    it takes the memory in which OpenVINO's is made."""
    return backend != "torch" and (backend != "auto" or missing_libraries() is None)


def _faster(
    best: BestModel, load: Callable[[], SlowFast], accelerator: Accelerator,
    clips: EvaluationClips, many: bool,
) -> Network | None:  # fmt: skip
    """OpenVINO's network where it is faster and right, else None; said where much is to do."""
    device, precision = accelerator.device, accelerator.mixed_precision
    if device.type != "cpu":
        return None
    choice = Choice(best, _on_cpu(precision), many or len(clips) >= WORTH_CLIPS)
    found = choice.settled()
    if found is None and choice.reason is None and (clip := clips.first_readable()) is not None:
        found = choice.decide(
            lambda: predictor_of(best, load(), device, precision).network, load, clip
        )
    choice.say(found)
    return found


def _on_cpu(precision: str) -> CpuPrecision:
    return "bf16" if precision == "bf16" else "no"


def predictor_by(answers: Answers, best: BestModel, accelerator: Accelerator) -> Predictor:
    """The best model, computed by ``answers``."""
    network = answers.network
    if isinstance(network, OtherNetwork):
        return Predictor(best, network.answers)
    return predictor_of(best, network, accelerator.device, accelerator.mixed_precision)
