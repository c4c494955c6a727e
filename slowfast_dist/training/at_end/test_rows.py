"""The rows of split test: scored once, by the best model, after the last epoch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from accelerate import Accelerator

from slowfast_dist.config.training import Config
from slowfast_dist.data.listing.split import group_codes
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.loaders import make_evaluation_loader
from slowfast_dist.data.samples.batch import batch_bytes
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.data.workers import end_workers, plan_workers
from slowfast_dist.distributed.accelerator import local_processes
from slowfast_dist.metrics.scores import cross_entropy, softmax
from slowfast_dist.metrics.summary import Predictions, summarise
from slowfast_dist.metrics.uncertainty import (
    expected_calibration_error,
    group_intervals,
    reliability,
    scores_line,
)
from slowfast_dist.runs.best_model import BestModel
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.predictions import write_predictions
from slowfast_dist.training.evaluation import Scores, evaluate, load_everywhere


def score_test(
    config: Config, test: VideoTable, accelerator: Accelerator
) -> tuple[BestModel, Scores] | None:
    """The best model of the run, and what it says of ``test``. Collective; None where a process was
    asked to stop meanwhile. The config has a number in place of a micro-batch size ``auto``."""
    data, views, size = config.data, config.evaluation, config.micro_batch_size
    assert size != "auto"
    best, network = load_everywhere(config.output_dir, accelerator)
    clips = EvaluationClips(test, data, views.temporal_views, views.spatial_crops)
    plan = plan_workers(data.num_workers, local_processes(), batch_bytes(data, size))
    loader = make_evaluation_loader(
        clips, size, plan, accelerator.process_index, accelerator.num_processes,
        pin=accelerator.device.type == "cuda",
    )  # fmt: skip
    try:
        scores = evaluate("test", network, loader, accelerator, views.flip, swaps=best.swaps)
    finally:
        end_workers(loader)
    return None if scores is None else (best, scores)


def test_facts(best: BestModel, test: VideoTable, scores: Scores) -> dict[str, Any]:
    """What metrics.jsonl and best_model.json say of them: "test/..." as the val/ part of an epoch's
    row, "intervals": 95 %, over groups where any has several of the videos, else over videos."""
    task, classes = best.task, best.classes
    labels, logits = scores.labels, scores.logits
    facts: dict[str, Any] = {f"test/{name}": one for name, one in scores.metrics(task).items()}
    told = summarise(Predictions.from_logits([""] * len(labels), labels, logits, classes, task))
    groups = group_codes(test.select(scores.videos))
    intervals, over = told.intervals, "videos"
    if groups is not None and not task.several:
        guesses = task.decisions(logits)
        intervals, over = group_intervals(labels, guesses, groups, len(classes)), "groups"
    if not task.several:
        calm = logits / best.temperature
        bins = reliability(labels, softmax(calm))
        facts |= {
            "test/ece": told.ece, "test/loss_calibrated": cross_entropy(calm, labels),
            "test/ece_calibrated": expected_calibration_error(bins),
        }  # fmt: skip
    return facts | {
        "intervals": intervals, "intervals_over": over,
        "groups": None if groups is None else len(np.unique(groups)),
    }  # fmt: skip


def write_test_predictions(
    folder: RunFolder, best: BestModel, test: VideoTable, scores: Scores
) -> None:
    """predictions/test_best.csv, as val_best.csv."""
    scored = test.select(scores.videos)
    write_predictions(
        folder.test_predictions, list(scored.names), scores.labels, scores.logits, best.classes,
        scored.extra(), task=best.task,
    )  # fmt: skip


def test_line(facts: Mapping[str, Any]) -> str:
    """For people."""
    scores = {name: facts[f"test/{name}"] for name in ("accuracy", "f1_macro")}
    shown = scores_line(scores, facts["intervals"], facts["intervals_over"])
    return f"split test, {facts['test/videos']} videos, scored once: {shown}"
