"""The command ``evaluate``: a run's best model on any labelled videos, each scored once."""

import os
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from slowfast_dist.annotations.importing.writing import LEFT_OUT, write_left_out
from slowfast_dist.commands.evaluate.backend import choose_answers
from slowfast_dist.commands.evaluate.opening import open_evaluation, refuse_unused
from slowfast_dist.commands.evaluate.output import as_json, make_output, write_metrics
from slowfast_dist.commands.evaluate.over_time import run_over_time
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.errors import RunError
from slowfast_dist.data.loaders import make_evaluation_loader
from slowfast_dist.data.samples.batch import batch_bytes
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.data.videos.labelled import LabelledVideos
from slowfast_dist.data.workers import (
    end_workers,
    plan_workers,
    prepare_workers,
    require_shared_memory,
)
from slowfast_dist.distributed.accelerator import local_processes
from slowfast_dist.distributed.collectives import run_on_main
from slowfast_dist.distributed.failures import faults_as_run_errors, shutdown
from slowfast_dist.metrics.scores import (
    ALL_CLASSES,
    MACRO_CLASSES,
    cross_entropy,
    softmax,
    top_k_accuracies,
)
from slowfast_dist.metrics.summary import Predictions, summarise
from slowfast_dist.metrics.uncertainty import expected_calibration_error, reliability
from slowfast_dist.metrics.unknown import choose_min_confidence, unknown_facts, unknown_line
from slowfast_dist.runs.best_model import BestModel
from slowfast_dist.runs.folder import write_unreadable
from slowfast_dist.runs.predictions import write_predictions
from slowfast_dist.runs.videos import trained_on
from slowfast_dist.system.described_file import ReplacedMeanwhile
from slowfast_dist.system.files import reason_of
from slowfast_dist.system.log import logger
from slowfast_dist.system.memory import freed_memory_kept, give_back_free_memory
from slowfast_dist.system.text import FORMULA
from slowfast_dist.tracking.console import print_scores
from slowfast_dist.training.evaluation import Scores, evaluate


@faults_as_run_errors()
def run_evaluation(run: Path, command: EvaluateCommand) -> dict[str, Any]:
    """Score the videos with the best model of ``run``; returns what metrics.json then holds.

    Collective: every process calls it with the same arguments. Raises UserError for mistakes of
    the user's and RunError for what ends it from outside.
    """
    while True:
        with suppress(ReplacedMeanwhile):  # by a training that goes on; nothing is written yet
            return run_over_time(run, command) if command.segments else _evaluate(run, command)


def _evaluate(run: Path, command: EvaluateCommand) -> dict[str, Any]:
    """Of clips; as `run_evaluation`."""
    refuse_unused(
        command, ("window", "stride", "smoothing", "wandb_mode"),
        "goes with --segments: add it, or leave it out",
    )
    prepare_workers(command.num_workers)  # first: before other threads start
    opened = open_evaluation(run, command)
    accelerator, best, found = opened.accelerator, opened.best, opened.found
    data, name = opened.data, opened.name
    if command.unknown_recall is not None:
        best.require_one_label("--unknown-recall")
    views = best.views(command.temporal_views, command.spatial_crops, command.flip)
    asked: dict[str, Any] = {
        "temporal_views": views.temporal_views, "spatial_crops": views.spatial_crops,
        "flip": views.flip,
    }  # fmt: skip
    if found.split is not None:
        asked["split"] = found.split
    output = run_on_main(
        accelerator, lambda: make_output(best.folder, data, name, command.output, asked)
    )
    clips = EvaluationClips(found.videos, best.data, views.temporal_views, views.spatial_crops)
    size = batch_bytes(best.data, command.batch_size)
    plan = plan_workers(command.num_workers, local_processes(), size)
    for note in plan.notes:
        logger.info(note)
    require_shared_memory(plan, size)
    loader = make_evaluation_loader(
        clips, command.batch_size, plan, accelerator.process_index, accelerator.num_processes,
        pin=accelerator.device.type == "cuda",
    )  # fmt: skip
    answers = choose_answers(best, opened.network, accelerator, command, clips)
    try:
        with freed_memory_kept(accelerator.device.type == "cpu"):
            scores = evaluate(
                "evaluation", answers.network, loader, accelerator, views.flip, best.swaps
            )  # fmt: skip
    finally:
        end_workers(loader)
    backend, precision = answers.backend, answers.precision
    del answers  # OpenVINO's weights and activations, before the results need memory
    give_back_free_memory()
    if scores is None:
        raise RunError("the evaluation was asked to stop; nothing was written")
    if len(broken := np.flatnonzero(~np.isfinite(scores.logits).all(axis=1))):
        first = found.videos.sample(scores.videos[broken[0]])
        raise RunError(
            f"the model's output is not a number for {len(broken)} of {len(scores.videos)} videos, "
            f"the first is {first}: nothing was written; are its weights damaged? "
            "--mixed-precision no may help"
        )
    facts = {
        "data": os.path.abspath(data), "epoch": best.epoch,
        "backend": backend, "mixed_precision": precision,
        "trained_in": best.mixed_precision, **asked,
    }  # fmt: skip
    content = run_on_main(
        accelerator, lambda: _write(output, best, found, scores, command, name, facts)
    )
    shutdown(accelerator)
    return content


