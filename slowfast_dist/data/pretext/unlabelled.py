"""The videos of a pretraining: all below a folder, a few of them kept to validate."""

from dataclasses import replace

import numpy as np

from slowfast_dist.annotations.labels import Remark
from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.listing.manifest import list_unlabelled
from slowfast_dist.data.listing.segments import Segments
from slowfast_dist.data.listing.split import identical, split_videos
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.pretext.ways import SHOWINGS, WAYS
from slowfast_dist.data.synthetic import make_demo_videos
from slowfast_dist.data.videos.probed import probe_listing, scorable
from slowfast_dist.data.videos.video_set import VideoSet


def find_unlabelled(data: DataConfig, seed: int) -> VideoSet:
    """The readable videos below ``data.root``, whose classes are the ways: each training video is
    there SHOWINGS times, in ways that an epoch draws, each validation video in every way. Raises
    UserError."""
    assert data.root is not None
    if data.synthetic:
        make_demo_videos(data.root)
    listing = list_unlabelled(data)
    listing, readable, rejected = probe_listing(
        listing, "the run's folder", f"--data.root {data.root}", data
    )
    listing = scorable(listing, readable, rejected, "data.root", data.root)
    split = split_videos(listing, data.val_fraction, seed)
    what = f"{data.root}: no labels are looked at; an epoch shows each training video in "
    what += f"{SHOWINGS} of {len(WAYS)} ways, drawn anew, a validation its videos in all of them"
    said = (*split.remarks, Remark("info", "ways", what), *identical(split.train, split.val))
    return VideoSet(
        WAYS, _rows_of(split.train, SHOWINGS), _rows_of(split.val, len(WAYS)), rejected, True, said,
        ways=True,
    )  # fmt: skip


def _rows_of(videos: VideoTable, times: int) -> VideoTable:
    """Each video so many times, as rows of one file; with the ways as labels in turn. Of training
    videos these say how many clips of each way an epoch has in the mean: which ones is drawn."""
    files = np.repeat(np.arange(len(videos), dtype=np.int32), times)
    bounds = np.full((len(files), 2), np.nan)
    labels = (np.arange(len(files)) % len(WAYS)).astype(np.int32)
    return replace(videos.select(files), labels=labels, segments=Segments(files, bounds))
