"""Training videos that fail to decode, of which too many end the run, the wait for the rest, and
frame rates that differ."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import cast

import numpy as np
from accelerate import Accelerator

from slowfast_dist.config.errors import RunError
from slowfast_dist.config.training import Config
from slowfast_dist.data.frame_rates import PRETRAINED_RATE, group_rates, rate_notes, rates_as_words
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.loaders import Loaders
from slowfast_dist.data.samples.batch import Batch
from slowfast_dist.data.samples.dataset import ClipDataset
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.distributed.accelerator import local_processes
from slowfast_dist.distributed.collectives import gather_list
from slowfast_dist.model.hub import is_published
from slowfast_dist.runs.best_model import read_best
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.system.log import logger
from slowfast_dist.system.progress import Progress
from slowfast_dist.system.text import operand


def require_few_failures(failed: dict[int, str], videos: VideoTable, limit: float) -> None:
    """Raise RunError where more than the share ``limit`` of the training videos ``failed``."""
    if len(failed) > limit * len(videos):
        folders = Counter(str(videos[video].path.parent) for video in failed)
        folder, count = folders.most_common(1)[0]
        worst = next(v for v in failed if str(videos[v].path.parent) == folder)
        raise RunError(
            f"{len(failed)} of {videos.counted('training')} failed to decode, more than "
            f"--data.max-bad-fraction {limit:g}; most of them, {count}, in {folder} "
            f"(as {Path(videos.sample(worst)).name}: {failed[worst]})"
        )


def frame_rate_notes(videos: VideoSet, config: Config) -> list[str]:
    """What people should know of the videos' frame rates, a line each."""
    train, val = videos.train.per_file(), videos.val.per_file()
    tables, usual, whose = (train, val), list[float](), ""
    rates = np.concatenate([table.rates() for table in tables])
    model = config.model
    kinetics = model.published == "kinetics400" and is_published("kinetics400", model.name)
    if model.weights is None and kinetics:
        usual = [PRETRAINED_RATE]
        whose = f"the {PRETRAINED_RATE:g} a second that the pretrained network saw"
    elif seen := _rates_of_weights(model.weights):
        usual, whose = seen, f"the {rates_as_words(seen)} a second that the weights saw"
    elif groups := group_rates(rates):
        usual = [groups[0].rate]
        whose = f"the {groups[0].videos} of {groups[0].rate:g} a second"

    def name(row: int) -> str:
        return train.names[row] if row < len(train) else val.names[row - len(train)]

    return rate_notes(rates, name, config.data, usual, whose)


def _rates_of_weights(weights: Path | None) -> list[float]:
    """Frames a second of the videos that a run's weights were trained on; none where it is unknown,
    as of a file of weights."""
    return list(read_best(weights).video_rates) if weights and weights.is_dir() else []


# How long training waits for its data, and what would help.

WAIT_LIMIT = 0.1
"""Share of an epoch's time spent waiting above which the user is told what would help: below it
not even the best remedy would gain a tenth."""

NAMED_VIDEOS = 3
"""Slowest videos that are named: enough to see what they have in common."""


class DataWait:
    """The waiting of an epoch over all processes."""

    def __init__(
        self, config: Config, accelerator: Accelerator, videos: VideoSet, loaders: Loaders
    ) -> None:
        self.config, self.accelerator, self.videos = config, accelerator, videos
        self.workers = loaders.train.num_workers
        self._advised = False
        # In the first epoch decoded frames are kept, which costs more than all later ones.
        self._keeps = cast(ClipDataset, loaders.train.dataset).keeps_frames
        self._slowest: dict[int, float] = {}

    def watch(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches of an epoch, as they come; notes what took longest to read."""
        self._slowest = {}
        for batch in batches:
            for video, seconds in zip(batch.videos.tolist(), batch.seconds, strict=True):
                self._slowest[video] = max(seconds, self._slowest.get(video, 0.0))
            if len(self._slowest) > 10 * NAMED_VIDEOS:
                self._slowest = dict(_most(self._slowest.items()))
            yield batch

    def end_epoch(self, epoch: int, progress: Progress) -> float:
        """Collective: the share of the epoch, in [0, 1], in which the process waited that waited
        most. Says once what would help where that is too much, not counting the first batch, for
        which the loaders' processes start, nor an epoch in which frames are first kept.
        """
        fraction = progress.data_wait_fraction
        steady = fraction - (progress.first_wait or 0.0) / max(progress.seconds, 1e-9)
        slowest = _most(self._slowest.items())
        gathered = gather_list(self.accelerator, [(fraction, steady, slowest)])
        share = max(steady for _, steady, _ in gathered)
        keeps, self._keeps = self._keeps, False
        if share > WAIT_LIMIT and not self._advised and not keeps:
            self._advised = True
            slow = _most(pair for _, _, pairs in gathered for pair in pairs)
            logger.info(self._advice(epoch, share, slow))
        return max(fraction for fraction, _, _ in gathered)

    def _advice(self, epoch: int, share: float, slowest: list[tuple[int, float]]) -> str:
        cpus = max(1, available_cpus() // local_processes())
        lines = [f"epoch {epoch}: {share:.0%} of the time went into waiting for data; what helps:"]
        useful = max(1, min(cpus - 1, 32))  # a disk may feed no more, beside hundreds of CPUs
        if self.workers < useful:
            lines.append(
                f"more decoding processes: --data.num-workers {useful} (now {self.workers}; "
                f"{cpus} CPUs for each training process)"
            )
        elif self.workers >= cpus - 1:
            lines.append(
                f"more CPUs: all {cpus} of each training process are in use "
                f"(--data.num-workers {self.workers})"
            )
        data = self.config.data
        source = operand(str(data.root or data.train_dir))
        if data.videos is not None:
            source += f" --videos {operand(str(data.videos))}"
        if any(self._is_heavy(video) for video, _ in slowest):
            lines.append(
                "videos that are quick to read: python -m slowfast_dist prepare "
                f"{source} OUT, then train as it says"
            )
        named = [f"{self.videos.train.sample(video)} ({time_:.2f} s)" for video, time_ in slowest]
        lines.append(f"slowest to read: {', '.join(named)}")
        return "\n  ".join(lines)

    def _is_heavy(self, video: int) -> bool:
        """Whether ``prepare``, which makes videos smaller and sets a keyframe every 16 frames,
        would make it much faster to read."""
        info = self.videos.train.info(video)
        return min(info.width, info.height) > 400 or info.key_interval > 32


def _most(videos: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """Those that took the most seconds."""
    return heapq.nlargest(NAMED_VIDEOS, videos, key=itemgetter(1))
