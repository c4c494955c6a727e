"""The usable videos of a training, and what follows from how many each class has."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.labels import Remark
from slowfast_dist.data.background.drawn import (
    Background,
)
from slowfast_dist.data.listing.columns import CHUNK
from slowfast_dist.data.listing.split import (
    shared_rows,
)
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.sampler import (
    ClassSampling,
    class_shares,
)
from slowfast_dist.system.messages import sendable
from slowfast_dist.video.pictures import PictureCounts


@sendable
@dataclass(frozen=True)
class VideoSet:
    """The usable videos of a run.

    ``train`` and ``val`` come with what the probe found; ``rejected``: (path below its root,
    reason, "probe") of what it left out; ``was_split``: whether they are of one root, ``drawn``:
    whether its sides were drawn here, and not given; ``remarks``: what the user should know.
    ``background``: which rows of ``train`` are gaps, from which an epoch's clips are drawn;
    ``swaps`` (K,): the class that each becomes in a mirror (--data.flip-pairs), None: itself.
    """

    classes: tuple[str, ...]
    train: VideoTable
    val: VideoTable
    rejected: tuple[tuple[str, str, str], ...]
    was_split: bool
    remarks: tuple[Remark, ...]
    drawn: bool = True
    background: Background | None = None
    test: VideoTable | None = None
    """The rows of split test, which are scored once at the end; None: there are none."""
    swaps: NDArray[np.int64] | None = None
    ways: bool = False
    """Whether the classes are the ways in which clips are shown (--data.ways)."""

    def train_counts(self) -> NDArray[np.int64]:
        """(K,): training clips of each class in an epoch: one a video or segment, and those that
        are drawn from gaps."""
        counts = self.train.class_counts(len(self.classes))
        if self.background is not None:
            counts[self.background.label] = self.background.clips
        return counts

    def class_sampling(self, how: str) -> ClassSampling | None:
        """What draws an epoch's clips, by --data.class-sampling; None: each once."""
        if how == "natural":
            return None
        labels = self.segments().labels.astype(np.int64)
        if self.background is not None:
            gaps = np.full(self.background.clips, self.background.label)
            labels = np.concatenate([labels, gaps])
        return ClassSampling(labels, class_shares(self.train_counts(), how))

    def log_priors(self, how: str) -> NDArray[np.float64]:
        """(K,): the logarithm of each class's share of the clips that a training shows with this
        --data.class-sampling; of a class without any as if it had one. Of classes that a mirror
        swaps half the clips of each are shown as the other's."""
        counts = self.train_counts()
        swaps = np.arange(len(counts)) if self.swaps is None else self.swaps
        shares = class_shares(np.where(counts + counts[swaps] > 0, counts, 1), how)
        return np.asarray(np.log((shares + shares[swaps]) / 2), np.float64)

    def segments(self) -> VideoTable:
        """The training videos, or parts of them, without gaps."""
        if self.background is None:
            return self.train
        return self.train.select(np.arange(self.background.first))

    def balanced_weights(self) -> NDArray[np.float64]:
        """(K,): N / (K n_k) for a class of n_k of the N training clips, so 1 on average. With
        several labels a clip (N - n_k) / n_k, which gives a class as much weight where it is there
        as where it is not (torch's pos_weight). Of classes that a mirror swaps half the clips of
        each count for the other."""
        counts = self.train_counts().astype(np.float64)
        if self.swaps is not None:
            counts = (counts + counts[self.swaps]) / 2
        counts = np.maximum(counts, 1)
        if self.train.sets is not None:
            return np.maximum(len(self.train) - counts, 1) / counts
        return self.train_counts().sum() / (len(self.classes) * counts)

    def kinds(self) -> "Counter[tuple[str, bool]]":
        """As `VideoTable.kinds`, of both sides; a file that has parts on both counts once."""
        return self.train.kinds() + self._val_alone().kinds()

    def pictures(self) -> PictureCounts:
        """As `VideoTable.pictures`, of both sides; a file that has parts on both counts once."""
        return self.train.pictures() + self._val_alone().pictures()

    def _val_alone(self) -> VideoTable:
        if self.val.segments is None or self.train.segments is None:
            return self.val
        val = self.val.per_file()
        rows = np.setdiff1d(np.arange(len(val)), shared_rows(self.train, self.val))
        return val.select(rows)

    def fingerprint(self) -> str:
        """Of classes and of each side's samples in order: a resume needs the same."""
        digest = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        for side in (self.train, self.val):
            lines = zip(side.labels.tolist(), side.names.parts(), strict=True)
            while some := b"".join(b"\n%d\t%s" % line for line in islice(lines, CHUNK)):
                digest.update(some)
            if side.sets is not None:
                digest.update(side.sets.tobytes())
            if side.segments is not None and side.segments.any_part:
                digest.update(side.segments.bounds.tobytes())
            if side.segments is not None and side.segments.boxes is not None:
                digest.update(side.segments.boxes.tobytes())
            if side is self.train and side.weights is not None:
                digest.update(side.weights.tobytes())
            digest.update(b"\n")
        return digest.hexdigest()
