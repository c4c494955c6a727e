"""Clips for evaluation: the same views of each video every time."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.clips import clip_indices, view_positions
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.pretext.ways import shown, speed_of
from slowfast_dist.data.sampler import ViewKey
from slowfast_dist.data.samples.batch import Failure, Sample
from slowfast_dist.data.samples.dataset import ClipDataset
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.views import evaluation_view

MOST_TRIED = 5
"""Videos of which one that can be read is looked for where any clip will do."""

LONGEST_RUN = 2
"""How many times as long as a clip the part of a video is that an evaluation reads at once."""


class EvaluationClips(ClipDataset, Dataset[Sample]):
    """The views of each video: ``temporal_views`` clips times ``spatial_crops`` crops.

    Nothing is random and nothing is replaced: a view that cannot be read comes without frames.
    """

    def __init__(
        self, videos: VideoTable, data: DataConfig, temporal_views: int = 1, spatial_crops: int = 1,
        ways: bool = False,
    ) -> None:  # fmt: skip
        """``ways``: whether the labels are `pretext.ways`, and each video is shown in its own."""
        super().__init__(videos, data)
        self.temporal_views = temporal_views
        self.spatial_crops, self.ways = spatial_crops, ways

    def reading_order(self) -> NDArray[np.int64] | None:
        """The videos (N,) in the order in which each file is opened once: parts of one follow each
        other in time. None where that is the order of the table."""
        segments = self.videos.segments
        if segments is None:
            return None
        spans = segments.spans
        return np.lexsort((segments.files,) if spans is None else (spans[:, 0], segments.files))

    def first_readable(self) -> NDArray[np.uint8] | None:
        """A clip (1, T, H, W, 3): the first view of the first of MOST_TRIED videos that can be
        read."""
        for video in range(min(MOST_TRIED, len(self.videos))):
            frames = self[ViewKey(video, 0)].frames
            if frames is not None:
                return frames.permute(0, 2, 3, 1).contiguous().numpy()[None]
        return None

    @property
    def views(self) -> int:
        """Views of each video."""
        return self.temporal_views * self.spatial_crops

    def __len__(self) -> int:
        return len(self.videos) * self.views

    def __getitem__(self, key: ViewKey) -> Sample:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[ViewKey]) -> list[Sample]:
        """The views of a batch, which the DataLoader asks for at once.

        Those that follow each other share the decoding: all crops of a clip, and clips that
        overlap, as most of ten do in a video of some seconds.
        """
        return [sample for run in self._runs(keys) for sample in self._samples(run)]

    def _clip(self, key: ViewKey) -> NDArray[np.int64]:
        """Which frames of the video, (T,)."""
        position = view_positions(self.temporal_views)[key.view // self.spatial_crops]
        info, span = self.videos.info(key.video), self.videos.span(key.video)
        speed = speed_of(int(self.videos.labels[key.video])) if self.ways else 1.0
        return clip_indices(info, self.data, position, span, speed)

    def _runs(self, keys: Sequence[ViewKey]) -> Iterator[list[ViewKey]]:
        """Part ``keys`` into what is decoded together: views of one video, whose clips overlap, and
        which last LONGEST_RUN clips at most, as the time in which they must be read is one clip's.
        """
        run: list[ViewKey] = []
        first = last = 0
        for key in keys:
            clip = self._clip(key)
            most = LONGEST_RUN * (clip[-1] - clip[0] + 1)
            overlaps = clip[0] <= last and clip[-1] - first < most
            if run and not (key.video == run[0].video and overlaps):
                yield run
                run = []
            if not run:
                first = clip[0]
            last = clip[-1]
            run.append(key)
        if run:
            yield run

    def _samples(self, run: Sequence[ViewKey]) -> Iterator[Sample]:
        """Of views of one video: each of their frames is decoded once."""
        video = run[0].video
        info, label = self.videos.info(video), self.videos.targets(video)
        crops = sorted({key.view % self.spatial_crops for key in run})
        clips = [self._clip(key) for key in run]
        alike = all(np.array_equal(clip, clips[0]) for clip in clips)
        numbers = clips[0] if alike else np.unique(np.concatenate(clips))
        try:
            region = self._region(video)
            views = [
                evaluation_view(
                    info.height, info.width, self.data, crop, self.spatial_crops,
                    info.pixel_aspect, region,
                )
                for crop in crops
            ]
            read = self._read(video, numbers, views)
        except DecodeError as error:
            failures = (Failure(video, error.reason),)
            yield from (Sample(None, label, video, video, key.view, failures) for key in run)
            return
        for key, indices in zip(run, clips, strict=True):
            frames = read[crops.index(key.view % self.spatial_crops)]
            if not alike:
                frames = frames[np.searchsorted(numbers, indices)]
            if self.ways:  # what it draws is the same in every evaluation
                frames = shown(int(label), frames, np.random.default_rng([key.video, key.view]))
            clip = torch.from_numpy(frames).permute(0, 3, 1, 2)
            yield Sample(clip, label, video, video, key.view)
