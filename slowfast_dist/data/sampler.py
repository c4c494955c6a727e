"""Which samples each process takes in each optimizer step: the same steps at any process count.

Let G be the global batch, b the micro-batch, W the processes, N the samples, and positions those
of the epoch's permutation from (seed, epoch). Micro-batch k of step s is positions sG + kb up to
min(sG + (k+1)b, (s+1)G, N), and process k mod W takes it. A step is therefore the same set of
micro-batches whatever W; the last step of an epoch is short rather than padded or dropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


@dataclass(frozen=True)
class ClipKey:
    """What the dataset needs to know of a training clip: its randomness follows from it."""

    epoch: int
    sample: int


@dataclass(frozen=True)
class ViewKey:
    """A view of a video: index of the video, index of the view among the video's views, of which
    the crops of one clip follow each other."""

    video: int
    view: int


@dataclass(eq=False)
class DistributedBatchSampler(Sampler[list[ClipKey]]):
    """The micro-batches of one process, in order, for a DataLoader's ``batch_sampler``.

    Every process yields ``rounds(step)`` micro-batches in a step; where it has none of its own
    left it yields an empty list, so that all stay in step.
    """

    num_samples: int
    global_batch: int
    micro_batch: int
    seed: int
    rank: int = 0
    world_size: int = 1
    epoch: int = field(default=0, init=False)
    start_step: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        assert self.num_samples > 0 and self.global_batch % self.micro_batch == 0

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_samples // self.global_batch)

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Choose the epoch's permutation, and the step from which to go on after a resume."""
        self.epoch, self.start_step = epoch, start_step

    def samples(self, step: int) -> int:
        """Number of samples of ``step`` over all processes."""
        return min(self.num_samples - step * self.global_batch, self.global_batch)

    def micro_batches(self, step: int) -> int:
        """Number of micro-batches of ``step`` over all processes."""
        return -(-self.samples(step) // self.micro_batch)

    def rounds(self, step: int) -> int:
        """Number of micro-batches that each process forwards in ``step``."""
        return -(-self.micro_batches(step) // self.world_size)

    def __len__(self) -> int:
        steps = self.steps_per_epoch - self.start_step
        if steps <= 0:
            return 0
        whole = -(-(self.global_batch // self.micro_batch) // self.world_size)
        return (steps - 1) * whole + self.rounds(self.steps_per_epoch - 1)

    def __iter__(self) -> Iterator[list[ClipKey]]:
        epoch = self.epoch
        order = np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)
        for step in range(self.start_step, self.steps_per_epoch):
            window = order[step * self.global_batch : (step + 1) * self.global_batch]
            for round_ in range(self.rounds(step)):
                first = (round_ * self.world_size + self.rank) * self.micro_batch
                samples = window[first : first + self.micro_batch]
                yield [ClipKey(epoch, int(sample)) for sample in samples]


class EvaluationSampler(Sampler[list[ViewKey]]):
    """Every view of every video exactly once over all processes, without padding.

    What can be decoded together stays together: the crops of a clip, and neighbouring clips of a
    video. A batch is as many whole clips as ``batch_size`` views allow (only where that is less
    than one, a clip is parted). The clips of a video form equal blocks, no longer than a batch, and
    process r of W takes blocks r, r + W, ... of all videos'. So processes may have unequal numbers
    of batches, also none: nothing in evaluation may wait for another process.
    """

    def __init__(
        self, num_videos: int, views: int, batch_size: int, rank: int = 0, world_size: int = 1,
        crops: int = 1, order: NDArray[np.int64] | None = None,
    ) -> None:  # fmt: skip
        """``views`` of each video; ``crops`` of each of its clips, a divisor of ``views``;
        ``order``: of the videos, each once (N,), None for their own."""
        assert views % crops == 0
        self.order = order
        self.crops = crops
        self.clips = views // crops
        self.batch_size = batch_size
        self.clips_per_batch = max(1, batch_size // crops)
        lengths = range(1, min(self.clips_per_batch, self.clips) + 1)
        self.block = max(length for length in lengths if self.clips % length == 0)
        self.own = range(rank, num_videos * self.clips // self.block, world_size)

    def __len__(self) -> int:
        batches = -(-len(self.own) * self.block // self.clips_per_batch)
        return batches * -(-self.crops // self.batch_size)

    def __iter__(self) -> Iterator[list[ViewKey]]:
        views = self.block * self.crops
        own = (block * views + view for block in self.own for view in range(views))
        while items := list(islice(own, self.clips_per_batch * self.crops)):
            keys = [self._key(*divmod(item, self.clips * self.crops)) for item in items]
            for first in range(0, len(keys), self.batch_size):
                yield keys[first : first + self.batch_size]

    def _key(self, place: int, view: int) -> ViewKey:
        return ViewKey(place if self.order is None else int(self.order[place]), view)
