"""What computes an evaluation: torch, OpenVINO, or a file that ``export`` wrote."""

from dataclasses import dataclass

from accelerate import Accelerator

from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.distributed.accelerator import cpu_precision
from slowfast_dist.distributed.collectives import run_on_main
from slowfast_dist.inference.backends.choice import WORTH_CLIPS, Choice
from slowfast_dist.inference.metadata import CpuPrecision, Network
from slowfast_dist.inference.predictor import Predictor, open_answers, predictor_of
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import BestModel
from slowfast_dist.system.memory import give_back_free_memory


@dataclass(frozen=True)
class Answers:
    """``backend`` computes in ``precision`` by ``network``, on every process the same; None: torch
    does, as ever."""

    backend: str
    precision: str
    network: Network | None = None


def choose_answers(
    best: BestModel, network: SlowFast, accelerator: Accelerator, command: EvaluateCommand,
    clips: EvaluationClips, many: bool = False,
) -> Answers:  # fmt: skip
    """Collective. ``network``: torch's, with the best weights, which it loses where another
    computes, as nothing is computed with it any more; ``many``: whether there is more to compute
    than ``clips``. Raises UserError where what --backend names is missing or damaged."""
    opened: list[Network] = []

    def decide() -> str:
        found = _faster(best, network, accelerator, clips, many)
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
        return Answers("torch", precision)

    def open_one() -> None:
        if not opened:
            by_file = command.backend != "auto"
            on_cpu = _on_cpu(precision)
            opened.append(open_answers(best, backend, on_cpu, lambda: network, by_file))

    run_on_main(accelerator, open_one)  # the others find what it kept
    open_one()
    network.to("meta")
    give_back_free_memory()
    return Answers(backend, precision, opened[0])


def _faster(
    best: BestModel, network: SlowFast, accelerator: Accelerator, clips: EvaluationClips, many: bool
) -> Network | None:
    """OpenVINO's network where it is faster and right, else None; said where much is to do."""
    device, precision = accelerator.device, accelerator.mixed_precision
    if device.type != "cpu":
        return None
    choice = Choice(best, _on_cpu(precision), many or len(clips) >= WORTH_CLIPS)
    found = choice.settled()
    if found is None and choice.reason is None and (clip := clips.first_readable()) is not None:
        plain = predictor_of(best, network, device, precision)
        found = choice.decide(plain.network, lambda: network, clip)
    choice.say(found)
    return found


def _on_cpu(precision: str) -> CpuPrecision:
    return "bf16" if precision == "bf16" else "no"


def predictor_by(
    answers: Answers, best: BestModel, network: SlowFast, accelerator: Accelerator
) -> Predictor:
    """The best model, computed by ``answers``."""
    if answers.network is not None:
        return Predictor(best, answers.network)
    return predictor_of(best, network, accelerator.device, accelerator.mixed_precision)
