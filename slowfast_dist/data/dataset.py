"""Clips of videos for training and evaluation, and the batches they form."""

import mmap
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from slowfast_dist.config import DataConfig
from slowfast_dist.data.clips import dense_indices, uniform_indices
from slowfast_dist.data.guard import GIVEN_UP, GuardedReader, is_fatal
from slowfast_dist.data.sampler import ClipKey, ViewKey
from slowfast_dist.data.transforms import SpatialView, evaluation_view, training_view
from slowfast_dist.data.video import DecodeError, VideoInfo
from slowfast_dist.data.video_table import VideoTable

REPLACEMENTS = 10
"""Videos tried in place of one that fails to decode in training, before the clip counts nothing."""


@dataclass(frozen=True)
class Failure:
    """A video that could not be read: its index in the dataset, and why."""

    video: int
    reason: str


@dataclass(frozen=True)
class Sample:
    """One clip. ``frames`` is uint8 (T, 3, H, W), or None where nothing could be read; ``seconds``
    is what reading took, with what failed before it."""

    frames: Tensor | None
    label: int
    sample: int
    video: int
    view: int = 0
    failures: tuple[Failure, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Batch:
    """Clips of one micro-batch.

    ``frames`` uint8 (B, T, 3, H, W); ``labels`` and ``videos`` int64 (B,): class and index of the
    video that was read; ``samples`` int64 (B,): index of the video that was asked for, another one
    only where that was replaced; ``views`` int64 (B,); ``failures``: what could not be read;
    ``seconds``: what reading each of the B clips took. B may be 0.
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


_TENSORS = ("frames", "labels", "samples", "videos", "views")


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack the samples that have frames; all failures are kept."""
    read = [sample for sample in samples if sample.frames is not None]
    frames = [sample.frames for sample in read if sample.frames is not None]
    return Batch(
        frames=_stack(frames) if frames else torch.empty(0, dtype=torch.uint8),
        labels=torch.tensor([sample.label for sample in read], dtype=torch.int64),
        samples=torch.tensor([sample.sample for sample in read], dtype=torch.int64),
        videos=torch.tensor([sample.video for sample in read], dtype=torch.int64),
        views=torch.tensor([sample.view for sample in read], dtype=torch.int64),
        failures=tuple(failure for sample in samples for failure in sample.failures),
        seconds=tuple(sample.seconds for sample in read),
    )


def _stack(clips: Sequence[Tensor]) -> Tensor:
    """uint8 (B, T, 3, H, W) of (T, 3, H, W), which lie in memory as frames of pixels, and stay so.

    In a worker straight into the memory that the training process shares: one copy less.
    """
    pixels = [clip.permute(0, 2, 3, 1) for clip in clips]
    out = None
    if get_worker_info() is not None:
        shape = torch.Size([len(pixels), *pixels[0].shape])
        storage = torch.UntypedStorage._new_shared(shape.numel())
        out = torch.empty(0, dtype=torch.uint8).set_(storage, 0, shape)  # type: ignore[call-overload]
    return torch.stack(pixels, out=out).permute(0, 1, 4, 2, 3)


class ClipDataset:
    """What training and evaluation share: reading the frames of one clip of one video.

    A video that hangs or crashes the decoder is met once: all workers of the process then refuse
    it at once, in every later epoch. Nothing here is a Python object for each video, so a worker's
    own memory does not grow with their number.
    """

    def __init__(self, videos: VideoTable, data: DataConfig) -> None:
        """``videos`` come with what the probe found of them."""
        self.videos = videos
        self.data = data
        self._reader = GuardedReader()
        # (N,) of memory that the loader's workers, forked from this process, share with it.
        self._given_up = np.frombuffer(mmap.mmap(-1, max(1, len(videos))), np.uint8)

    def give_up(self, videos: Iterable[int]) -> None:
        """Never read these videos (indices) again: they hang or crash the decoder.

        For those that other processes met, or this run before it was resumed.
        """
        for video in videos:
            self._given_up[video] = True

    def _indices(self, info: VideoInfo, position: float) -> np.ndarray:
        if self.data.sampling == "uniform":
            return uniform_indices(info.frames, self.data.num_frames)
        return dense_indices(info.frames, self.data.num_frames, self.data.sampling_rate, position)

    def _read(self, video: int, position: float, view: SpatialView) -> Tensor:
        """Frames of one clip, uint8 (T, 3, H, W). Raises DecodeError."""
        path, info = self.videos.path(video), self.videos.info(video)
        if self._given_up[video]:
            raise DecodeError(path, GIVEN_UP)
        indices = self._indices(info, position)
        try:
            frames = self._reader.read(path, indices, info, self.data.decoder, view)
        except DecodeError as error:
            if is_fatal(error.reason):
                self.give_up([video])
            raise
        return torch.from_numpy(frames).permute(0, 3, 1, 2)


class TrainingClips(ClipDataset, Dataset[Sample]):
    """Randomly placed, cropped and mirrored clips; all randomness from (seed, epoch, sample).

    The same key gives the same clip in any worker of any process. A video that fails to decode is
    replaced by another one, drawn from the same key, and reported in the sample's failures.
    """

    def __init__(self, videos: VideoTable, data: DataConfig, seed: int) -> None:
        super().__init__(videos, data)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: ClipKey) -> Sample:
        started = time.perf_counter()
        rng = np.random.default_rng([self.seed, key.epoch, key.sample])
        failures: list[Failure] = []
        video = key.sample
        for _ in range(1 + REPLACEMENTS):
            info = self.videos.info(video)
            position = float(rng.random())
            view = training_view(info.height, info.width, self.data, rng)
            try:
                frames = self._read(video, position, view)
            except DecodeError as error:
                failures.append(Failure(video, error.reason))
                video = int(rng.integers(len(self.videos)))
                continue
            label = int(self.videos.labels[video])
            seconds = time.perf_counter() - started
            return Sample(frames, label, key.sample, video, 0, tuple(failures), seconds)
        return Sample(None, 0, key.sample, video, failures=tuple(failures))


class EvaluationClips(ClipDataset, Dataset[Sample]):
    """The views of each video: ``temporal_views`` clips times ``spatial_crops`` crops.

    Nothing is random and nothing is replaced: a view that cannot be read comes without frames.
    """

    def __init__(
        self,
        videos: VideoTable,
        data: DataConfig,
        temporal_views: int = 1,
        spatial_crops: int = 1,
    ) -> None:
        super().__init__(videos, data)
        self.temporal_views = temporal_views
        self.spatial_crops = spatial_crops

    @property
    def views(self) -> int:
        """Views of each video."""
        return self.temporal_views * self.spatial_crops

    def __len__(self) -> int:
        return len(self.videos) * self.views

    def __getitem__(self, key: ViewKey) -> Sample:
        info = self.videos.info(key.video)
        clip, crop = divmod(key.view, self.spatial_crops)
        # One clip: the centre. Several: from the first possible start to the last.
        last = self.temporal_views - 1
        position = clip / last if last else 0.5
        view = evaluation_view(info.height, info.width, self.data, crop, self.spatial_crops)
        label = int(self.videos.labels[key.video])
        try:
            frames = self._read(key.video, position, view)
        except DecodeError as error:
            failures = (Failure(key.video, error.reason),)
            return Sample(None, label, key.video, key.video, key.view, failures)
        return Sample(frames, label, key.video, key.video, key.view)
