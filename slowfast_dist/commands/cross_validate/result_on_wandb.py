"""The result of a cross-validation as a run of its own on wandb, beside those of its trainings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slowfast_dist.config.training import Config
from slowfast_dist.metrics.uncertainty import Bin
from slowfast_dist.metrics.wrong_labels import Doubt
from slowfast_dist.tracking.wandb_panels import (
    Panels,
    calibration_panels,
    doubted_pairs,
    fold_panels,
    joined_panels,
)
from slowfast_dist.tracking.wandb_run import open_wandb
from slowfast_dist.tracking.wandb_upload import run_facts


def log_result(
    folder: Path, config: Config, facts: Mapping[str, Any], bins: Sequence[Bin],
    calibrated: Sequence[Bin], doubts: Sequence[Doubt],
) -> str | None:  # fmt: skip
    """Log folds, learning curve, calibration and all labels in doubt of the out-of-fold
    predictions, without a video's name; returns the run's id. ``facts`` as in
    cross_validation.json: with the wandb_id of a result that is written again, whose run goes on.
    ``calibrated``: the bins with the temperature."""
    earlier = facts.get("wandb_id")
    name = config.wandb.name
    own = replace(
        config.wandb, name=None if name is None else f"{name} of all folds", hardest=0,
        log_model=False,
    )  # fmt: skip
    run = open_wandb(own, folder, run_facts(config, {}), earlier if type(earlier) is str else None)

    def draw() -> Panels:
        tables = {"best/wrong_labels": doubted_pairs(doubts)} if doubts else {}
        return joined_panels(
            fold_panels(facts), calibration_panels(bins, calibrated), Panels({}, tables)
        )

    run.log_panels(draw)
    run.finish(0)
    return run.id
