"""The trainings of a cross-validation: fold by fold, also with other seeds and fewer videos."""

from dataclasses import dataclass
from pathlib import Path

from slowfast_dist.config.training import Config

CURVE = (0.25, 0.5)
"""Shares of the training groups, beside all of them, of a learning curve: each doubles the one
before, as scores rise about evenly with each doubling."""


@dataclass(frozen=True)
class Training:
    """The ``fold``, counted from 1, that is held out, the seed, the ``share`` of the other groups
    that is trained on, and the folder of the run."""

    fold: int
    seed: int
    share: float
    folder: Path

    def title(self, folds: int) -> str:
        parts = [f"fold {self.fold} of {folds}", f"seed {self.seed}"]
        if self.share < 1:
            parts.append(f"{100 * self.share:g} % of the training groups")
        return ", ".join(parts)


def all_trainings(config: Config, folds: int) -> list[Training]:
    """In the order in which they are done: first those of the result itself."""
    root, seed = config.output_dir, config.seed
    share = config.data.train_fraction
    variants = [(seed, share, root)]
    variants += [(other, share, root / f"seed_{other}")
                 for other in range(seed + 1, seed + config.seeds)]  # fmt: skip
    if config.learning_curve:
        variants += [(seed, share * part, root / f"share_{100 * part:g}") for part in CURVE]
    return [
        Training(fold, its_seed, its_share, folder / f"fold_{fold}")
        for its_seed, its_share, folder in variants
        for fold in range(1, folds + 1)
    ]
