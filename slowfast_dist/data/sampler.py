"""Which samples each process takes in each optimizer step: the same steps at any process count.

Let G be the global batch, b the micro-batch, W the processes, N the samples, and positions those
of the epoch's permutation from (seed, epoch). Micro-batch k of step s is positions sG + kb up to
min(sG + (k+1)b, (s+1)G, N), and process k mod W takes it. A step is therefore the same set of
micro-batches whatever W; the last step of an epoch is short rather than padded or dropped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


@dataclass(frozen=True)
class ClipKey:
    """What the dataset needs to know of a training clip: its randomness follows from it.

    ``repeat``: how often the epoch had this sample before.
    """

    epoch: int
    sample: int
    repeat: int = 0

    def entropy(self, seed: int) -> list[int]:
        """The seed of this clip's random numbers; one more number at its end gives others.

        NumPy takes a seed of up to four numbers for the same as one with zeros behind it. A repeat
        has five, and so meets none.
        """
        own = [seed, self.epoch, self.sample]
        return [*own, 0, self.repeat] if self.repeat else own


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
    classes: "ClassSampling | None" = None
    """What draws an epoch's samples, None: each once."""
    together: int = 1
    """So many samples that follow each other stay so in the epoch's permutation, as the showings of
    a video in a pretraining."""
    epoch: int = field(default=0, init=False)
    start_step: int = field(default=0, init=False)
    end_step: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        assert self.num_samples > 0 and self.global_batch % self.micro_batch == 0

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_samples // self.global_batch)

    def set_epoch(self, epoch: int, start_step: int = 0, end_step: int | None = None) -> None:
        """Choose the epoch's permutation, the step from which to go on after a resume, and the one
        before which to end (None: the epoch's end)."""
        self.epoch, self.start_step, self.end_step = epoch, start_step, end_step

    def _steps(self) -> range:
        every = self.steps_per_epoch
        return range(self.start_step, every if self.end_step is None else self.end_step)

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
        steps = self._steps()
        if not steps:
            return 0
        whole = -(-(self.global_batch // self.micro_batch) // self.world_size)
        return (len(steps) - 1) * whole + self.rounds(steps[-1])

    def places(self) -> Iterator[int]:
        """Of each micro-batch that this process yields, its number over all processes."""
        whole = self.global_batch // self.micro_batch
        for step in self._steps():
            for round_ in range(self.rounds(step)):
                yield step * whole + round_ * self.world_size + self.rank

    def __iter__(self) -> Iterator[list[ClipKey]]:
        epoch = self.epoch
        rng = np.random.default_rng([self.seed, epoch])
        if self.classes is None:
            firsts = rng.permutation(self.num_samples // self.together) * self.together
            order, repeats = (firsts[:, None] + np.arange(self.together)).ravel(), None
        else:
            order, repeats = self.classes.draw(rng)
        for step in self._steps():
            begin = step * self.global_batch
            end = begin + self.samples(step)
            for round_ in range(self.rounds(step)):
                first = begin + (round_ * self.world_size + self.rank) * self.micro_batch
                own = slice(first, min(first + self.micro_batch, end))
                samples = order[own].tolist()
                again = [0] * len(samples) if repeats is None else repeats[own].tolist()
                yield [ClipKey(epoch, *key) for key in zip(samples, again, strict=True)]


@dataclass(frozen=True, eq=False)
class ClassSampling:
    """Draws an epoch of as many samples as there are, with other shares of the classes.

    ``labels`` int64 (N,); ``shares`` float64 (K,), of the classes, sum 1, 0 for a class without
    samples. Of a class as many are drawn as its share says, but for the rounding, which chance
    decides. Each of its samples is then there equally often, but for one: a rare class's twice or
    more, a frequent one's once or never.
    """

    labels: NDArray[np.int64]
    shares: NDArray[np.float64]

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The samples of an epoch in order (N,), and how often each was there before (N,)."""
        total, shown = len(self.labels), np.flatnonzero(self.shares)
        # Systematic sampling: whole numbers whose sum and whose expectations are right.
        ends = np.cumsum(self.shares[shown]) * total + rng.random()
        ends = np.minimum(np.floor(ends).astype(np.int64), total)
        ends[-1] = total
        by_class = np.argsort(self.labels, kind="stable")
        sizes = np.bincount(self.labels, minlength=len(self.shares))
        members = np.split(by_class, np.cumsum(sizes)[:-1])
        drawn, repeats = [], []
        for label, count in zip(shown, np.diff(ends, prepend=0).tolist(), strict=True):
            own = members[label]
            rounds = -(-count // len(own))
            again = [rng.permutation(own) for _ in range(rounds)]
            drawn.append(np.concatenate([own[:0], *again])[:count])
            repeats.append(np.arange(count) // len(own))
        order = rng.permutation(total)
        return np.concatenate(drawn)[order], np.concatenate(repeats)[order]


    def describe(self, classes: Sequence[str], how: str) -> str:
        """In words, what the rarest and the most frequent class get."""
        sizes, total = np.bincount(self.labels, minlength=len(classes)), len(self.labels)
        there = np.flatnonzero(sizes)
        if sizes[there].min() == sizes[there].max():
            return f"class sampling {how}: all classes have {sizes[there[0]]} clips as it is"
        told = []
        for label in (there[sizes[there].argmin()], there[sizes[there].argmax()]):
            clips, size = self.shares[label] * total, int(sizes[label])
            told.append(f"{clips:.1f} are of {classes[label]!r} ({size}, each {clips / size:.1f} "
                        "times)")  # fmt: skip
        return f"class sampling {how}: of the {total} clips of an epoch {' and '.join(told)}"


def class_shares(counts: NDArray[np.int64], how: str) -> NDArray[np.float64]:
    """(K,), sum 1: of the clips of an epoch those of each class, of ``counts`` (K,) training clips;
    ``how``: natural, sqrt or balanced."""
    power = {"natural": 1.0, "sqrt": 0.5, "balanced": 0.0}[how]
    weights = np.where(counts > 0, counts.astype(np.float64) ** power, 0.0)
    return weights / weights.sum()


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
