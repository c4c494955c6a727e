"""The trainings of a cross-validation: fold by fold, also with other seeds and fewer videos."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slowfast_dist.config.fields import FINAL
from slowfast_dist.config.training import Config

CURVE = (0.25, 0.5)
"""Shares of the training groups, beside all of them, of a learning curve: each doubles the one
before, as scores rise about evenly with each doubling."""


@dataclass(frozen=True)
class Training:
    """The ``fold``, counted from 1, that is held out ("final": none), the seed, the ``share`` of
    the other groups that is trained on, and the folder of the run."""

    fold: int | Literal["final"]
    seed: int
    share: float
    folder: Path

    @property
    def is_final(self) -> bool:
        return self.fold == FINAL

    def title(self, folds: int) -> str:
        if self.is_final:
            return f"on all {folds} folds, to score the rows of split test, seed {self.seed}"
        parts = [f"fold {self.fold} of {folds}", f"seed {self.seed}"]
        if self.share < 1:
            parts.append(f"{100 * self.share:g} % of the training groups")
        return ", ".join(parts)


def all_trainings(config: Config, folds: int, tested: bool = False) -> list[Training]:
    """In the order in which they are done: first those of the result itself. ``tested``: whether
    there are rows of split test, which the last one scores: of the first seed and share alone, as
    to choose by those rows would spoil them."""
    root, seed = config.output_dir, config.seed
    share = config.data.train_fraction
    variants = [(seed, share, root)]
    variants += [(other, share, root / f"seed_{other}")
                 for other in range(seed + 1, seed + config.seeds)]  # fmt: skip
    if config.learning_curve:
        variants += [(seed, share * part, root / f"share_{100 * part:g}") for part in CURVE]
    final = Training("final", seed, share, root / FINAL)
    return [
        Training(fold, its_seed, its_share, folder / f"fold_{fold}")
        for its_seed, its_share, folder in variants
        for fold in range(1, folds + 1)
    ] + [final] * tested
