"""Clips of videos for training and evaluation, and the batches they form."""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.background.drawn import Background
from slowfast_dist.data.cache.frames import FrameCache, Source
from slowfast_dist.data.clips import clip_indices, shown_frames, view_positions
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.pretext.ways import shown, speed_of, way_of
from slowfast_dist.data.sampler import ClipKey, ViewKey
from slowfast_dist.system.messages import sendable
from slowfast_dist.system.workers.context import Process
from slowfast_dist.system.workers.shared import Shared, SharedFlags, allocate
from slowfast_dist.video.augmentation.drawn import speed_factor, varied_view
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.guarded_reader import GIVEN_UP, GuardedReader, is_fatal
from slowfast_dist.video.reader import Frames, chosen_decoder
from slowfast_dist.video.views import Region, SpatialView, evaluation_view, training_view

REPLACEMENTS = 10
"""Videos tried in place of one that fails to decode in training, before the clip counts nothing."""

AUGMENTATION = 2
"""Behind (seed, epoch, sample), what tells the draws of augmentation from those of where a clip
lies, which have no fourth number, and those of gaps, which have 1."""

LONGEST_RUN = 2
"""How many times as long as a clip the part of a video is that an evaluation reads at once."""


@sendable
@dataclass(frozen=True)
class Failure:
    """A video that could not be read: its index in the dataset, and why."""

    video: int
    reason: str


@dataclass(frozen=True)
class Sample:
    """One clip. ``frames`` is uint8 (T, 3, H, W), or None where nothing could be read; ``label``:
    its class (), or, of several labels, whether it has each, bool (K,); ``seconds`` is what reading
    took, with what failed before it."""

    frames: Tensor | None
    label: Any
    sample: int
    video: int
    view: int = 0
    failures: tuple[Failure, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Batch:
    """Clips of one micro-batch.

    ``frames`` uint8 (B, T, 3, H, W); ``labels`` int64 (B,), or bool (B, K) of several labels a
    clip, and ``videos`` int64 (B,): class and index of the video that was read; ``samples`` int64
    (B,): index of the video that was asked for, another one only where that was replaced; ``views``
    int64 (B,); ``failures``: what could not be read; ``seconds``: what reading each of the B clips
    took. B may be 0.

    In training ``views`` is 1 where the clip is mirrored and has the labels of its mirror image.
    """

    frames: Tensor
    labels: Tensor
    samples: Tensor
    videos: Tensor
    views: Tensor
    failures: tuple[Failure, ...] = ()
    seconds: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def pin_memory(self) -> "Batch":
        """Called by the DataLoader, so that copies to a GPU need not wait."""
        return replace(self, **{name: getattr(self, name).pin_memory() for name in _TENSORS})

    def to(self, device: torch.device) -> "Batch":
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in _TENSORS}
        return replace(self, **moved)


def batch_bytes(data: DataConfig, batch_size: int) -> int:
    """Of the frames of ``batch_size`` clips."""
    return batch_size * data.num_frames * data.crop_size**2 * 3


_TENSORS = ("frames", "labels", "samples", "videos", "views")


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack the samples that have frames; all failures are kept."""
    read = [sample for sample in samples if sample.frames is not None]
    frames = [sample.frames for sample in read if sample.frames is not None]
    return Batch(
        frames=_stack(frames) if frames else torch.empty(0, dtype=torch.uint8),
        labels=torch.from_numpy(np.stack([sample.label for sample in read]))
        if read
        else torch.empty(0, dtype=torch.int64),
        samples=torch.tensor([sample.sample for sample in read], dtype=torch.int64),
        videos=torch.tensor([sample.video for sample in read], dtype=torch.int64),
        views=torch.tensor([sample.view for sample in read], dtype=torch.int64),
        failures=tuple(failure for sample in samples for failure in sample.failures),
        seconds=tuple(sample.seconds for sample in read),
    )


def _stack(clips: Sequence[Tensor]) -> Tensor:
    """uint8 (B, T, 3, H, W) of (T, 3, H, W), which lie in memory as frames of pixels, and stay so.

    In a worker straight into memory that it shares with the process it serves: one copy less.
    """
    pixels = [clip.permute(0, 2, 3, 1) for clip in clips]
    out = None
    if get_worker_info() is not None:
        shape = torch.Size([len(pixels), *pixels[0].shape])
        if isinstance(multiprocessing.current_process(), Process):
            storage = torch.from_numpy(allocate(shape.numel())).untyped_storage()
        else:  # one that multiprocessing started
            storage = torch.UntypedStorage._new_shared(shape.numel())
        out = torch.empty(0, dtype=torch.uint8).set_(storage, 0, shape)  # type: ignore[call-overload]
    return torch.stack(pixels, out=out).permute(0, 1, 4, 2, 3)


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
