"""What to label next, for the run's own run on wandb."""

from collections.abc import Sequence
from math import nan
from pathlib import Path

import numpy as np

from slowfast_dist.commands.suggest.output import Suggestion
from slowfast_dist.config.commands.suggest import Suggest
from slowfast_dist.data.listing.segments import locate
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.runs.best_model import BestModel
from slowfast_dist.runs.settings import own_image_rate, run_of
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.tracking.wandb_late import open_late, videos_named
from slowfast_dist.tracking.wandb_media import Suggested, suggested_table
from slowfast_dist.tracking.wandb_panels import Panels, joined_panels, suggested_panels
from slowfast_dist.video.reader import VideoInfo


def log_suggested(best: BestModel, chosen: Sequence[Suggestion], command: Suggest) -> None:
    """Log of which predicted class how many were ``chosen``; where the training was to name videos,
    so many of them, too, with their file's name and an excerpt. Nothing where the run was not
    logged."""
    folder = run_of(best.folder)
    named = list(chosen[: videos_named(folder)])
    names = f"names and excerpts of {len(named)} of them" if named else "no videos, no names"
    holds = f"how many videos of which predicted class to label next, class names; {names}"
    run = open_late(folder, command.wandb_mode, holds)

    def draw() -> Panels:
        counted = suggested_panels([(one.predicted, one.probability) for one in chosen])
        if not named:
            return counted
        rate = command.image_fps or own_image_rate(best.folder)
        table = suggested_table(_with_infos(named, rate), best.data)
        return joined_panels(counted, Panels({}, {"suggested/videos": table}))

    run.log_panels(draw)
    run.finish(0)


def _with_infos(chosen: Sequence[Suggestion], image_fps: float | None) -> list[Suggested]:
    """With what their files hold, and the frames of a part; without the folders of their names."""
    files = list(dict.fromkeys(one.path for one in chosen))
    table = VideoTable.of_paths([Path(file) for file in files])
    answers = probe_videos(table, available_cpus(), default_cache(), False, image_fps)
    infos = dict(zip(files, answers, strict=True))
    return [_suggested(one, infos[one.path]) for one in chosen]


def _suggested(one: Suggestion, info: VideoInfo | str) -> Suggested:
    known = None if isinstance(info, str) else info
    span: tuple[int, int] | None = None
    if known is not None and one.start is not None:
        bounds = np.array([[one.start, nan if one.end is None else one.end]])
        first, end = locate(known, bounds).spans[0].tolist()
        span = (first, end) if 0 <= first < end <= known.frames else None
    return Suggested(
        Path(one.name).name, Path(one.path), known, span, one.predicted, one.probability, one.reason
    )
