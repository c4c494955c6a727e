"""Where the videos lie that a run names, as far as a page may open them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isnan
from pathlib import Path

import numpy as np

from slowfast_dist.annotations.segments import (
    NO_BOX,
    parse_box,
    parse_sample_box,
    parse_sample_name,
)
from slowfast_dist.data.listing.columns import Texts
from slowfast_dist.data.listing.segments import locate
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.runs.run import Run
from slowfast_dist.runs.settings import own_image_rate
from slowfast_dist.runs.videos import data_root, is_below
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.views import Region, region_of

OUTSIDE = "it is not below the folder of the data: 'report --videos DIR' shows those below DIR"
"""The reason of a video that a run names, and that was not opened."""

NO_PLACE = "config.yaml does not say where the videos are"
"""The reason of all videos of a run that does not tell."""


@dataclass(frozen=True)
class Sample:
    """A video, or a part of it: where it is, what of its name says the ``part`` (as "@3.2-5"), what
    the file holds, the frames of the part (the first, and the one behind the last; None: all), and
    the region of interest (None: the whole picture)."""

    path: Path
    part: str
    info: VideoInfo
    span: tuple[int, int] | None
    region: Region | None


def samples_of(
    run: Run, names: Sequence[str], videos: VideoTable | None = None, folder: Path | None = None
) -> dict[str, Sample | str]:
    """Those of ``names``, or why one cannot be read: found, and left alone, as by
    `thumbnails_of`."""
    root = place_of(run, videos, folder)
    if root is None:
        return dict.fromkeys(names, NO_PLACE)
    outside = set[str]() if videos is not None else outside_of(root, names, folder is not None)
    inside = [name for name in names if name not in outside]
    infos = infos_of(root, inside, videos, own_image_rate(run.folder / "models")) if inside else {}
    found: dict[str, Sample | str] = dict.fromkeys(outside, OUTSIDE)
    for name in inside:
        info = infos.get(name, "it is none of the validation videos any more")
        if isinstance(info, str):
            found[name] = info
            continue
        region = region_in(root, name, info, run.settings)
        whole = region == Region(0, 0, info.height, info.width)
        file, span = file_of(root, name), span_of(root, name, info)
        if span is None and not isnan(parse_sample_name(name)[1]) and file != name:
            found[name] = "its part does not lie in the file any more"
            continue
        part, seen = name.removeprefix(file), None if whole else region
        found[name] = Sample(root / file, part, info, span, seen)
    return found


def place_of(run: Run, videos: VideoTable | None, folder: Path | None) -> Path | None:
    """The folder below which the names lie; None where nothing tells."""
    if videos is not None:
        return videos.root
    if folder is None and run.data is None:
        return None
    return folder or data_root(run.data or "", run.folder, run.settings)


def outside_of(root: Path, names: Sequence[str], follow: bool) -> set[str]:
    return {name for name in names if not is_below(root, file_of(root, name), follow)}


def infos_of(
    root: Path, names: Sequence[str], videos: VideoTable | None, image_fps: float | None
) -> dict[str, VideoInfo | str]:
    if videos is not None:
        wanted = set(names)
        samples = enumerate(videos.samples())
        return {name: videos.info(row) for row, name in samples if name in wanted}
    files = {name: file_of(root, name) for name in names}
    there = [file for file in dict.fromkeys(files.values()) if is_there(root / file)]
    found: dict[str, VideoInfo | str] = {}
    if there:  # as a table below the same root as in training, for which there is a cache
        table = VideoTable(root, Texts.of(there), np.zeros(len(there), np.int32))
        answers = probe_videos(table, available_cpus(), default_cache(), False, image_fps)
        found = dict(zip(there, answers, strict=True))
    return {name: found.get(files[name], "it is not there any more") for name in names}


def file_of(root: Path, name: str) -> str:
    """The path of a sample, which is called path@start-end where it is a part of a video."""
    path, _, _ = parse_sample_name(name)
    return name if path == name or is_there(root / name) else path


def is_there(path: Path) -> bool:
    """Whether there is a file or a folder, and no pipe that would be waited for."""
    return path.is_file() or path.is_dir()


def span_of(root: Path, name: str, info: VideoInfo) -> tuple[int, int] | None:
    """The frames of a part of a video; None for a whole one."""
    _, start, end = parse_sample_name(name)
    if file_of(root, name) == name or isnan(start):
        return None
    first, last = locate(info, np.array([[start, end]])).spans[0].tolist()
    return (first, last) if 0 <= first < last <= info.frames else None


def region_in(root: Path, name: str, info: VideoInfo, settings: Mapping[str, str]) -> Region:
    """What of the picture the model saw, but for its own crop."""
    _, box = (name, NO_BOX) if is_there(root / name) else parse_sample_box(name)
    cells = settings.get("data.crop-box", "").strip("[]()").replace(",", " ").split()
    with suppress(ValueError):
        box = parse_box(cells) if isnan(box[0]) and len(cells) == 4 else box
        if not isnan(box[0]):
            return region_of(box, info.height, info.width, info.pixel_aspect)[0]
    return Region(0, 0, info.height, info.width)
