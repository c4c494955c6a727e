"""What ``prepare`` starts from: the originals, and those that were prepared before."""

import os
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from slowfast_dist.annotations.importing.writing import LEFT_OUT
from slowfast_dist.annotations.labels import log_remarks
from slowfast_dist.annotations.segments import box_cells, parse_box
from slowfast_dist.annotations.table import SIDES, Side
from slowfast_dist.commands.prepare.folder import Prepared, PreparedFolder, target_names
from slowfast_dist.config.commands.dataset import Prepare
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.fields import is_fraction
from slowfast_dist.data.listing.imported import Imported
from slowfast_dist.data.listing.manifest import list_folder
from slowfast_dist.data.probing import BYTES_PER_SECOND
from slowfast_dist.system.progress import over_files
from slowfast_dist.system.workers.pool import map_in_children
from slowfast_dist.video.images.listing import stamp_of
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.transcode import KEY_INTERVAL, VERSION, sha256_or_nothing
from slowfast_dist.video.views import Box, region_of

UNAWARE = 1
"""Version that did not know of pixels that are not square; of all others it made the same."""

TIME_LIMIT = 60.0
"""Seconds that a video may take, beside those for its size and its pixels."""


@dataclass(frozen=True)
class Listed:
    """What a list says of a video, or of a part of one: its class (``several``: all of them, as
    waving|walking, or none), its ``side`` (None where it does not), its ``group``, ``weight``,
    ``fold``, ``start``, ``end`` and ``subject``, and a region of interest ("" where it does
    not)."""

    label: str
    side: Side | None
    group: str
    several: bool
    weight: str
    fold: str
    start: str = ""
    end: str = ""
    subject: str = ""
    x: str = ""
    y: str = ""
    w: str = ""
    h: str = ""

    @property
    def box(self) -> Box | None:
        """Its region of interest."""
        return parse_box((self.x, self.y, self.w, self.h)) if self.x else None


@dataclass(frozen=True)
class Source:
    """An original video; ``name``: its POSIX path below the originals; ``target``: that of what is
    made of it, below OUT; ``rows``: what the list says of it."""

    path: Path
    name: str
    target: str
    rows: tuple[Listed, ...]
    size: int
    mtime_ns: int


def list_sources(
    root: Path, start: Path | None, unreadable: dict[str, str], image_fps: float | None
) -> tuple[list[Source], Imported | None]:
    """The videos as training lists them, of all splits, and what was imported for that; one without
    a file joins the ``unreadable``."""
    listing = list_folder(root, start, image_fps).left_out_to(f"{LEFT_OUT} in OUT")
    log_remarks(listing.remarks)
    rows: dict[str, list[Listed]] = {}
    paths: dict[str, Path] = {}
    grouped, extra = listing.videos.groups is not None, listing.videos.extra()
    labels, several = listing.videos.label_cells(listing.classes), listing.videos.sets is not None
    weights, folds = listing.videos.weight_texts(), listing.folds
    for row, video in enumerate(listing.videos):
        side = None if listing.sides is None else SIDES[listing.sides[row]]
        group = video.group if grouped and video.group != video.name else ""
        cells = ("", "", "") if extra is None else extra[row]
        weight = "" if weights is None else weights[row]
        paths[video.name] = video.path
        rows.setdefault(video.name, []).append(
            Listed(labels[row], side, group, several, weight, folds[row] if folds else "", *cells)
        )
    names, videos = target_names([*paths]), []
    for name, path in paths.items():
        try:
            stamp = stamp_of(path)
        except OSError as error:
            unreadable[name] = error.strerror or str(error)
            continue
        if stamp is None:
            unreadable[name] = "neither a file nor a folder of images"
            continue
        videos.append(Source(path, name, names[name], tuple(rows[name]), *stamp))
    return videos, listing.imported


