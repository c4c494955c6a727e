"""The command ``predict``: what happens in videos or a live source, by a run's best model."""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowfast_dist.commands.predict.output import JsonLines, Table, terminal_columns, top
from slowfast_dist.config.commands.predict import Predict
from slowfast_dist.config.data import check_box
from slowfast_dist.config.errors import UserError
from slowfast_dist.inference.inputs import Inputs, find_inputs
from slowfast_dist.runs.settings import own_image_rate
from slowfast_dist.system.interrupts import ends_at_signals, ends_with_its_pipe, interrupted_at_once
from slowfast_dist.system.memory import without_collections
from slowfast_dist.system.progress import note, over_files
from slowfast_dist.video.container import DecodeError

if TYPE_CHECKING:
    from slowfast_dist.inference.one_video import EarlyVideo
    from slowfast_dist.inference.predictor import Predictor

EXPLAINING = ("explain", "explain_at", "explain_class", "explain_pathways")
"""The flags of --explain."""


def run_predict(run: Path, words: Sequence[str], command: Predict) -> None:
    """Print what the best model of ``run`` says of each INPUT.

    Exits with code 1 where a video could not be read. Raises UserError for mistakes of the user's
    and RunError for what ends it from outside.
    """
    if (count := os.environ.get("WORLD_SIZE") or "1") != "1":
        raise UserError(
            f"predict is one process, but the launcher started {count} (WORLD_SIZE): start it with "
            "python -m slowfast_dist predict"
        )
    models = run if run.name == "models" else run / "models"
    rate = command.image_fps or own_image_rate(models)
    found = find_inputs(words, rate is not None)
    _refuse_unused_flags(command, found.live is not None)
    check_box(command.crop_box, "crop-box")
    if found.live is None and (command.segments or command.annotate or command.explain):
        try:  # now, and not after minutes
            command.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"--output {command.output}: cannot create it ({error.strerror}): give another "
                "folder"
            ) from None
    with interrupted_at_once():  # torch comes only now: a mistake above does not wait for it
        from slowfast_dist.distributed.failures import faults_as_run_errors
        from slowfast_dist.inference.predictor import open_predictor

        early = None
        if found.live is None and not command.segments and len(found.files) > 1:
            from slowfast_dist.data.workers import prepare_workers

            prepare_workers(command.num_workers)  # before torch's threads start
        with faults_as_run_errors(), without_collections():
            if found.live is None and not (command.segments or command.annotate):
                early = _start_early(run, found, command, rate)
            auto = command.backend == "auto"
            backend = "torch" if auto and command.explain else command.backend
            clips = _clips(run, found, command)
            predictor = open_predictor(
                run, backend, command.mixed_precision, clips, ahead=found.live is not None
            )
            if command.crop_box is not None:
                best = predictor.best.looking_at(command.crop_box)
                predictor = replace(predictor, best=best)
            if command.flip is not None:
                predictor = predictor.with_flip(command.flip)
            if command.min_confidence is not None:
                predictor.best.require_one_label("--min-confidence")
                predictor = predictor.unsure_below(command.min_confidence)
    for flag in ("segments", "annotate"):
        if getattr(command, flag):
            predictor.best.require_one_label(f"--{flag}")
    with faults_as_run_errors(), ends_with_its_pipe():
        if found.live is not None:
            from slowfast_dist.commands.predict.live import watch

            watch(predictor, found.live, command)
            return
        with ends_at_signals():
            failed = predict_files(predictor, found, command, early)
    if failed:
        raise SystemExit(1)


def _clips(run: Path, found: Inputs, command: Predict) -> int | None:
    """About how many there are to compute; None: very many. Raises UserError as `_start_early`."""
    from slowfast_dist.runs.best_model import read_best

    if found.live is not None or command.segments or command.annotate:
        return None
    views = read_best(run).views(command.temporal_views, command.spatial_crops, command.flip)
    return len(found.files) * views.temporal_views * views.spatial_crops * (1 + views.flip)


