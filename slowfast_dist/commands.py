"""The settings of the commands beside ``train`` and ``evaluate``: field names are the flags.

The text under a field is its help on the command line. No torch here, so that ``--help`` is fast.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slowfast_dist.config_checks import MOST, require


def _check_workers(workers: int | str) -> None:
    if isinstance(workers, int):
        require(workers > 0, "num-workers", workers, "give a number above 0, or auto")


@dataclass(frozen=True)
class CheckData:
    """Report what is wrong with a dataset before hours are spent on it."""

    val_dir: Path | None = None
    """Validation videos, where you made the split yourself and DIR holds the training videos."""
    val_fraction: float = 0.2
    """As --data.val-fraction of the training: its split is the one that is checked."""
    group_pattern: str | None = None
    """As --data.group-pattern of the training."""
    seed: int = 0
    """As --seed of the training."""
    num_frames: int = 32
    """As --data.num-frames of the training."""
    sampling_rate: int = 2
    """As --data.sampling-rate of the training."""
    crop_size: int = 224
    """As --data.crop-size of the training."""
    full: bool = False
    """Decode every frame of every video: finds damage in the middle of a file, in minutes or hours
    where the usual check takes seconds."""
    json: Path | None = None
    """Also write the report to this file, for programs."""
    move_bad: Path | None = None
    """Move the videos that cannot be read to this folder, each to where it was below DIR (with
    --val-dir: below train and val). Nothing is overwritten, and no CSV is changed."""
    num_workers: int | Literal["auto"] = "auto"
    """Processes that read files at once; auto: one a CPU."""

    def check(self) -> None:
        """Raise UserError for settings that cannot be."""
        fraction, frames, rate = self.val_fraction, self.num_frames, self.sampling_rate
        require(0 < fraction < 1, "val-fraction", fraction, "give a number between 0 and 1")
        seed, most = self.seed, MOST["seed"]
        require(0 <= seed <= most, "seed", seed, f"give a number from 0 to {most}")
        for name, value in (
            ("num-frames", frames), ("sampling-rate", rate), ("crop-size", self.crop_size)
        ):  # fmt: skip
            most = MOST[f"data.{name}"]
            require(0 < value <= most, name, value, f"give a number from 1 to {most}")
        _check_workers(self.num_workers)


@dataclass(frozen=True)
class Prepare:
    """Rewrite a dataset once for fast loading; the originals are not touched."""

    short_side: int = 256
    """Pixels of the short side; videos with a smaller one keep their size (made even). Evaluation
    looks at 256; training (--data.short-side) enlarges up to 1.25 times beyond that, for which 320
    keeps all detail. Measured on videos of 432 to 1080 lines: 256, 288, 320 and 360 take 25, 31, 33
    and 40 ms of CPU time a clip, and .6, .7, .8 and 1.0 MB for 10 s."""
    num_workers: int | Literal["auto"] = "auto"
    """Processes that transcode at once; auto: one a CPU."""

    def check(self) -> None:
        """Raise UserError for settings that cannot be."""
        side = self.short_side
        require(side >= 16 and side % 2 == 0, "short-side", side, "give an even number from 16 on")
        _check_workers(self.num_workers)
