"""The command ``evaluate``: a run's best model on any labelled videos, each scored once."""

import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from slowfast_dist.best_model import BestModel, read_best
from slowfast_dist.config import DistributedConfig, EvaluateCommand, RunError, UserError
from slowfast_dist.data.dataset import EvaluationClips
from slowfast_dist.data.loaders import (
    LabelledVideos,
    decoding_workers,
    end_workers,
    find_labelled_videos,
    make_evaluation_loader,
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
from slowfast_dist.evaluation import Scores, evaluate
from slowfast_dist.files import write_json
from slowfast_dist.metrics import confusion, per_class, predicted
from slowfast_dist.model import SlowFast, rebuild
from slowfast_dist.progress import Progress, print_scores
from slowfast_dist.run_folder import RunFolder, write_unreadable
from slowfast_dist.tracking import plain, write_predictions


def run_evaluation(run: Path, command: EvaluateCommand) -> dict[str, Any]:
    """Score the videos with the best model of ``run``; returns what metrics.json then holds.

    Collective: every process calls it with the same arguments. Raises UserError for mistakes of
    the user's and RunError for what ends it from outside.
    """
    with faults_as_run_errors():
        return _evaluate(run, command)


def _evaluate(run: Path, command: EvaluateCommand) -> dict[str, Any]:
    assert command.data is not None
    data = command.data
    accelerator = make_accelerator(command.mixed_precision, DistributedConfig().timeout)
    best = on_main(accelerator, lambda: read_best(run))
    network = _load(best, accelerator)
    found = on_main(accelerator, lambda: find_labelled_videos(data, "data", best.classes))
    for line in decoder_reasons(found.videos.kinds(), best.data.decoder):
        say(accelerator, line)
    output = on_main(accelerator, lambda: _make_output(best.folder, data, command.output))
    views = best.evaluation
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
    }
    content = on_main(accelerator, lambda: _write(output, best, found, scores, facts))
    leave(accelerator)
    return content


def _load(best: BestModel, accelerator: Accelerator) -> SlowFast:
    """The network with the weights as the main process read them: a run may be writing new ones."""
    network = only_main(accelerator, best.load)
    if network is None:
        network = rebuild(best.model)
    network.to(accelerator.device)
    share_weights(accelerator, network)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


def _make_output(models: Path, data: Path, output: Path | None) -> Path:
    """The folder for the results, made if need be.

    Unless it is given: in the run's folder, or in ``models`` where that lies alone.
    """
    if output is None:
        run = Path(os.path.normpath(models / ".."))
        output = (run if RunFolder(run).holds_run() else models) / f"evaluation-{_name(data)}"
    elif RunFolder(output).holds_run():
        raise UserError(f"--output {output} holds a run, whose files are kept: give a new folder")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--output {output}: cannot create it ({error.strerror}): give another folder"
        ) from None
    return output


def _name(data: Path) -> str:
    """Of a folder its name, of a CSV the name without the ending; also where data is ``.``."""
    path = Path(os.path.abspath(data))
    return path.stem if path.is_file() else path.name


def _write(
    output: Path, best: BestModel, found: LabelledVideos, scores: Scores, facts: dict[str, Any]
) -> dict[str, Any]:
    """Write the results, metrics.json last, and print a table; returns metrics.json's content."""
    failed = [(found.videos[f.video].name, f.reason, "evaluation") for f in scores.unreadable]
    unreadable = [*found.rejected, *failed]
    metrics = {name: plain(value) for name, value in scores.metrics().items()}
    metrics["unreadable"] = len(unreadable)
    predictions = predicted(scores.logits)
    content = {
        **metrics,
        **facts,
        "per_class": per_class(scores.labels, predictions, best.classes),
        "confusion": confusion(scores.labels, predictions, len(best.classes)).tolist(),
    }
    names = [found.videos[video].name for video in scores.videos]
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
        write_json(output / "metrics.json", content)
    except OSError as error:
        raise RunError(f"cannot write the evaluation to {output}: {error.strerror}") from error
    print_scores(_name(Path(facts["data"])), metrics)
    missing = [row["class"] for row in content["per_class"] if not row["support"]]
    if missing:
        print(
            f"  {len(missing)} of the model's {len(best.classes)} classes have no video here: "
            "macro averages count them as 0"
        )
    also = f"; {len(unreadable)} could not be read: unreadable_videos.csv" if unreadable else ""
    print(f"{len(names)} videos scored by the model of epoch {best.epoch}{also}")
    print(f"metrics.json and predictions.csv are in {output}", flush=True)
    return content
