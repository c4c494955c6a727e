"""``evaluate --segments``: what a run's best model finds when in whole files, against the truth."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.commands.evaluate.backend import choose_answers, predictor_by
from slowfast_dist.commands.evaluate.opening import Opened, open_evaluation, refuse_unused
from slowfast_dist.commands.evaluate.output import make_output
from slowfast_dist.commands.evaluate.over_time_files import write_over_time
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.data.listing.segments import ROUNDING
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.distributed.collectives import any_process, barrier, gather_list, run_on_main
from slowfast_dist.distributed.failures import shutdown
from slowfast_dist.inference.predictor import Predictor
from slowfast_dist.inference.segments import find_segments
from slowfast_dist.inference.windows import Stopped, score_windows
from slowfast_dist.metrics.over_time import score_file
from slowfast_dist.metrics.segmentation import frame_labels
from slowfast_dist.report.timelines import Stretches, TimedFile, parted
from slowfast_dist.runs.best_model import BestModel
from slowfast_dist.runs.settings import folder_of
from slowfast_dist.system import signals
from slowfast_dist.system.memory import give_back_free_memory
from slowfast_dist.system.messages import sendable
from slowfast_dist.system.progress import over_files
from slowfast_dist.tracking.wandb_late import require_logged
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.ordered_reader import ASSUMED_FPS
from slowfast_dist.video.reader import VideoInfo

OF_CLIPS = (
    "temporal_views", "spatial_crops", "top_k", "hardest", "num_workers", "unknown_recall",
)  # fmt: skip
"""Flags that an evaluation of whole files has no use for."""


@sendable
@dataclass(frozen=True)
class FoundInFile:
    """What the model finds in a file, a row of the table of files: ``bounds`` (S, 2) in seconds,
    ``labels`` and ``probabilities`` (S,), from its beginning to its end ``duration`` without gaps;
    or the ``reason`` why it could not be read."""

    file: int
    bounds: NDArray[np.float64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    duration: float
    reason: str = ""


def run_over_time(run: Path, command: EvaluateCommand) -> dict[str, Any]:
    """Returns what metrics.json then holds. Collective; raises as `run_evaluation`.

    Files are shared out to the processes, the longest first; each is scored once.
    """
    refuse_unused(command, OF_CLIPS, "is of clips, not of whole files: leave it out")
    require_logged(folder_of(run), command.wandb_mode)
    opened = open_evaluation(run, command)
    accelerator, best = opened.accelerator, opened.best
    segments = opened.found.videos.segments
    if segments is not None and segments.boxes is not None:
        raise UserError(
            f"--segments: rows of {opened.data} have regions of interest (x,y,w,h), and of whole "
            "files the whole picture is scored: leave --segments out, or give a list without them"
        )
    asked: dict[str, Any] = {"segments": True, "flip": best.evaluation.flip}
    asked |= {name: getattr(command, name) for name in ("window", "stride", "smoothing")}
    if opened.found.split is not None:
        asked["split"] = opened.found.split
    output = run_on_main(
        accelerator,
        lambda: make_output(
            best.folder, opened.data, f"{opened.name}-segments", command.output, asked
        ),
    )
    found, backend, precision = _find(opened, command)
    give_back_free_memory()  # of the network, before the results need memory
    barrier(accelerator)
    if any_process(accelerator, signals.received() is not None):
        raise RunError("the evaluation was asked to stop; nothing was written")
    everything = sorted(gather_list(accelerator, found), key=lambda one: one.file)
    facts = {
        "data": os.path.abspath(opened.data), "epoch": best.epoch,
        "backend": backend, "mixed_precision": precision,
        "trained_in": best.mixed_precision, **asked,
    }  # fmt: skip
    content = run_on_main(
        accelerator, lambda: _score_and_write(output, opened, everything, command, facts)
    )
    shutdown(accelerator)
    return content


def _find(opened: Opened, command: EvaluateCommand) -> tuple[list[FoundInFile], str, str]:
    """What this process finds in its files, until it is asked to stop, the backend and its
    precision. Nothing is computed with the network behind it, so that its weights are let go of."""
    accelerator, best = opened.accelerator, opened.best
    files = opened.found.videos.per_file()
    clips = EvaluationClips(files, best.data)
    answers = choose_answers(best, opened.network, accelerator, command, clips, many=True)
    predictor = predictor_by(answers, best, accelerator)
    mine = share_out(_seconds(files), accelerator.num_processes)[accelerator.process_index]
    found: list[FoundInFile] = []
    try:
        results = (_find_in(predictor, files, file, command) for file in mine)
        silent = not accelerator.is_main_process
        for one in results if silent else over_files(results, len(mine), "files"):
            found.append(one)
    except Stopped:
        pass
    if opened.network is not None:
        opened.network.to("meta")
    return found, answers.backend, answers.precision


def share_out(seconds: NDArray[np.float64], processes: int) -> list[list[int]]:
    """The files of each process: the longest first, each to the process that has the least."""
    shares: list[list[int]] = [[] for _ in range(processes)]
    loads = np.zeros(processes)
    for file in np.argsort(-seconds, kind="stable").tolist():
        least = int(loads.argmin())
        shares[least].append(file)
        loads[least] += seconds[file] + 1e-3  # files of no known length are shared out, too
    return shares


def _seconds(files: VideoTable) -> NDArray[np.float64]:
    return np.array([files.info(row).duration() for row in range(len(files))])


def _find_in(
    predictor: Predictor, files: VideoTable, file: int, command: EvaluateCommand
) -> FoundInFile:
    """Raises Stopped."""
    try:
        scores = score_windows(
            predictor, files.path(file), files.info(file), command.window, command.stride,
            command.batch_size, stop=lambda: signals.received() is not None,
        )  # fmt: skip
    except DecodeError as error:
        none = np.empty(0)
        return FoundInFile(file, none.reshape(0, 2), none.astype(np.int64), none, 0.0, error.reason)
    segments = find_segments(scores, predictor.classes, command.smoothing)
    places = {name: place for place, name in enumerate(predictor.classes)}
    return FoundInFile(
        file,
        np.array([(one.start, one.end) for one in segments]),
        np.array([places[one.label] for one in segments], np.int64),
        np.array([one.probability for one in segments]),
        scores.duration,
    )


def _score_and_write(
    output: Path, opened: Opened, everything: Sequence[FoundInFile], command: EvaluateCommand,
    facts: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    videos, files = opened.found.videos, opened.found.videos.per_file()
    _, places = videos.file_rows()
    order = np.argsort(places, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(places, minlength=len(files)))[:-1])
    timed, failed = [], []
    for one in everything:
        if one.reason:
            failed.append((files.names[one.file], one.reason, "evaluation"))
            continue
        found = {
            name: getattr(one, name) for name in ("bounds", "labels", "probabilities", "duration")
        }
        timed.append(compare(videos, rows[one.file], files.info(one.file), opened.best, **found))
    return write_over_time(
        output, opened, timed, [*opened.found.rejected, *failed], command, facts
    )


def compare(
    videos: VideoTable, rows: NDArray[np.int64], info: VideoInfo, best: BestModel, *,
    bounds: NDArray[np.float64], labels: NDArray[np.int64], probabilities: NDArray[np.float64],
    duration: float,
) -> TimedFile:  # fmt: skip
    """The truth of a file, ``rows`` of ``videos``, beside what was found in it, at the times of its
    own frames: the rest as `FoundInFile`.

    Where the model has a background, time without a row is that, unless rows of the file say where
    it is: the rest then is not annotated.
    """
    classes = len(best.classes)
    background = None if best.background is None else best.classes.index(best.background)
    true_labels = videos.labels[rows].astype(np.int64)
    told = background is None or bool((true_labels == background).any())
    none = classes if told or background is None else background
    starts = info.times()
    starts = np.arange(info.frames) / ASSUMED_FPS if starts is None else starts
    step = float(np.median(np.diff(starts))) if len(starts) > 1 else duration
    shown = np.diff(starts, append=starts[-1] + step)
    spans = np.array([videos.span(row) or (0, info.frames) for row in rows.tolist()], np.int64)
    truth = frame_labels(info.frames, spans.reshape(-1, 2), true_labels, none, background)
    # What was found covers the file: a frame has what is found when it appears.
    place = np.searchsorted(bounds[:, 0], starts + ROUNDING, "right") - 1
    said = labels[np.clip(place, 0, None)]
    end = max(duration, float(starts[-1] + step))
    true_bounds = np.full((len(rows), 2), np.nan)
    if videos.segments is not None:
        true_bounds = videos.segments.bounds[rows]
    true_bounds = np.minimum(np.where(np.isnan(true_bounds), [0.0, end], true_bounds), end)
    first = int(rows[0])
    return TimedFile(
        file=videos.names[first],
        recording=videos.names[first] if videos.groups is None else videos.groups[first],
        row=first,
        duration=end,
        truth=Stretches(true_bounds, true_labels),
        found=Stretches(bounds, labels, probabilities),
        parted=parted(truth, said, starts, shown, classes),
        scores=score_file(truth, said, shown, classes, background),
    )
