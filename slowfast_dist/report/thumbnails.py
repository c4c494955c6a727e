"""A few frames of a video as small JPEGs, read by a process that may hang or die."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.fields import MOST_RATE
from slowfast_dist.data.clips import clip_indices
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.report.sections.samples import (
    NO_PLACE,
    OUTSIDE,
    file_of,
    infos_of,
    outside_of,
    place_of,
    region_in,
    span_of,
)
from slowfast_dist.runs.reading import file_stamp
from slowfast_dist.runs.run import Run
from slowfast_dist.runs.settings import own_image_rate
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.guarded_reader import GuardedReader
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.views import Region, SpatialView

FRAMES = 4
"""Thumbnails of a video: its beginning, two places between, its end, in one row of the page."""
LONG_SIDE = 176
"""Pixels of either side of a thumbnail at most: four fit the width of a column."""
TALLEST = 132
"""Pixels of its height at most, so that upright videos take no more of the page than others."""
QUALITY = 72
"""Of the JPEGs: 3 to 6 kB each, so that a page with twelve videos stays below 300 kB."""
LEAST_SECONDS = 0.05
"""Time left below which no further video is begun: opening one alone takes about that long."""

LATE = "there was no time left to read it: the next report tries again"
"""The reason of a video that was not begun."""


@dataclass(frozen=True)
class TimeLimit:
    """Seconds for the thumbnails of all videos together, and of one."""

    total: float
    each: float


COMMAND_LIMIT = TimeLimit(120.0, 20.0)
"""Of the command ``report``: a video gets as long as it would in training."""
TRAINING_LIMIT = TimeLimit(1.5, 0.75)
"""Of a page at the end of an epoch: what is slower is left to the command."""


@dataclass(frozen=True)
class Thumbnails:
    """``pictures``: JPEG files; or none, and the ``reason``. ``stamp``: of the file they show."""

    pictures: tuple[bytes, ...]
    reason: str = ""
    stamp: tuple[int, ...] = ()


def thumbnails_of(
    run: Run,
    known: Mapping[str, Thumbnails],
    limit: TimeLimit,
    videos: VideoTable | None = None,
    folder: Path | None = None,
    more: Sequence[str] = (),
) -> dict[str, Thumbnails]:
    """The thumbnails of the run's hardest videos, and of ``more``, by their names.

    What is ``known`` of a file that has not changed, or is gone, is taken over. ``videos`` are
    those of a training, whose probe says what they hold; without them a file that the
    probe's cache does not know is probed, in a process of its own and for as long as that takes.

    A run may be another's, and its page be mailed: of the files that it names only those are opened
    that lie, links followed, below the data's root, or anywhere below ``folder``, which the user
    named.
    """
    hardest = run.summary.hardest if run.summary else ()
    names = list(dict.fromkeys([*(one.path for one in hardest), *more]))
    outside = set[str]()
    if not names:
        return {}
    if limit is COMMAND_LIMIT:  # what a training had no time for, or could not read then
        known = {name: drawn for name, drawn in known.items() if drawn.pictures}
    root = place_of(run, videos, folder)
    if root is None:
        return {name: known.get(name, Thumbnails((), NO_PLACE)) for name in names}
    if videos is None:
        outside = outside_of(root, names, folder is not None)
    files = {name: root / file_of(root, name) for name in names}
    stamps = {name: () if name in outside else file_stamp(files[name]) or () for name in names}
    done: dict[str, Thumbnails] = {}
    for name in names:
        earlier = known.get(name)
        gone = earlier is not None and earlier.pictures and not stamps[name]
        if earlier and (gone or (earlier.reason != LATE and stamps[name] == earlier.stamp != ())):
            done[name] = earlier
    waiting = [name for name in names if name not in done]
    if not waiting:
        return done
    for name in outside.intersection(waiting):
        done[name] = Thumbnails((), OUTSIDE)
    waiting = [name for name in waiting if name not in outside]
    infos = infos_of(root, waiting, videos, own_image_rate(run.folder / "models"))
    reader = GuardedReader()
    end = time.monotonic() + limit.total
    try:
        for name in waiting:
            info = infos.get(name, "it is none of the validation videos any more")
            reader.seconds = min(end - time.monotonic(), limit.each)
            if isinstance(info, str):
                done[name] = Thumbnails((), info, stamps[name])
            elif reader.seconds < LEAST_SECONDS:
                done[name] = Thumbnails((), LATE, stamps[name])
            else:
                indices = _indices(run.settings, info, span_of(root, name, info))
                region = region_in(root, name, info, run.settings)
                done[name] = draw(reader, files[name], info, indices, stamps[name], region)
    finally:
        reader.close()
    return done


def _indices(
    settings: Mapping[str, str], info: VideoInfo, span: tuple[int, int] | None
) -> NDArray[np.int64]:
    """FRAMES of those that validation looked at, evenly spread, (FRAMES,); where config.yaml does
    not tell, of a clip by default."""

    def at_least_1(flag: str, default: int) -> int:
        text = settings.get(flag, "")
        return int(text) if text.isdecimal() and 0 < int(text[:9]) <= 10_000 else default

    rate = 0.0
    with suppress(ValueError):
        rate = float(settings.get("data.frame-rate", ""))
    data = DataConfig(
        num_frames=at_least_1("data.num-frames", 32),
        sampling_rate=at_least_1("data.sampling-rate", 2),
        sampling="uniform" if settings.get("data.sampling") == "uniform" else "dense",
        frame_rate=rate if 0 < rate <= MOST_RATE else "video",
        short_videos="loop" if settings.get("data.short-videos") == "loop" else "repeat-last",
        short_segments="context" if settings.get("data.short-segments") == "context" else "repeat",
    )
    clip = clip_indices(info, data, 0.5, span)
    return clip[np.linspace(0, len(clip) - 1, FRAMES).astype(np.int64)]


def draw(
    reader: GuardedReader,
    path: Path,
    info: VideoInfo,
    indices: NDArray[np.int64],
    stamp: tuple[int, ...] = (),
    region: Region | None = None,
) -> Thumbnails:
    """The frames ``indices`` (N,) of a video, rising, or what of them is in ``region``; or why they
    cannot be read."""
    region = region or Region(0, 0, info.height, info.width)
    shown_width = max(1, round(region.width * info.pixel_aspect))
    width, height = thumbnail_size(shown_width, region.height)
    # The whole region as a square, which is all that a view can be, and then of its own shape.
    view = SpatialView(*region, max(width, height), flip=False)
    try:
        frames = reader.read(path, indices, info, "auto", view)
    except DecodeError as error:
        return Thumbnails((), error.reason, stamp)
    return Thumbnails(tuple(_jpeg(frame, width, height) for frame in frames), "", stamp)


def thumbnail_size(width: int, height: int) -> tuple[int, int]:
    """Pixels of a thumbnail of a video of this size; no picture is made larger than it is."""
    factor = min(LONG_SIDE / max(width, height), TALLEST / height, 1.0)
    return max(1, round(width * factor)), max(1, round(height * factor))


def _jpeg(frame: NDArray[np.uint8], width: int, height: int) -> bytes:
    picture = Image.fromarray(np.ascontiguousarray(frame)).resize((width, height))
    file = BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()
