"""The rows that ``embed`` writes: videos, windows of videos, or what an annotation file names."""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from math import isnan, nan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.importing.writing import LEFT_OUT, left_out, write_left_out
from slowfast_dist.annotations.labels import log_remarks
from slowfast_dist.commands.embed.output import FeatureRow
from slowfast_dist.config.commands.embed import Embed
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.image_folders import require_image_rates
from slowfast_dist.data.listing.group_pattern import compile_pattern, group_of, time_to_search
from slowfast_dist.data.listing.listing import Listing
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.locating import place_segments
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.inference.inputs import Inputs
from slowfast_dist.inference.parts import Part, Unread, parts_of_files
from slowfast_dist.inference.predictor import Predictor
from slowfast_dist.inference.scoring import MAX_FILES, plan_of, rows_of_videos
from slowfast_dist.inference.seen import SeenVideos
from slowfast_dist.runs.settings import own_image_rate
from slowfast_dist.runs.videos import start_of_paths
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.system.log import logger
from slowfast_dist.video.reader import VideoInfo

Found = FeatureRow | Unread


@dataclass(frozen=True)
class Source:
    """``found``: the rows as they are computed, those of a video one after the other; ``total``:
    how many videos, or rows of a list, there are; ``notes``: what is to be said at the end."""

    found: Generator[Found, None, None]
    total: int
    notes: Callable[[], Sequence[str]] = field(default=lambda: ())


# --- files ---------------------------------------------------------------------------------------


def rows_of_inputs(
    predictor: Predictor, inputs: Inputs, words: Sequence[str], command: Embed
) -> Source:
    """A row for each file, or for each window of it. The label is the name of the folder below an
    INPUT that a video lies in."""
    whose = Names(words, command.group_pattern, [str(one.path) for one in inputs.files])
    remedy = "--windows makes a row of each window"
    seen = SeenVideos(predictor, command.temporal_views, command.windows, remedy)
    parts = parts_of_files(predictor, predictor.features, inputs, command, seen)
    return Source(_labelled(parts, whose), len(inputs.files), seen.notes)


class Names:
    """The label and the group of files, by their paths."""

    def __init__(
        self, words: Sequence[str], group_pattern: str | None, paths: Sequence[str]
    ) -> None:
        """Raises UserError for a pattern that is none, or that none of the ``paths`` matches."""
        self._roots = [Path(word) for word in words if os.path.isdir(word)]
        self._groups: dict[str, str] = {}
        if group_pattern is None:
            return
        with own_flags():
            pattern = compile_pattern(group_pattern)
            with time_to_search(pattern, len(paths), Path(words[0])):
                found = {path: group_of(self._below(path), pattern) for path in paths}
        self._groups = {path: group for path, group in found.items() if group is not None}
        if paths and not self._groups:
            raise UserError(
                f"--group-pattern {group_pattern!r}: matches none of the {len(paths)} paths, as "
                f"{paths[0]}; give a pattern that does"
            )

    def label(self, path: Path) -> str:
        for root in self._roots:
            if path.is_relative_to(root):
                first, *behind = path.relative_to(root).parts or ("",)
                return first if behind else ""
        return ""

    def group(self, path: Path) -> str:
        return self._groups.get(str(path), str(path))

    def _below(self, path: str) -> str:
        """The path below its INPUT, as a training has it."""
        for root in self._roots:
            if Path(path).is_relative_to(root):
                return Path(path).relative_to(root).as_posix()
        return path


def _labelled(
    parts: Generator[Part | Unread, None, None], whose: Names
) -> Generator[Found, None, None]:
    with closing(parts):
        for one in parts:
            if isinstance(one, Unread):
                yield one
                continue
            label, group = whose.label(one.path), whose.group(one.path)
            features = one.row.astype(np.float32)
            yield FeatureRow(str(one.path), one.start, one.end, label, group, features)


def _seconds(info: VideoInfo) -> float:
    return info.duration() or nan


# --- lists ---------------------------------------------------------------------------------------


def rows_of_list(predictor: Predictor, path: Path, command: Embed) -> Source:
    """A row for each that an annotation file has, of any classes; parts of one file follow each
    other. Says what is to be known of the list. Raises UserError for a list that cannot be used."""
    best, given = predictor.best, f"INPUT {path}"
    rate = command.image_fps or own_image_rate(best.folder)
    with own_flags():
        listing = list_videos(
            path, "INPUT", command.group_pattern, start=start_of_paths(path, command.videos),
            single_class=True, several=None, image_fps=rate,
        ).left_out_to(f"{LEFT_OUT} beside the output")  # fmt: skip
        notes = [listing.imported.notes] if listing.imported else []
        write_left_out(command.output.parent / LEFT_OUT, left_out(notes))
        probed = probe_videos(listing.videos, available_cpus(), default_cache(), True, rate)
        require_image_rates(probed.reasons, listing.videos, given)
        placed = place_segments(
            listing.videos.probed(probed.infos), probed.readable, given, best.data.crop_box
        )
    log_remarks((*listing.remarks, *placed.remarks))
    videos, reasons = placed.videos, probed.reasons | placed.reasons
    rows = np.flatnonzero(probed.readable & placed.inside)
    if len(rows):
        files = videos.select(rows).per_file()
        for line in best.picture_notes(files.pictures()):
            logger.warning(line)
        for line in best.rate_notes(files.rates(), files.names.__getitem__):
            logger.warning(line)
    found = _list_rows(predictor, replace(listing, videos=videos), rows, reasons, command)
    return Source(found, len(videos))


def _list_rows(
    predictor: Predictor, listing: Listing, rows: NDArray[np.int64], reasons: dict[int, str],
    command: Embed,
) -> Generator[Found, None, None]:  # fmt: skip
    videos, best = listing.videos, predictor.best
    for bad, reason in sorted(reasons.items()):
        yield Unread(videos.sample(bad), reason)
    views = best.views(command.temporal_views, command.spatial_crops)
    plan = plan_of(best, command)
    ordered = _in_files(videos, rows)
    for first in range(0, len(ordered), MAX_FILES):
        table = videos.select(ordered[first : first + MAX_FILES])
        labels, groups = table.label_cells(listing.classes), list(table.group_names())
        computed = rows_of_videos(
            predictor.features, table, best.data, views, command.batch_size, plan
        )
        with closing(computed):
            for place, row in enumerate(computed):
                if isinstance(row, str):
                    yield Unread(table.sample(place), row)
                    continue
                start, end = _times(table, place)
                path, features = str(table.path(place)), row.astype(np.float32)
                yield FeatureRow(path, start, end, labels[place], groups[place], features)


def _in_files(videos: VideoTable, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """``rows`` in the order in which each file is opened once, as `rows_of_videos` has it."""
    if videos.segments is None:
        return rows
    files, spans = videos.segments.files[rows], videos.segments.spans
    return rows[np.lexsort((files,) if spans is None else (spans[rows, 0], files))]


def _times(videos: VideoTable, row: int) -> tuple[float, float]:
    start, end = (nan, nan) if videos.segments is None else videos.segments.seconds(row)
    return (0.0, _seconds(videos.info(row))) if isnan(start) else (start, end)


@contextmanager
def own_flags() -> Iterator[None]:
    """Name the command's own flags in mistakes that a training's words are for."""
    try:
        yield
    except UserError as error:
        text = str(error).replace("--data.group-pattern", "--group-pattern")
        raise UserError(text.replace("--INPUT ", "INPUT ")) from None
