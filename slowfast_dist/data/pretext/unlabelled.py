"""The videos of a pretraining: all below a folder, a few of them kept to validate."""

from dataclasses import replace

import numpy as np

from slowfast_dist.annotations.labels import Remark
from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.listing.manifest import list_unlabelled
from slowfast_dist.data.listing.segments import Segments
from slowfast_dist.data.listing.split import identical, split_videos
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.pretext.ways import WAYS
from slowfast_dist.data.synthetic import make_demo_videos
from slowfast_dist.data.videos.probed import probe_listing, scorable
from slowfast_dist.data.videos.video_set import VideoSet


def find_unlabelled(data: DataConfig, seed: int) -> VideoSet:
    """The readable videos below ``data.root``, whose classes are the ways: of each training video
    an epoch draws one, each validation video is there in every one. Raises UserError."""
    assert data.root is not None
    if data.synthetic:
        make_demo_videos(data.root)
    listing = list_unlabelled(data)
    listing, readable, rejected = probe_listing(
        listing, "the run's folder", f"--data.root {data.root}", data
    )
    listing = scorable(listing, readable, rejected, "data.root", data.root)
    split = split_videos(listing, data.val_fraction, seed)
    what = f"{data.root}: no labels are looked at; each training clip is shown in one of "
    what += f"{len(WAYS)} ways, drawn anew in each epoch, and each of {len(split.val)} validation "
    what += "videos in all of them"
    said = (*split.remarks, Remark("info", "ways", what), *identical(split.train, split.val))
    return VideoSet(
        WAYS, _in_ways(split.train), _in_all_ways(split.val), rejected, True, said, ways=True
    )


def _in_ways(videos: VideoTable) -> VideoTable:
    """With labels that say how many clips of each way an epoch has in the mean: which ones it has
    is drawn."""
    return replace(videos, labels=(np.arange(len(videos)) % len(WAYS)).astype(np.int32))


def _in_all_ways(videos: VideoTable) -> VideoTable:
    """Each video once in every way, as so many rows of one file."""
    ways = len(WAYS)
    rows = np.repeat(np.arange(len(videos), dtype=np.int32), ways)
    bounds = np.full((len(rows), 2), np.nan)
    labels = np.tile(np.arange(ways, dtype=np.int32), len(videos))
    return replace(videos.select(rows), labels=labels, segments=Segments(rows, bounds))
