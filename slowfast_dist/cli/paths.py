"""Paths of a command that are looked at before anything slow is imported, or any video read."""

import os
import tempfile
from itertools import islice
from pathlib import Path

from slowfast_dist.annotations.table import SUFFIXES, Table
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config
from slowfast_dist.data.listing.folds.column import Folds
from slowfast_dist.data.listing.folds.dealing import count_folds
from slowfast_dist.data.listing.manifest import (
    list_root,
    list_sides,
    list_unlabelled,
    open_list,
)
from slowfast_dist.runs.reading import read_text
from slowfast_dist.runs.videos import with_start
from slowfast_dist.system.files import reason_of

QUICK_FILES = 5_000
"""Files of a folder at most that are listed for a first look, and then once more when the training
starts: a tenth of a second on a disk of this machine."""

QUICK_BYTES = 500_000
"""Size of the largest CSV that is read for a first look: about as many rows."""


def check_paths(config: Config) -> None:
    """Raise UserError for videos, weights or an output folder that cannot be used.

    For the first moment of a training, on every process; takes a fraction of a second. What passes
    may still fail later, with the same words.
    """
    goes_on = config.resume == "auto"
    # Of a finished run nothing may be left to do, wherever its videos are now.
    if not (goes_on and (read_text(config.output_dir / "status", 100) or "").strip() == "finished"):
        _check_data(with_start(config.data), config.loss.name == "bce", config.folds)
    weights, resume = config.model.weights, config.resume
    if resume not in ("never", "auto") and not Path(resume).exists():
        raise UserError(
            f"--resume {resume}: no checkpoint there; give a folder such as "
            "RUN/checkpoints/step_00000120, or auto"
        )
    # A run that goes on needs them no more.
    begins = resume == "never" or (goes_on and not any(config.output_dir.glob("checkpoints/*/")))
    if weights is not None and begins and not weights.exists():
        raise UserError(f"--model.weights {weights}: there is no such file")
    _check_output(config.output_dir)


def _check_data(data: DataConfig, several: bool, folds: Folds | None) -> None:
    if data.root is not None:
        if not data.synthetic and _is_quick(data, "root", data.root):
            if data.ways:
                list_unlabelled(data)
                return
            listing = list_root(data, several=several)
            if folds is not None:
                count_folds(listing, folds, data.background)
        return
    assert data.train_dir is not None and data.val_dir is not None
    quick = [_is_quick(data, "train-dir", data.train_dir), _is_quick(data, "val-dir", data.val_dir)]
    if all(quick):
        list_sides(data, several=several)


def _is_quick(data: DataConfig, name: str, root: Path) -> bool:
    """Whether what --data.``name`` names is listed in a moment. Of a file of another tool only the
    format is looked for: its videos are looked at when it is imported, once for all processes."""
    if not root.is_dir():
        if not root.is_file() or data.ways:
            return True
        if root.stat().st_size > QUICK_BYTES and root.suffix.lower() in SUFFIXES:
            return False
        below = root.parent if data.videos is None else data.videos
        return isinstance(open_list(root, f"data.{name}", below), Table)
    names = (name for _, folders, files in os.walk(root) for name in (*folders, *files))
    return next(islice(names, QUICK_FILES, None), None) is None


def _check_output(output_dir: Path) -> None:
    """Try to make a folder where the run's would be, or the first that it lies in."""
    path = output_dir.absolute()
    place = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".slowfast_dist-", dir=place))
    except OSError as error:
        problem = "cannot write there" if place == path and place.is_dir() else "cannot create it"
        reason = reason_of(error, place)
        raise UserError(f"--output-dir {output_dir}: {problem} ({reason})") from None
