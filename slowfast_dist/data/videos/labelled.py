"""The videos of an evaluation: those that have a label of the model's classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from slowfast_dist.annotations.importing.writing import LEFT_OUT, left_out
from slowfast_dist.annotations.labels import log_remarks
from slowfast_dist.annotations.table import Side
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.background.drawn import (
    ScoredBackground,
)
from slowfast_dist.data.listing.listing import Listing, labelled_as, of_side
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.listing.whole_files import of_whole_files
from slowfast_dist.data.videos.probed import probe_listing, scorable
from slowfast_dist.system.messages import sendable


@sendable
@dataclass(frozen=True)
class LabelledVideos:
    """The readable videos of an evaluation; ``rejected`` as in VideoSet. ``split``: which rows they
    are of a CSV with a column split, all or those of one; None without such a column."""

    videos: VideoTable
    rejected: tuple[tuple[str, str, str], ...]
    split: Side | Literal["all"] | None = None
    left_out: str = ""
    """The text of LEFT_OUT, where an import on the way left rows out."""


def find_labelled_videos(
    root: Path, flag: str, classes: Sequence[str], start: Path | None = None,
    split: Side | Literal["all"] | None = None, several: bool = False,
    data: DataConfig | None = None, drawn: ScoredBackground | None = None,
    whole_files: bool = False,
) -> LabelledVideos:  # fmt: skip
    """List and probe videos for a model of ``classes``, and leave out what cannot be read.
    ``data`` (None: the defaults) cuts its clips.

    ``split``: which rows of a CSV with a column split count; None: test where there are any, else
    val, else all. ``several``: whether a video may have several labels. A class may be missing, or
    have no readable video. ``drawn``: what a model with a background takes of the gaps between
    segments; ``whole_files``: without those of files that have other rows, too. Raises UserError,
    naming ``flag``, for a class that the model does not know, and where no video can be read.
    """
    listing = list_videos(
        root, flag, start=start, single_class=True, may_be_empty=True, several=several,
        image_fps=data.image_fps if data else None,
    )  # fmt: skip
    if listing.sides is None and split is not None:
        raise UserError(f"--split {split}: {root} has no column split; leave it out")
    if listing.sides is not None:
        sides: tuple[Side, ...] = ("test", "val")
        split = split or next((side for side in sides if len(listing.rows_of(side))), "all")
    if split is not None and split != "all":
        chosen = of_side(listing, split, flag, root)
        listing = of_whole_files(chosen, listing, flag, root) if whole_files else chosen
    listing = labelled_as(listing, classes, flag, root)
    return replace(readable_videos(listing, root, flag, data, drawn), split=split)


def readable_videos(
    listing: Listing, root: Path, flag: str, data: DataConfig | None = None,
    drawn: ScoredBackground | None = None,
) -> LabelledVideos:  # fmt: skip
    """The same for videos that are listed already, of which it says what is to be known of the
    list; ``root``, of ``flag``, is what named them."""
    data = data or DataConfig()
    if data.background is not None and listing.annotated is not None:
        listing.annotated.require_all(
            f"--{flag} {root}, for a model with the background {data.background!r}"
        )
    listing = listing.left_out_to(f"{LEFT_OUT} in the output")
    listing, readable, rejected = probe_listing(listing, "the output", f"--{flag} {root}", data)
    log_remarks(listing.remarks)
    videos = scorable(listing, readable, rejected, flag, root).videos
    if drawn is not None and listing.annotated is not None:
        videos, remark = drawn.added(listing.annotated, videos, listing.classes)
        log_remarks([remark])
    notes = [listing.imported.notes] if listing.imported else []
    return LabelledVideos(videos, rejected, left_out="".join(left_out(notes)))
