"""What clips for training and for evaluation share: reading the frames of one."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.cache.frames import FrameCache, Source
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.system.workers.shared import Shared, SharedFlags
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.guarded_reader import GIVEN_UP, GuardedReader, is_fatal
from slowfast_dist.video.reader import Frames, chosen_decoder
from slowfast_dist.video.views import Region, SpatialView


class ClipDataset:
    """What training and evaluation share: reading the frames of one clip of one video.

    A file that hangs or crashes the decoder is met once, whatever parts of it the table names: all
    workers of the process then refuse it at once, in every later epoch. Nothing here is a Python
    object for each video, so a worker's own memory does not grow with their number.
    """

    def __init__(self, videos: VideoTable, data: DataConfig) -> None:
        """``videos`` come with what the probe found of them."""
        self.videos = videos
        self.data = data
        self._reader = GuardedReader()
        self._shared = Shared(videos)
        files = None if videos.segments is None else videos.segments.files
        count = len(videos) if files is None else int(files.max(initial=-1)) + 1
        self._given_up = SharedFlags(count)
        self._cache: FrameCache | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For a worker that is not forked from this process: it shares what is large."""
        return {name: value for name, value in vars(self).items() if name != "videos"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, videos=state["_shared"].value)

    def give_up(self, videos: Iterable[int]) -> None:
        """Never read the files of these videos (indices) again: they hang or crash the decoder.

        For those that other processes met, or this run before it was resumed.
        """
        for video in videos:
            self._given_up.array[self._file(video)] = 1

    def _file(self, video: int) -> int:
        """A number that all parts of one file have in common."""
        segments = self.videos.segments
        return video if segments is None else int(segments.files[video])

    def _region(self, video: int) -> Region | None:
        """What of its picture is looked at. Raises DecodeError where that is nothing."""
        try:
            return self.videos.region(video, self.data.crop_box)
        except ValueError as error:
            path = self.videos.path(video)
            raise DecodeError(path, f"the region of interest {error}") from None

    def keep_frames(self, cache: FrameCache | None) -> None:
        """Keep decoded frames there from now on; None: nowhere. To be called while there are no
        workers."""
        self._reader.close()  # its process has what was kept open
        self._reader.space = None
        self._cache = cache

    @property
    def keeps_frames(self) -> bool:
        return self._cache is not None

    def _read(
        self, video: int, indices: NDArray[np.int64], views: Sequence[SpatialView],
        others: Callable[[], NDArray[np.int64] | None] = lambda: None,
    ) -> Frames:  # fmt: skip
        """The frames at ``indices`` (T,), decoded once, through each of the V views: uint8
        (V, T, H, W, 3). Raises DecodeError.

        ``others``: which frames of the video are worth keeping where these are not kept yet; None:
        these alone.
        """
        path, info = self.videos.path(video), self.videos.info(video)
        if self._given_up.array[self._file(video)]:
            raise DecodeError(path, GIVEN_UP)
        if self._cache is not None and chosen_decoder(info, self.data.decoder) == "pyav":
            source = Source(self._file(video), path, info)
            frames = self._cache.read(source, indices, views, others, self._reader)
            if frames is not None:
                return frames
        try:
            return self._reader.read_views(path, indices, info, self.data.decoder, views)
        except DecodeError as error:
            if is_fatal(error.reason):
                self.give_up([video])
            raise