def _start_early(
    run: Path, found: Inputs, command: Predict, rate: float | None
) -> "EarlyVideo | None":
    """The only video, which is read while torch is imported. Raises UserError for a run without a
    model, and for views that would all be the same."""
    from slowfast_dist.inference.one_video import start_early
    from slowfast_dist.runs.best_model import read_best

    best = read_best(run)
    if command.crop_box is not None:
        best = best.looking_at(command.crop_box)
    views = best.views(command.temporal_views, command.spatial_crops)
    return start_early(found.files, best, views, command.batch_size, rate)


def _refuse_unused_flags(command: Predict, live: bool) -> None:
    unused: dict[str, str] = {}
    if live:
        for name in ("segments", "annotate", "smoothing", "output", "format", *EXPLAINING):
            unused[name] = "is for video files, not for a live source: leave it out"
    else:
        unused["seconds"] = "is for a live source: leave it out"
        if not command.segments:
            unused["format"] = "goes with --segments: add it, or leave it out"
        if not (command.segments or command.annotate):
            for name in ("window", "stride", "smoothing"):
                unused[name] = "goes with --segments or --annotate: add one, or leave it out"
            if not command.explain:
                what = "--segments, --annotate or --explain"
                unused["output"] = f"goes with {what}: add one, or leave it out"
        if not command.explain:
            for name in EXPLAINING:
                unused[name] = "goes with --explain: add it, or leave it out"
    if command.explain and command.backend not in ("auto", "torch"):
        raise UserError(
            f"--backend {command.backend}: gives no gradients, which --explain needs: use torch"
        )
    usual = Predict()
    for name, reason in unused.items():
        value = getattr(command, name)
        if value != getattr(usual, name):
            shown = " ".join(value) if isinstance(value, tuple) else value
            flag = f"--{name.replace('_', '-')}"
            given = flag if value is True else f"{flag} {shown}"
            raise UserError(f"{given}: {reason}")


def predict_files(
    predictor: "Predictor", found: Inputs, command: Predict, early: "EarlyVideo | None" = None
) -> int:
    """Print what the model says of each file, and do what --segments and --annotate ask for;
    returns how many could not be read. ``early``: the only file, where it is being read."""
    if found.skipped:
        note(str(found.skipped))
    if found.repeated:
        note(f"{found.repeated} of the inputs are files that were given already")
    from slowfast_dist.commands.predict.videos import predict_videos
    from slowfast_dist.inference.seen import SeenVideos

    files, columns = found.files, terminal_columns()
    paths = [given.path for given in files]
    least = predictor.best.min_confidence
    out = JsonLines(least) if command.json else Table(paths, predictor.classes, columns, least)
    explainer = None
    if command.explain:
        from slowfast_dist.commands.predict.explanation import VideoExplainer

        explainer = VideoExplainer(predictor, command)
    failed, seen = 0, SeenVideos(
        predictor, command.temporal_views, whole=command.segments or command.annotate
    )
    with closing(predict_videos(predictor, files, command, early)) as predictions:
        # On a terminal the table itself shows how far it is.
        watched = columns is not None or len(files) == 1
        for one in predictions if watched else over_files(predictions, len(files), "predicting"):
            try:
                if one.probabilities is None or one.info is None:
                    raise DecodeError(one.path, one.reason or "")
                more: dict[str, Any] = {}
                if command.segments or command.annotate:
                    from slowfast_dist.commands.predict.segment_files import write_segment_files

                    more = write_segment_files(predictor, one.path, one.info, command)
                if explainer is not None:
                    drawn = explainer.write(one.path, one.info, one.probabilities)
                    drawn["files"] = more.get("files", []) + drawn["files"]
                    more |= drawn
            except DecodeError as error:
                out.failure(one.path, error.reason)
                failed += 1
                continue
            ranked = top(one.probabilities, predictor.classes, command.top_k)
            said = predictor.labels(one.probabilities)
            out.prediction(one.path, ranked, one.info, more, said)
            seen.add(str(one.path), one.info)
    for line in seen.notes():
        note(line)
    if failed and len(files) > 1:
        note(f"{failed} of {len(files)} could not be read")
    return failed
