"""The settings of ``tune``: those of a training, which all trials share, and what is searched."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le

from slowfast_dist.config import fields as own
from slowfast_dist.config.checks import require
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config

TUNE_FOLDS = 3
"""Folds of a trial where it is given no number: a search compares many trainings, so each gets
fewer than a cross-validation of one recipe."""

USUAL = "default"
"""Word of --search for the flags that are searched without it."""

LR_SPAN = 10
"""How many times the learning rate as given the search goes up, and down: rates that are wrong are
so by such factors, and what is far off is pruned after its first fold."""


@dataclass(frozen=True)
class Tune(Config):
    """Search for better settings by Optuna: each trial is a cross-validation, and its score the
    macro-F1 of all out-of-fold predictions.

    All flags of train are those of every trial but for what is searched; the first trial has all of
    them as given. Started again with the same --output-dir it goes on; several processes with one
    --output-dir share the trials.
    """

    output_dir: Path = Path("runs/tune-{timestamp}")
    """The study's folder; {timestamp} becomes the time of the start."""
    trials: Annotated[int, Ge(1), Le(10_000)] = 30
    """Trials of the study, those of all processes and earlier starts together."""
    search: tuple[str, ...] = ()
    """What is searched, in place of the usual few flags: FLAG=LOW:HIGH, FLAG=LOW:HIGH:log or
    FLAG=A,B,C each, as optimizer.lr=1e-4:1e-2:log; the word default stands for the usual ones."""
    hours: own.PositiveFloat | None = None
    """Begin no trial that, lasting as long as the longest so far, would end later than so many
    hours after the start of this process; the first one is always done."""
    keep_weights: bool = False
    """Keep the checkpoints and models of all folds of all trials; else they go once a fold is
    scored, as they fill disks."""

    def check(self) -> None:
        """Raise UserError where settings of several groups do not go together."""
        if self.fold is not None:
            raise UserError(
                f"--fold {self.fold}: each trial trains all its folds; to share the work start "
                "tune several times with one --output-dir"
            )
        remedy = "trials are compared on one seed; leave it out, and try the best one with "
        remedy += "cross-validate --seeds"
        require(self.seeds == 1, "seeds", self.seeds, remedy)
        remedy = "it is for cross-validate; leave it out"
        require(not self.learning_curve, "learning-curve", "true", remedy)
        if self.resume not in ("never", "auto"):
            raise UserError(
                f"--resume {self.resume}: goes on with one training; a study goes on by itself "
                "with the same --output-dir: leave it out"
            )
        super().check()

    def of_training(self, **changes: Any) -> Config:
        """The settings of a trial: of a training, without what only the search has."""
        values = {field.name: getattr(self, field.name) for field in fields(Config)}
        return Config(**{**values, "hours": None, **changes})


def usual_search(config: Config) -> list[str]:
    """What is searched without --search, as words of that: few flags, so that some tens of trials
    say something of each. Where one means nothing with ``config``, it is left out."""
    rate = config.optimizer.lr
    words = [f"optimizer.lr={rate / LR_SPAN:.3g}:{rate * LR_SPAN:.3g}:log"]
    model = config.model
    if (model.published or model.weights) and model.freeze != "backbone":
        words.append("optimizer.backbone-lr-scale=0.03,0.1,0.3")
    words.append("loss.label-smoothing=0,0.1")
    words += ["augment.crop-scale=none,0.3 1", "augment.rand-augment=0,5,9"]
    if not config.optimizer.average_last:
        words.append("optimizer.ema=0,0.99")
    return words


@dataclass(frozen=True)
class Range:
    """Numbers of a flag from ``low`` to ``high``, drawn evenly, or evenly in the logarithm."""

    flag: str
    low: float
    high: float
    log: bool
    whole: bool

    def __str__(self) -> str:
        return f"{self.flag}={self.low:g}:{self.high:g}{':log' * self.log}"


@dataclass(frozen=True)
class Choices:
    """Values of a flag: as the command line spells them, and as its field has them."""

    flag: str
    texts: tuple[str, ...]
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.flag}={','.join(self.texts)}"


Searched = Range | Choices
