"""Predictions of files, printed one after the other, each as soon as it is done."""

from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from slowfast_dist.data.video import DecodeError, VideoInfo
from slowfast_dist.model_settings import Predict
from slowfast_dist.prediction.inputs import Input, Inputs
from slowfast_dist.prediction.output import (
    JsonLines,
    Output,
    Table,
    note,
    terminal_columns,
    top,
)
from slowfast_dist.prediction.videos import VideoPrediction, predict_videos
from slowfast_dist.predictor import Predictor
from slowfast_dist.progress import over_files


def predict_files(predictor: Predictor, found: Inputs, command: Predict) -> int:
    """Print what the model says of each file, and do what --segments and --annotate ask for;
    returns how many could not be read."""
    if found.repeated:
        note(f"{found.repeated} of the inputs are files that were given already")
    files, columns = found.files, terminal_columns()
    paths = [given.path for given in files]
    out: Output = JsonLines() if command.json else Table(paths, predictor.classes, columns)
    failed = 0
    with closing(_predictions(predictor, files, command)) as predictions:
        # On a terminal the table itself shows how far it is.
        watched = columns is not None or len(files) == 1
        for one in predictions if watched else over_files(predictions, len(files), "predicting"):
            try:
                if one.probabilities is None or one.info is None:
                    raise DecodeError(one.path, one.reason or "")
                more = _look_closer(predictor, one.path, one.info, command)
            except DecodeError as error:
                out.failure(one.path, error.reason)
                failed += 1
                continue
            ranked = top(one.probabilities, predictor.classes, command.top_k)
            out.prediction(one.path, ranked, one.info, more)
    if failed and len(files) > 1:
        note(f"{failed} of {len(files)} could not be read")
    return failed


def _predictions(
    predictor: Predictor, files: Sequence[Input], command: Predict
) -> Generator[VideoPrediction, None, None]:
    """Of each input in order, also of those of which it is known already that they have none."""
    listed = (given.path for given in files if given.reason is None)
    with closing(predict_videos(predictor, listed, command)) as predictions:
        for given in files:
            if given.reason is None:
                yield next(predictions)
            else:
                yield VideoPrediction(given.path, None, given.reason, None)


def _look_closer(
    predictor: Predictor, path: Path, info: VideoInfo, command: Predict
) -> dict[str, Any]:
    """The "segments" and "files" of --segments and --annotate. Raises DecodeError."""
    if not (command.segments or command.annotate):
        return {}
    from slowfast_dist.prediction.long_video import write_long

    return write_long(predictor, path, info, command, command.output)
