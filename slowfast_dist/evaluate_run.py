"""The command ``evaluate``: a run's best model on any labelled videos, each scored once."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from slowfast_dist.best_model import BestModel, read_best
from slowfast_dist.config import DistributedConfig, EvaluateCommand, RunError
from slowfast_dist.data.dataset import EvaluationClips
from slowfast_dist.data.loaders import (
    LabelledVideos,
    decoding_workers,
    end_workers,
    find_labelled_videos,
    make_evaluation_loader,
    readable_videos,
)
from slowfast_dist.data.video import decoder_reasons
from slowfast_dist.distributed import (
    faults_as_run_errors,
    leave,
    local_processes,
    make_accelerator,
    on_main,
    only_main,
    say,
    share_weights,
)
from slowfast_dist.evaluate_output import data_name, make_output
from slowfast_dist.evaluation import Scores, evaluate
from slowfast_dist.files import atomic_write
from slowfast_dist.judgement import judge
from slowfast_dist.model import SlowFast, rebuild
from slowfast_dist.own_videos import own_validation, trained_on
from slowfast_dist.progress import Progress, print_scores
from slowfast_dist.run_folder import write_unreadable
from slowfast_dist.tracking import plain, write_predictions


def run_evaluation(run: Path, command: EvaluateCommand) -> dict[str, Any]:
    """Score the videos with the best model of ``run``; returns what metrics.json then holds.

    Collective: every process calls it with the same arguments. Raises UserError for mistakes of
    the user's and RunError for what ends it from outside.
    """
    with faults_as_run_errors():
        return _evaluate(run, command)


def _evaluate(run: Path, command: EvaluateCommand) -> dict[str, Any]:
    accelerator = make_accelerator(command.mixed_precision, DistributedConfig().timeout)
    best = on_main(accelerator, lambda: read_best(run))
    views = best.views(command.temporal_views, command.spatial_crops)
    network = _load(best, accelerator)
    data, name, found = on_main(accelerator, lambda: _find(best, command.data))
    for line in decoder_reasons(found.videos.kinds(), best.data.decoder):
        say(accelerator, line)
    asked = {"temporal_views": views.temporal_views, "spatial_crops": views.spatial_crops}
    output = on_main(
        accelerator, lambda: make_output(best.folder, data, name, command.output, asked)
    )
    clips = EvaluationClips(found.videos, best.data, views.temporal_views, views.spatial_crops)
    loader = make_evaluation_loader(
        clips,
        command.batch_size,
        decoding_workers(command.num_workers, local_processes()),
        accelerator.process_index,
        accelerator.num_processes,
        pin=accelerator.device.type == "cuda",
    )
    silent = not accelerator.is_main_process
    try:
        with Progress("evaluation", len(loader), silent=silent) as progress:
            scores = evaluate(
                network,
                progress.over(loader, accelerator.num_processes),
                accelerator,
                len(found.videos),
                clips.views,
                len(best.classes),
            )
    finally:
        end_workers(loader)
    if scores is None:
        raise RunError("the evaluation was asked to stop; nothing was written")
    facts = {
        "data": os.path.abspath(data),
        "epoch": best.epoch,
        "mixed_precision": accelerator.mixed_precision,
        **asked,
    }
    content = on_main(
        accelerator, lambda: _write(output, best, found, scores, command, name, facts)
    )
    leave(accelerator)
    return content


def _find(best: BestModel, data: Path | None) -> tuple[Path, str, LabelledVideos]:
    """What names the videos, what they are called, and those that can be read."""
    if data is not None:
        return data, data_name(data), find_labelled_videos(data, "data", best.classes)
    place, listing = own_validation(best.folder, best.classes)
    return place, "val", readable_videos(listing, place, "data")


def _load(best: BestModel, accelerator: Accelerator) -> SlowFast:
    """The network with the weights as the main process read them: a run may be writing new ones."""
    network = only_main(accelerator, best.load)
    if network is None:
        network = rebuild(best.model)
    network.to(accelerator.device)
    share_weights(accelerator, network)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


def _write(
    output: Path,
    best: BestModel,
    found: LabelledVideos,
    scores: Scores,
    command: EvaluateCommand,
    name: str,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Write the results, metrics.json last, and print them; returns metrics.json's content."""
    failed = [(found.videos[f.video].name, f.reason, "evaluation") for f in scores.unreadable]
    unreadable = [*found.rejected, *failed]
    names = [found.videos[video].name for video in scores.videos]
    judged = judge(
        scores.labels,
        scores.logits,
        names,
        best.classes,
        ks=command.top_k,
        hardest=command.hardest,
        resamples=command.resamples,
    )
    content = _plain({**scores.metrics(), "unreadable": len(unreadable), **facts, **judged})
    listed = output / "unreadable_videos.csv"
    try:
        if unreadable:
            write_unreadable(listed, unreadable)
        else:
            listed.unlink(missing_ok=True)  # of an evaluation before this one
        if not names:
            raise RunError(f"none of the {len(unreadable)} videos can be read: see {listed}")
        write_predictions(
            output / "predictions.csv", names, scores.labels, scores.logits, best.classes
        )
        with atomic_write(output / "metrics.json") as file:
            # Bytes of --data that are no UTF-8 become JSON's escapes, which read back as they were.
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            file.write(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise RunError(f"cannot write the evaluation to {output}: {error.strerror}") from error
    print_scores(name, content)
    _print_remarks(best, content, command)
    also = f"; {len(unreadable)} could not be read: unreadable_videos.csv" if unreadable else ""
    if seen := trained_on(best.folder, found.videos):
        print(
            f"warning: {seen} of the {len(found.videos)} videos are training videos of this run: "
            "the numbers are too good"
        )
    print(f"{len(names)} videos scored by the model of epoch {best.epoch}{also}")
    print(f"metrics.json and predictions.csv are in {output}", flush=True)
    return content


def _plain(value: Any) -> Any:
    """As JSON can hold it; NaN and infinity, which a model that diverged may give, become null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else plain(value)


def _print_remarks(best: BestModel, content: dict[str, Any], command: EvaluateCommand) -> None:
    """What a reader of the table should know of it."""
    clips, crops, classes = content["temporal_views"], content["spatial_crops"], len(best.classes)
    if clips * crops > 1:
        shapes = f"{clips} clip{'s' * (clips > 1)} x {crops} crop{'s' * (crops > 1)}"
        print(f"  a video's probabilities are the mean of its {clips * crops} views: {shapes}")
    missing = [row["class"] for row in content["per_class"] if not row["support"]]
    if missing:
        print(
            f"  {len(missing)} of the model's {classes} classes have no video here: "
            "macro averages count them as 0"
        )
    useless = [f"top-{k}" for k in sorted(set(command.top_k)) if k >= classes]
    if useless:
        print(f"  {', '.join(useless)} left out: there are {classes} classes")
