"""The result of a cross-validation as a run of its own on wandb, beside those of its trainings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slowfast_dist.config.training import Config
from slowfast_dist.metrics.uncertainty import Bin
from slowfast_dist.metrics.wrong_labels import Doubt
from slowfast_dist.tracking.wandb_panels import (
    CALIBRATION,
    LEARNING_CURVE,
    Panels,
    calibration_panels,
    doubted_pairs,
    fold_panels,
    joined_panels,
)
from slowfast_dist.tracking.wandb_run import NullRun, open_wandb, print_line
from slowfast_dist.tracking.wandb_upload import run_facts


def log_result(
    folder: Path, config: Config, facts: Mapping[str, Any], bins: Sequence[Bin],
    calibrated: Sequence[Bin], doubts: Sequence[Doubt],
) -> dict[str, Any]:  # fmt: skip
    """Log folds, learning curve, calibration and all labels in doubt of the out-of-fold
    predictions, without a video's name. ``facts`` as in cross_validation.json: where another result
    was there before, with its wandb_id, whose run goes on, and its wandb_results, how many that run
    has; returns both as they are now, nothing where wandb is off. ``calibrated``: the bins with the
    temperature."""
    earlier, shown = facts.get("wandb_id"), facts.get("wandb_results")
    number = 1 + (shown if type(shown) is int else int(earlier is not None))
    name = config.wandb.name
    own = replace(
        config.wandb, name=None if name is None else f"{name} of all folds", hardest=0,
        log_model=False,
    )  # fmt: skip
    run = open_wandb(own, folder, run_facts(config, {}), earlier if type(earlier) is str else None)

    def draw() -> Panels:
        tables = {"best/wrong_labels": doubted_pairs(doubts)} if doubts else {}
        # What is on wandb cannot be taken back, and over one axis two results are none.
        again = f"_{number}" if number > 1 else ""
        return joined_panels(
            fold_panels(facts, LEARNING_CURVE + again),
            calibration_panels(bins, calibrated, CALIBRATION + again), Panels({}, tables),
        )  # fmt: skip

    run.log_panels(draw)
    run.finish(0)
    if isinstance(run, NullRun):
        return {}
    if number > 1:
        print_line(
            f"wandb: the curves of this result are {CALIBRATION}_{number}/ and "
            f"{LEARNING_CURVE}_{number}/, as those of an earlier one are there already"
        )
    return {"wandb_id": run.id, "wandb_results": number}
