"""Clips on which an exported file is compared with the original: real ones where there are some."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from slowfast_dist.best_model import BestModel
from slowfast_dist.config import DataConfig, UserError
from slowfast_dist.cpus import available_cpus
from slowfast_dist.data.dataset import EvaluationClips
from slowfast_dist.data.manifest import VIDEO_SUFFIXES
from slowfast_dist.data.probe_all import probe_videos
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.data.sampler import ViewKey
from slowfast_dist.data.video_table import VideoTable
from slowfast_dist.report.stills import data_root
from slowfast_dist.tracking import read_predictions

MOST = 6
"""Clips, each of another video."""

MOST_TRIED = 30
"""Videos that are looked at before the rest, too, is taken for unreadable."""


@dataclass(frozen=True)
class Clips:
    """uint8 ``frames`` (N, T, H, W, 3), 1 to MOST of them; ``source``: "of", and in words what."""

    frames: NDArray[np.uint8]
    source: str


def find_clips(best: BestModel, data: Path | None) -> Clips:
    """The centre clips of some videos, cut as the validation of ``best`` did.

    Of ``data``, a video or a folder; else of the run's own validation videos where config.yaml
    beside models/ leads to them; else random frames. Raises UserError for ``data`` without a
    readable video.
    """
    if data is not None:
        frames, reason = _read(_videos_of(data), best.data)
        if not len(frames):
            raise UserError(f"--data {data}: no video in it can be read ({reason}): give another")
        return Clips(frames, f"of {data}")
    own, reason = _validation_videos(Path(os.path.abspath(best.folder)).parent)
    if own:
        frames, reason = _read(own, best.data)
        if len(frames):
            return Clips(frames, "of the run's own validation videos")
    size = (MOST, best.data.num_frames, best.data.crop_size, best.data.crop_size, 3)
    random = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    return Clips(random, f"of random pixels ({reason}: --data gives real ones)")


def _videos_of(data: Path) -> list[Path]:
    """The file itself, or all videos below the folder."""
    if data.is_file():
        return [data]
    if not data.is_dir():
        raise UserError(f"--data {data}: there is no such file or folder: give videos that exist")
    found = sorted(
        Path(folder, name)
        for folder, _, names in os.walk(data)
        for name in names
        if Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith(".")
    )
    if not found:
        raise UserError(f"--data {data}: holds no video: give a video, or a folder of videos")
    return found


def _validation_videos(run: Path) -> tuple[list[Path], str]:
    """Those of the run in this folder that are still there, or none and the reason in words."""
    config = run / "config.yaml"
    if not config.is_file():
        return [], "there is no config.yaml beside models/"
    try:
        data: Any = yaml.safe_load(config.read_text(encoding="utf-8"))["data"]
        root = str(data["val_dir"] or data["root"])
        names = _validation_names(run)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, csv.Error):
        return [], "the run's files do not tell its validation videos"
    folder = data_root(root, run)
    found = [path for path in (folder / name for name in names) if path.is_file()]
    return found, f"the run's validation videos are not at {root} any more"


def _validation_names(run: Path) -> list[str]:
    """Their paths below the root: of predictions/val_best.csv, else of split.csv."""
    predictions = run / "predictions" / "val_best.csv"
    if predictions.is_file():
        return read_predictions(predictions).names
    with open(run / "split.csv", encoding="utf-8", newline="") as file:
        return [row["path"] for row in csv.DictReader(file) if row["split"] == "val"]


def _read(paths: Sequence[Path], data: DataConfig) -> tuple[NDArray[np.uint8], str]:
    """Up to MOST clips, of videos spread over ``paths``; and why the last one without failed."""
    clips: list[NDArray[np.uint8]] = []
    reason = ""
    for some in _spread(paths):
        table = VideoTable.of_paths(some)
        probed = probe_videos(table, available_cpus(), default_cache(), show_progress=False)
        reader = EvaluationClips(table.probed(probed.infos), data)
        for row in range(len(some)):
            why = probed.reasons.get(row)
            if why is None and len(clips) < MOST:
                sample = reader[ViewKey(row, 0)]
                if sample.frames is not None:
                    clips.append(sample.frames.permute(0, 2, 3, 1).numpy())
                    continue
                why = sample.failures[0].reason
            if why is not None:
                reason = f"{some[row]}: {why}"
        if len(clips) == MOST:
            break
    return np.stack(clips) if clips else np.empty(0, np.uint8), reason


def _spread(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Up to MOST at a time, first those spread evenly from the first to the last, then others."""
    rows = range(len(paths))
    first = sorted({int(row) for row in np.linspace(0, len(paths) - 1, MOST)})
    others = [row for row in rows if row not in set(first)][: MOST_TRIED - len(first)]
    yield [paths[row] for row in first]
    for start in range(0, len(others), MOST):
        yield [paths[row] for row in others[start : start + MOST]]
