"""Clips for training: randomly placed, cropped, mirrored and varied."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.background.drawn import Background
from slowfast_dist.data.clips import clip_indices, shown_frames
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.pretext.ways import shown, speed_of, way_of
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.data.samples.batch import Failure, Sample
from slowfast_dist.data.samples.dataset import ClipDataset
from slowfast_dist.video.augmentation.drawn import speed_factor, varied_view
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.views import Region, training_view

REPLACEMENTS = 10
"""Videos tried in place of one that fails to decode in training, before the clip counts nothing."""

AUGMENTATION = 2
"""Behind (seed, epoch, sample), what tells the draws of augmentation from those of where a clip
lies, which have no fourth number, and those of gaps, which have 1."""


class TrainingClips(ClipDataset, Dataset[Sample]):
    """Randomly placed, cropped, mirrored and varied clips; all randomness from (seed, epoch,
    sample).

    The same key gives the same clip in any worker of any process. A video that fails to decode is
    replaced by another one, drawn from the same key, and reported in the sample's failures; a part
    of a video by one of a file that was not tried yet, where there is any.
    """

    def __init__(
        self, videos: VideoTable, data: DataConfig, seed: int, background: Background | None = None,
        augment: AugmentConfig | None = None, swaps: NDArray[np.int64] | None = None,
        ways: bool = False,
    ) -> None:  # fmt: skip
        """``background``: which rows of the table are gaps; samples behind those of the other rows
        are parts of them, drawn from the key. ``augment``: None: nothing but crops and mirrors.
        ``swaps`` (K,): the class that each one becomes in a mirror; None: itself. ``ways``: whether
        each clip is shown in one of `pretext.ways`, drawn from the key, which is its label."""
        super().__init__(videos, data)
        self.seed, self.background = seed, background
        self.augment = AugmentConfig() if augment is None else augment
        self.swaps, self.ways = swaps, ways
        # Around a gap are the segments.
        self._gap_data = replace(data, short_segments="repeat")
        self._lengths = None if background is None else background.lengths(videos)

    def __len__(self) -> int:
        if self.background is None:
            return len(self.videos)
        return self.background.first + self.background.clips

    def _row(self, key: ClipKey) -> int:
        """The row of the table that a sample is of."""
        if self.background is None or key.sample < self.background.first:
            return key.sample
        assert self._lengths is not None
        # Of its own draws, so that the batch's order by files needs no others.
        rng = np.random.default_rng([*key.entropy(self.seed), 1])
        return self.background.row_of(self._lengths, rng)

    def _indices(
        self, video: int, position: float, rng: np.random.Generator, speed: float
    ) -> NDArray[np.int64]:
        """Which frames of the video, (T,)."""
        info, span = self.videos.info(video), self.videos.span(video)
        if self.background is None or video < self.background.first:
            return clip_indices(info, self.data, position, span, speed)
        assert span is not None
        part = self.background.part(info, self._gap_data, span, rng)
        return clip_indices(info, self._gap_data, position, part, speed)

    def _swapped(self, label: Any) -> Any:
        """The label or labels of the mirrored clip."""
        assert self.swaps is not None
        return self.swaps[label] if np.ndim(label) == 0 else label[self.swaps]

    def _worth_keeping(
        self, video: int, indices: NDArray[np.int64], epoch: int
    ) -> NDArray[np.int64] | None:
        """All frames that clips of the video may show, or none (0,) where to decode them would cost
        more than the epochs to come save."""
        assert self._cache is not None
        info, span = self.videos.info(video), self.videos.span(video)
        none = indices[:0]
        if self.background is not None and video >= self.background.first:
            return none  # of a gap, which may last for hours, clips are drawn anywhere
        first, end = (0, info.frames) if span is None else span
        if self.data.sampling == "uniform":
            shown = shown_frames(info, self.data, span)
            if np.isin(indices, shown).all():
                return shown if self._cache.goes_on(epoch) else none
            shown = np.arange(first, end)
        if not self._cache.pays(info, end - first, indices, epoch):
            return none
        if self.data.sampling == "dense":
            shown = shown_frames(info, self.data, span)
        return np.union1d(shown, indices)

    def __getitems__(self, keys: Sequence[ClipKey]) -> list[Sample]:
        """The clips of a batch, which the DataLoader asks for at once. Those of one file are read
        one after the other in the order of time, while it is open."""
        place = self.videos.place_in_files
        read = {key: self[key] for key in sorted(keys, key=lambda key: place(self._row(key)))}
        return [read[key] for key in keys]

    def __getitem__(self, key: ClipKey) -> Sample:
        started = time.perf_counter()
        rng = np.random.default_rng(key.entropy(self.seed))
        failures: list[Failure] = []
        video = asked = self._row(key)

        def draws(kind: int) -> np.random.Generator:
            return np.random.default_rng([*key.entropy(self.seed), AUGMENTATION, kind])

        way, way_rng = (
            way_of(self.seed, key.epoch, key.sample) if self.ways else (None, rng)
        )
        speed = speed_factor(self.augment, draws) if way is None else speed_of(way)
        for _ in range(1 + REPLACEMENTS):
            info = self.videos.info(video)
            position = float(rng.random())
            try:
                region = self._region(video)
                view = training_view(
                    info.height, info.width, self.data, rng, info.pixel_aspect, region
                )
                limits = region or Region(0, 0, info.height, info.width)
                view = varied_view(
                    view, limits, self.data, self.augment, draws, info.pixel_aspect
                )
                indices = self._indices(video, position, rng, speed)
                others = partial(self._worth_keeping, video, indices, key.epoch)
                [frames] = self._read(video, indices, [view], others)
            except DecodeError as error:
                failures.append(Failure(video, error.reason))
                video = self._replacement(failures, rng)
                continue
            label = self.videos.targets(video)
            if way is not None:
                frames, label = shown(way, frames, way_rng), np.array(way, np.int64)
            swapped = int(view.flip and self.swaps is not None)
            label = self._swapped(label) if swapped else label
            seconds = time.perf_counter() - started
            clip = torch.from_numpy(frames).permute(0, 3, 1, 2)  # over the same memory
            return Sample(clip, label, asked, video, swapped, tuple(failures), seconds)
        return Sample(None, None, asked, video, failures=tuple(failures))

    def _replacement(self, failures: Sequence[Failure], rng: np.random.Generator) -> int:
        """Drawn from all videos, or, of parts, from those of files that did not fail."""
        if self.videos.segments is not None:
            failed = [self._file(failure.video) for failure in failures]
            others = np.flatnonzero(~np.isin(self.videos.segments.files, failed))
            if len(others):
                return int(others[rng.integers(len(others))])
        return int(rng.integers(len(self.videos)))
