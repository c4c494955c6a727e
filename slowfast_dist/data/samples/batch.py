"""One clip of a video, and the batches that clips form."""

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from slowfast_dist.config.data import DataConfig
from slowfast_dist.system.messages import sendable
from slowfast_dist.system.workers.context import Process
from slowfast_dist.system.workers.shared import allocate


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
