"""Tables of made records."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slowfast_dist.data.listing.columns import Categorical, InfoColumns, Texts
from slowfast_dist.data.listing.video_table import VideoRecord, VideoTable
from slowfast_dist.video.reader import VideoInfo


def table_of(
    videos: Sequence[VideoRecord], infos: Sequence[VideoInfo] | None = None
) -> VideoTable:
    """A table of ``videos``, whose paths are one folder and their names."""
    depth = len(Path(videos[0].name).parts) if videos else 0
    root = videos[0].path.parents[depth - 1] if videos else Path()
    assert all(root / video.name == video.path for video in videos)
    own = all(video.group == video.name for video in videos)
    return VideoTable(
        root,
        Texts.of(video.name for video in videos),
        np.array([video.label for video in videos], np.int32),
        None if own else Categorical.of(video.group for video in videos),
        infos=None if infos is None else InfoColumns.of(infos),
    )
