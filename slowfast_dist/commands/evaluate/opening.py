"""What every evaluation begins with: the flags that it takes, the model, the videos to score."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import Accelerator

from slowfast_dist.commands.evaluate.backend import may_do_without_torch
from slowfast_dist.config.checks import require
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.fields import Backend
from slowfast_dist.config.training import DistributedConfig
from slowfast_dist.data.background.drawn import ScoredBackground
from slowfast_dist.data.videos.labelled import LabelledVideos, find_labelled_videos, readable_videos
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.distributed.collectives import run_on_main
from slowfast_dist.inference.metadata import has_own_weights
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import BestModel, read_best
from slowfast_dist.runs.settings import own_image_rate
from slowfast_dist.runs.videos import (
    own_training_list,
    own_validation,
    start_of_paths,
)
from slowfast_dist.system.log import logger
from slowfast_dist.training.evaluation import load_everywhere
from slowfast_dist.video.reader import decoder_reasons


@dataclass(frozen=True)
class Opened:
    """``network``: with the best weights, the same on every process, on the accelerator's device;
    None: it may not be needed; ``data``: what names the videos ``found``; ``name``: what they are
    called."""

    accelerator: Accelerator
    best: BestModel
    network: SlowFast | None
    data: Path
    name: str
    found: LabelledVideos


def open_evaluation(run: Path, command: EvaluateCommand) -> Opened:
    """Collective. Says what is to be known of the videos. Raises UserError for what cannot be
    scored."""
    timeout = DistributedConfig().timeout
    accelerator = make_accelerator(command.mixed_precision, timeout, shared_folder=run)
    best, network = _load(run, accelerator, command.backend)
    if command.segments:
        best.require_one_label("--segments")
    # What cannot be is refused before anything is read.
    views = best.views(command.temporal_views, command.spatial_crops, command.flip)
    best = replace(best, evaluation=replace(best.evaluation, flip=views.flip))
    data, name, found = run_on_main(accelerator, lambda: _find(best, command))
    for line in decoder_reasons(found.videos.kinds(), best.data.decoder):
        logger.info(line)
    for line in best.picture_notes(found.videos.pictures()):
        logger.warning(line)
    parts = found.videos.segments
    if parts is None or parts.boxes is None:
        for line in best.region_notes("give a list with these columns in --data"):
            logger.warning(line)
    files = found.videos.per_file()
    for line in best.rate_notes(files.rates(), files.names.__getitem__):
        logger.warning(line)
    return Opened(accelerator, best, network, data, name, found)


def _load(
    run: Path, accelerator: Accelerator, backend: Backend
) -> tuple[BestModel, SlowFast | None]:
    """The best model, and torch's network unless one process may do without. Collective. Raises as
    `load_everywhere`."""
    alone = accelerator.num_processes == 1 and accelerator.device.type == "cpu"
    if alone and may_do_without_torch(backend):
        best = read_best(run)
        if has_own_weights(best):
            return best, None
    return load_everywhere(run, accelerator)  # which says what is wrong with weights


def refuse_unused(command: EvaluateCommand, names: Iterable[str], reason: str) -> None:
    """Raise UserError where one of these flags was given another value than it has anyway."""
    usual = EvaluateCommand()
    for name in names:
        value = getattr(command, name)
        if value != getattr(usual, name):
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise UserError(f"--{name.replace('_', '-')} {shown}: {reason}")


def _find(best: BestModel, command: EvaluateCommand) -> tuple[Path, str, LabelledVideos]:
    """What names the videos, what they are called, and those that can be read."""
    whole, several = command.segments, best.task.several
    rate = command.image_fps or own_image_rate(best.folder)
    clips, drawn = replace(best.data, image_fps=rate), None
    if best.background is not None and not whole:
        seconds = best.video_seconds or 0.0
        drawn = ScoredBackground(best.background, best.data, seconds, best.seed)
    if (data := command.data) is not None:
        path = Path(os.path.abspath(data))  # "." has no name
        name = path.stem if path.is_file() else path.name
        start = start_of_paths(data, command.videos)
        require(
            not whole or best.background is None or data.name != "split.csv", "data", data,
            "split.csv of a run has clips of the background as they were drawn, not all that is "
            "known of its files: leave --data out, or give the list that was trained on",
        )  # fmt: skip
        found = find_labelled_videos(
            data, "data", best.classes, start, command.split, several, clips, drawn, whole
        )
        return data, name, found
    for flag, value in (("videos", command.videos), ("split", command.split)):
        require(value is None, flag, value, "is for a CSV in --data: give that too")
    place, listing = own_validation(best.folder, best.classes, several, whole)
    if drawn is not None:
        drawn = replace(drawn, other=own_training_list(best.folder))
    return place, "val", readable_videos(listing, place, "data", clips, drawn)
