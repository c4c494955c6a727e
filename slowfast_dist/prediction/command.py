"""The command ``predict``: what happens in videos or a live source, by a run's best model."""

import os
from collections.abc import Sequence
from pathlib import Path

from slowfast_dist.config import UserError
from slowfast_dist.model_settings import Predict
from slowfast_dist.prediction.ending import (
    ends_at_signals,
    ends_with_its_pipe,
    interrupted_at_once,
)
from slowfast_dist.prediction.inputs import find_inputs


def run_predict(run: Path, words: Sequence[str], command: Predict) -> None:
    """Print what the best model of ``run`` says of each INPUT.

    Exits with code 1 where a video could not be read. Raises UserError for mistakes of the user's
    and RunError for what ends it from outside.
    """
    _require_one_process()
    found = find_inputs(words)
    _refuse_what_has_no_effect(command, found.live is not None)
    if found.live is None and (command.segments or command.annotate):
        _make(command.output)
    with interrupted_at_once():  # torch comes only now: a mistake above does not wait for it
        from slowfast_dist.distributed import faults_as_run_errors
        from slowfast_dist.prediction.files import predict_files
        from slowfast_dist.predictor import open_predictor

        with faults_as_run_errors():
            predictor = open_predictor(run, command.backend, command.mixed_precision)
    with faults_as_run_errors(), ends_with_its_pipe():
        if found.live is not None:
            from slowfast_dist.prediction.live import watch

            watch(predictor, found.live, command)
            return
        with ends_at_signals():
            failed = predict_files(predictor, found, command)
    if failed:
        raise SystemExit(1)


def _refuse_what_has_no_effect(command: Predict, live: bool) -> None:
    useless: dict[str, str] = {}
    if live:
        for name in ("segments", "annotate", "smoothing", "output"):
            useless[name] = "is for video files, not for a live source: leave it out"
    else:
        useless["seconds"] = "is for a live source: leave it out"
        if not (command.segments or command.annotate):
            for name in ("window", "stride", "smoothing", "output"):
                useless[name] = "goes with --segments or --annotate: add one, or leave it out"
    usual = Predict()
    for name, reason in useless.items():
        value = getattr(command, name)
        if value != getattr(usual, name):
            given = f"--{name}" if value is True else f"--{name} {value}"
            raise UserError(f"{given}: {reason}")


def _require_one_process() -> None:
    count = os.environ.get("WORLD_SIZE") or "1"
    if count != "1":
        raise UserError(
            f"predict is one process, but the launcher started {count} (WORLD_SIZE): start it with "
            "python -m slowfast_dist predict"
        )


def _make(folder: Path) -> None:
    """Make the folder for what is written now, and not after minutes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--output {folder}: cannot create it ({error.strerror}): give another folder"
        ) from None
