"""The command ``evaluate``: a run's best model on any labelled videos, each scored once."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from slowfast_dist.annotations.importing.writing import LEFT_OUT, write_left_out
from slowfast_dist.config.checks import require
from slowfast_dist.config.commands import EvaluateCommand
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.training import DistributedConfig
from slowfast_dist.data.dataset import EvaluationClips, batch_bytes
from slowfast_dist.data.listing.background import ScoredBackground
from slowfast_dist.data.loaders import (
    LabelledVideos,
    find_labelled_videos,
    make_evaluation_loader,
    readable_videos,
)
from slowfast_dist.data.workers import (
    end_workers,
    plan_workers,
    prepare_workers,
    require_shared_memory,
)
from slowfast_dist.distributed.accelerator import local_processes, make_accelerator
from slowfast_dist.distributed.collectives import run_on_main, share_weights
from slowfast_dist.distributed.failures import faults_as_run_errors, shutdown
from slowfast_dist.metrics.scores import ALL_CLASSES, MACRO_CLASSES, top_k_accuracies
from slowfast_dist.metrics.summary import Predictions, summarise
from slowfast_dist.metrics.unknown import choose_min_confidence, unknown_facts, unknown_line
from slowfast_dist.model.slowfast import SlowFast, rebuild
from slowfast_dist.runs.best_model import BestModel, load_best
from slowfast_dist.runs.folder import RunFolder, write_unreadable
from slowfast_dist.runs.metrics_file import plain
from slowfast_dist.runs.predictions import write_predictions
from slowfast_dist.runs.reading import mapping, read_json
from slowfast_dist.runs.videos import own_image_rate, own_validation, start_of_paths, trained_on
from slowfast_dist.system.files import atomic_write, reason_of
from slowfast_dist.system.log import logger
from slowfast_dist.system.text import FORMULA
from slowfast_dist.tracking.console import print_scores
from slowfast_dist.training.evaluation import Scores, evaluate
from slowfast_dist.video.reader import decoder_reasons


@faults_as_run_errors()
def run_evaluation(run: Path, command: EvaluateCommand) -> dict[str, Any]:
    """Score the videos with the best model of ``run``; returns what metrics.json then holds.

    Collective: every process calls it with the same arguments. Raises UserError for mistakes of
    the user's and RunError for what ends it from outside.
    """
    prepare_workers(command.num_workers)  # first: before other threads start
    timeout = DistributedConfig().timeout
    accelerator = make_accelerator(command.mixed_precision, timeout, shared_folder=run)
    best, network = _load(run, accelerator)
    views = best.views(command.temporal_views, command.spatial_crops)
    data, name, found = run_on_main(accelerator, lambda: _find(best, command))
    for line in decoder_reasons(found.videos.kinds(), best.data.decoder):
        logger.info(line)
    for line in best.picture_notes(found.videos.pictures()):
        logger.warning(line)
    files = found.videos.per_file()
    for line in best.rate_notes(files.rates(), files.names.__getitem__):
        logger.warning(line)
    asked: dict[str, Any] = {
        "temporal_views": views.temporal_views, "spatial_crops": views.spatial_crops,
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
    try:
        scores = evaluate("evaluation", network, loader, accelerator)
    finally:
        end_workers(loader)
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
        "mixed_precision": accelerator.mixed_precision, "trained_in": best.mixed_precision, **asked,
    }  # fmt: skip
    content = run_on_main(
        accelerator, lambda: _write(output, best, found, scores, command, name, facts)
    )
    shutdown(accelerator)
    return content


def _find(best: BestModel, command: EvaluateCommand) -> tuple[Path, str, LabelledVideos]:
    """What names the videos, what they are called, and those that can be read."""
    rate = command.image_fps or own_image_rate(best.folder)
    clips = replace(best.data, image_fps=rate)
    drawn = None
    if best.background is not None:
        seconds = best.video_seconds or 0.0
        drawn = ScoredBackground(best.background, best.data, seconds, best.seed)
    if (data := command.data) is not None:
        path = Path(os.path.abspath(data))  # "." has no name
        name = path.stem if path.is_file() else path.name
        start = start_of_paths(data, command.videos)
        several = best.task.several
        found = find_labelled_videos(
            data, "data", best.classes, start, command.split, several, clips, drawn
        )
        return data, name, found
    for flag, value in (("videos", command.videos), ("split", command.split)):
        require(value is None, flag, value, "is for a CSV in --data: give that too")
    place, listing = own_validation(best.folder, best.classes, best.task.several)
    return place, "val", readable_videos(listing, place, "data", clips, drawn)


def _load(run: Path, accelerator: Accelerator) -> tuple[BestModel, SlowFast]:
    """The best model as the main process read it: a run may be writing a new one."""
    loaded: list[SlowFast] = []

    def read() -> BestModel:
        best, network = load_best(run)
        loaded.append(network)
        return best

    best = run_on_main(accelerator, read)
    network = loaded[0] if loaded else rebuild(best.model)
    network.to(accelerator.device)
    share_weights(accelerator, network)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return best, network


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
    predictions = Predictions.from_logits(names, scores.labels, scores.logits, best.classes, task)
    summary = summarise(predictions, command.hardest, command.resamples)
    content = _plain({
        **scores.metrics(task), "unreadable": len(unreadable), **facts,
        "intervals": summary.intervals,
        "per_class": task.per_class(scores.logits, scores.labels, best.classes),
        **({"thresholds": task.thresholds} if task.several else {
            **top_k_accuracies(scores.labels, scores.logits, command.top_k),
            "ece": summary.ece, "confusion": summary.confusion.tolist(),
            "calibration": [asdict(one) for one in summary.bins],
        }),
        "hardest": [asdict(one) for one in summary.hardest],
    })  # fmt: skip
    if len(scored) and (least := _min_confidence(best, scores, command)):
        content["unknown"] = _plain(unknown_facts(scores.labels, scores.logits, least))
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
        with atomic_write(output / "metrics.json") as file:
            # Bytes of --data that are no UTF-8 become JSON's escapes, which read back as they were.
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            file.write(text.encode("utf-8", "backslashreplace"))
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


def _min_confidence(best: BestModel, scores: Scores, command: EvaluateCommand) -> float:
    """Below which `unknown` is said: chosen here if asked for, else the model's own; 0: never."""
    if command.unknown_recall is None:
        return best.min_confidence
    return choose_min_confidence(scores.labels, scores.logits, command.unknown_recall)


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