def _write(
    output: Path, best: BestModel, found: LabelledVideos, scores: Scores,
    command: EvaluateCommand, name: str, facts: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Write the results, metrics.json last, and print them; returns metrics.json's content."""
    failed = [(found.videos.sample(f.video), f.reason, "evaluation") for f in scores.unreadable]
    unreadable = [*found.rejected, *failed]
    scored = found.videos.select(scores.videos)
    names = list(scored.samples())
    task = best.task
    own = scores
    if best.temperature != 1:
        scores = replace(scores, logits=scores.logits / best.temperature)
    predictions = Predictions.from_logits(names, scores.labels, scores.logits, best.classes, task)
    summary = summarise(predictions, command.hardest, command.resamples)
    content = as_json({
        **scores.metrics(task), "unreadable": len(unreadable), **facts,
        "intervals": summary.intervals,
        "per_class": task.per_class(scores.logits, scores.labels, best.classes),
        **({"thresholds": task.thresholds} if task.several else {
            **top_k_accuracies(scores.labels, scores.logits, command.top_k),
            "ece": summary.ece, "confusion": summary.confusion.tolist(),
            "calibration": [asdict(one) for one in summary.bins],
            "temperature": best.temperature,
            **({"uncalibrated": _uncalibrated(own)} if best.temperature != 1 else {}),
        }),
        "hardest": [asdict(one) for one in summary.hardest],
    })  # fmt: skip
    if len(scored) and (least := _min_confidence(best, scores, command)):
        content["unknown"] = as_json(unknown_facts(scores.labels, scores.logits, least))
    listed = output / "unreadable_videos.csv"
    try:
        if unreadable:
            write_unreadable(listed, unreadable, command.csv_safe)
        else:
            listed.unlink(missing_ok=True)  # of an evaluation before this one
        write_left_out(output / LEFT_OUT, [found.left_out])
        if not len(scored):
            raise RunError(f"none of the {len(unreadable)} videos can be read: see {listed}")
        write_predictions(
            output / "predictions.csv", list(scored.names), scores.labels, scores.logits,
            best.classes, scored.extra(), command.csv_safe, task,
        )  # fmt: skip
        write_metrics(output, content)
    except OSError as error:
        raise RunError(f"cannot write the evaluation to {output}: {reason_of(error)}") from error
    print_scores(name, content)
    _print_remarks(best, content, command)
    also = f"; {len(unreadable)} could not be read: unreadable_videos.csv" if unreadable else ""
    if seen := trained_on(best.folder, found.videos):
        print(
            f"warning: {seen} of the {found.videos.counted()} are training videos of this run: "
            "the numbers are too good"
        )
    texts = {*names, *best.classes, *(name for name, *_ in unreadable)}
    if changed := sum(text.startswith(FORMULA) for text in texts) * command.csv_safe:
        print(f"  --csv-safe: {changed} names have an apostrophe before them in the CSV files")
    print(f"{scored.counted()} scored by the model of epoch {best.epoch}{also}")
    print(f"metrics.json and predictions.csv are in {output}", flush=True)
    return content


def _uncalibrated(scores: Scores) -> dict[str, float]:
    """What the model's temperature changes, without it: for scores of one label a video."""
    bins = reliability(scores.labels, softmax(scores.logits))
    return {
        "loss": cross_entropy(scores.logits, scores.labels),
        "ece": expected_calibration_error(bins),
    }  # fmt: skip


def _min_confidence(best: BestModel, scores: Scores, command: EvaluateCommand) -> float:
    """Below which `unknown` is said: chosen here if asked for, else the model's own; 0: never."""
    if command.unknown_recall is None:
        return best.min_confidence
    return choose_min_confidence(scores.labels, scores.logits, command.unknown_recall)


def _print_remarks(best: BestModel, content: dict[str, Any], command: EvaluateCommand) -> None:
    """What a reader of the table should know of it."""
    clips, crops, classes = content["temporal_views"], content["spatial_crops"], len(best.classes)
    if clips * crops > 1:
        shapes = f"{clips} clip{'s' * (clips > 1)} x {crops} crop{'s' * (crops > 1)}"
        print(f"  a video's probabilities are the mean of its {clips * crops} views: {shapes}")
    if content.get("flip"):
        print("  each view is scored mirrored, too: it is the mean of both")
    if "uncalibrated" in content:
        before = content["uncalibrated"]
        print(
            f"  probabilities are with the model's temperature, {best.temperature:.3g}; without "
            f"it: loss {before['loss']:.4f}, calibration error (ECE) {before['ece']:.4f}"
        )
    precision, own = content["mixed_precision"], best.mixed_precision
    if own is not None and precision != own:
        print(
            f"  scored in --mixed-precision {precision}, where the run trained and validated in "
            f"{own}: scores may differ a little from the run's own"
        )
    if "unknown" in content:
        print(f"  unknown: {unknown_line(content['unknown'])}")
    elif command.unknown_recall is not None:
        print("  unknown: none is wrong, so nothing tells a --min-confidence")
    missing = [row["class"] for row in content["per_class"] if not row["support"]]
    if missing:
        have = "has" if len(missing) == 1 else "have"
        line = f"  {len(missing)} of the model's {classes} classes {have} no video here: "
        if content[MACRO_CLASSES] == classes:
            line += "macro averages count such a class as 0, as it occurs in predictions"
        else:
            line += (
                f"macro averages are over the {content[MACRO_CLASSES]} that occur in labels or "
                f"predictions; over all {classes}, F1 is {content['f1_macro' + ALL_CLASSES]:.4f}"
            )
        print(line)
    if best.task.several:
        print("  F1 and its like: each class at its threshold, chosen on the run's validation")
        return
    useless = [f"top-{k}" for k in sorted(set(command.top_k)) if k >= classes]
    if useless:
        print(f"  {', '.join(useless)} left out: there are {classes} classes")