def with_fractions(videos: list[Source], infos: dict[Path, VideoInfo]) -> list[Source]:
    """With regions of interest that are in pixels as fractions of the picture, as its copy has
    others; ``infos``: of the videos that `has_pixel_boxes`. Raises UserError for one without any
    pixel."""
    done = []
    for video in videos:
        rows = list(video.rows)
        for place, row in enumerate(rows if has_pixel_boxes(video) else ()):
            if row.box is None or is_fraction(row.box):
                continue
            info = infos[video.path]
            height, width = info.height, info.width
            try:
                region, _ = region_of(row.box, height, width, info.pixel_aspect)
            except ValueError as error:
                cells = ",".join((row.x, row.y, row.w, row.h))
                raise UserError(f"{video.name}: x,y,w,h {cells} {error}; correct it") from None
            fractions = (
                region.left / width, region.top / height, region.width / width,
                region.height / height,
            )  # fmt: skip
            x, y, w, h = box_cells(fractions)
            rows[place] = replace(row, x=x, y=y, w=w, h=h)
        done.append(replace(video, rows=tuple(rows)))
    return done


def has_pixel_boxes(video: Source) -> bool:
    return any(row.box is not None and not is_fraction(row.box) for row in video.rows)


def refuse_overlap(base: Path, out: Path, videos: list[Source]) -> None:
    originals, results = base.resolve(), out.resolve()
    elsewhere = (video.path for video in videos if os.path.isabs(video.name))
    inside = next((path for path in elsewhere if path.resolve().is_relative_to(results)), None)
    if originals.is_relative_to(results) or results.is_relative_to(originals) or inside:
        raise UserError(
            f"{out}: OUT and the originals in {inside.parent if inside else base} must lie apart, "
            "neither in the other; give another OUT"
        )


def refuse_others(
    folder: PreparedFolder, command: Prepare, videos: list[Source], base: Path
) -> None:
    for entry in folder.entries.values():
        if entry.short_side != command.short_side:
            raise UserError(
                f"--short-side {command.short_side}: {folder.path} holds videos prepared with "
                f"{entry.short_side}; give that, or another OUT"
            )
        if entry.version != UNAWARE and entry.pixel_aspect != command.pixel_aspect:
            raise UserError(
                f"--pixel-aspect {command.pixel_aspect}: {folder.path} holds videos prepared with "
                f"{entry.pixel_aspect}; give that, or another OUT"
            )
        if entry.key_interval != KEY_INTERVAL or entry.version not in (VERSION, UNAWARE):
            raise UserError(
                f"{folder.path}: its videos were prepared by another version of this program; "
                "give another OUT"
            )
    gone = folder.without_source((video.name for video in videos), base)
    if gone and len(gone) == len(folder.entries):
        raise UserError(
            f"{folder.path}: holds videos prepared from others than those in {base}, as "
            f"{gone[0]}; give another OUT"
        )


def done_before(videos: list[Source], folder: PreparedFolder, workers: int) -> set[str]:
    """Names of the sources that are as they were when the video that is there was made of them."""
    done: set[str] = set()
    touched: dict[Path, tuple[Source, Prepared]] = {}
    for video in videos:
        entry = folder.entries.get(video.target)
        if entry is None or (entry.source, entry.source_size) != (video.name, video.size):
            continue
        if not folder.holds(entry):
            continue
        if entry.source_mtime_ns == video.mtime_ns:
            done.add(video.name)
        else:
            touched[video.path] = (video, entry)

    def limit(path: Path) -> float:
        return TIME_LIMIT + touched[path][0].size / BYTES_PER_SECOND

    with closing(map_in_children(sha256_or_nothing, touched, workers, limit)) as answers:
        for path, answer in over_files(answers, len(touched), "comparing the sources"):
            video, entry = touched[path]
            if answer == entry.source_sha256:
                folder.note(replace(entry, source_mtime_ns=video.mtime_ns))
                done.add(video.name)
    return done
