"""What answers fastest with the best model on this machine's CPUs, found out before it is asked."""

import time
from typing import TYPE_CHECKING

import torch

from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.distributed.accelerator import hardware_precision
from slowfast_dist.inference.backends.choice import Choice
from slowfast_dist.inference.predictor import predictor_of
from slowfast_dist.runs.best_model import read_best
from slowfast_dist.system import signals
from slowfast_dist.system.log import logger

if TYPE_CHECKING:
    from slowfast_dist.training.best.tracker import Run

LONG_TRAINING = 60.0
"""Seconds of a training from which on nobody minds those that are spent here: 3 CPU seconds for
slowfast_tiny, 9 for slowfast_r50, whose trainings take an hour."""

MOST_SECONDS = 30.0
"""Seconds that it may take on slow CPUs: where --hours leaves fewer, nothing is prepared."""


def prepare_answers(run: "Run", seconds_of_run: float) -> None:
    """At the end of a ``run`` on CPUs that took so long: keep the best model as OpenVINO computes
    it, where that is faster and the same on a validation clip, as ``--backend auto`` then takes it
    from the first ``predict`` on; said in a line. Whatever goes wrong costs no more than that. Not
    of a fold or a pretraining, whose model is asked nothing."""
    on_cpu = str(run.environment.get("device", "cpu")) == "cpu"
    if seconds_of_run < LONG_TRAINING or not on_cpu or signals.received() is not None:
        return
    hours = run.config.hours
    if hours is not None and 3600 * hours - seconds_of_run < MOST_SECONDS:
        return
    if run.videos.ways or (run.config.folds and run.config.fold != "final"):
        return
    begun = time.monotonic()
    try:
        best = read_best(run.folder.root)
        precision = hardware_precision()
        choice = Choice(best, "bf16" if precision == "bf16" else "no", worth=True)
        clip = EvaluationClips(run.videos.val, best.data).first_readable()
        if choice.reason is not None or clip is None:
            return
        cpu = torch.device("cpu")
        found = choice.decide(
            lambda: predictor_of(best, best.load(), cpu, precision).network, best.load, clip
        )
    except Exception as error:  # whatever it is, the training is worth more
        reason = " ".join(str(error).split()) or type(error).__name__
        logger.info(f"answers: not prepared on this machine ({reason[:300]})")
        return
    what = f"OpenVINO, {choice.in_words()}" if found else f"torch, as {choice.reason}"
    logger.info(f"answers on this machine: by {what} ({time.monotonic() - begun:.1f} s)")