WRITTEN = {
    "predictions.csv": (b"path,label,prediction,", b"path,labels,predictions,"),
    "unreadable_videos.csv": (b"path,reason,where",),
    LEFT_OUT: (b"what,file,where",),
}
"""How the lists of an evaluation begin."""


def make_output(
    models: Path, data: Path, name: str, output: Path | None, views: Mapping[str, Any]
) -> Path:
    """The folder for the results on ``data``, made if need be.

    Unless it is given: evaluation-NAME in the run's folder, or in ``models`` where that lies alone;
    evaluation-NAME-2 and so on where an evaluation of other data or ``views`` has that name.
    Raises UserError for a folder that cannot be made, and for one that holds an evaluation of other
    data or files that nothing here wrote.
    """
    asked = os.path.abspath(data)
    if output is None:
        run = Path(os.path.normpath(models / ".."))
        place = (run if RunFolder(run).holds_run() else models) / f"evaluation-{name}"
        wanted = {"data": asked, **views}.items()
        later = (place.with_name(f"{place.name}-{number}") for number in count(2))
        # The first of these that holds no evaluation, or one of the same.
        output = next(
            folder
            for folder in chain([place], later)
            if not (facts := _evaluation(folder / "metrics.json")) or wanted <= facts.items()
        )
    elif RunFolder(output).holds_run():
        raise UserError(f"--output {output} holds a run, whose files are kept: give a new folder")
    try:
        output.mkdir(parents=True, exist_ok=True)
        foreign = _foreign(output)
    except OSError as error:
        raise UserError(
            f"--output {output}: cannot create it ({error.strerror}): give another folder"
        ) from None
    if foreign:
        raise UserError(
            f"--output {output}: holds a {foreign} that no evaluation wrote, which is kept: give "
            "another folder"
        )
    if (other := _evaluation(output / "metrics.json").get("data", asked)) != asked:
        raise UserError(
            f"--output {output}: holds the evaluation of {other}, which is kept: give another"
        )
    return output


def _evaluation(path: Path) -> dict[str, Any]:
    """The metrics.json of an evaluation; nothing where it is none, or cannot be read."""
    content = mapping(read_json(path))
    return content if {"data", "accuracy"} <= content.keys() else {}


def _foreign(folder: Path) -> str | None:
    """The file in ``folder`` that an evaluation would replace, and none wrote. Raises OSError."""
    metrics = folder / "metrics.json"
    if metrics.exists() and not _evaluation(metrics):
        return metrics.name
    for name, begin in WRITTEN.items():
        path = folder / name
        if path.exists():
            with open(path, "rb") as file:
                if not file.read(max(map(len, begin))).startswith(begin):
                    return name
    return None
