"""What of the videos has a label already, as far as the run's folder tells."""

import os
from collections.abc import Iterable, Iterator
from functools import cache
from math import inf, isnan
from pathlib import Path

from slowfast_dist.runs.best_model import BestModel
from slowfast_dist.runs.run import read_split_rows
from slowfast_dist.runs.settings import given, read_settings, run_of
from slowfast_dist.runs.videos import NoVideosError, Side, data_root, own_videos

Bounds = tuple[float, float]


class Labelled:
    """Files by their real paths, each with the parts that have a label, in seconds."""

    def __init__(self, rows: Iterable[tuple[str, Bounds]]) -> None:
        self._parts: dict[str, list[Bounds]] = {}
        self._real_folder = cache(os.path.realpath)
        for path, (start, end) in rows:
            bounds = (-inf, inf) if isnan(start) else (start, inf if isnan(end) else end)
            self._parts.setdefault(self._place(path), []).append(bounds)

    def __len__(self) -> int:
        return len(self._parts)

    def has(self, path: str | Path, whole: bool) -> bool:
        """Whether any part of the file has a label; ``whole``: whether all of it has one label."""
        parts = self._parts.get(self._place(path), [])
        return (-inf, inf) in parts if whole else bool(parts)

    def overlaps(self, path: str | Path, start: float, end: float) -> bool:
        """Whether a part of the file from ``start`` to ``end`` has a label, anywhere in it."""
        parts = self._parts.get(self._place(path), [])
        return any(start < its_end and its_start < end for its_start, its_end in parts)

    def _place(self, path: str | Path) -> str:
        folder, name = os.path.split(path)
        real = os.path.join(self._real_folder(folder), name)
        return os.path.realpath(real) if os.path.islink(real) else real


def labelled_by(best: BestModel) -> tuple[Labelled, Path | None, str | None]:
    """What the run of a model has labels of: the rows of its split.csv, of training, validation and
    test, or of its --data.train-dir and val-dir; the folder below which its videos are; and what is
    to be said where neither is known."""
    run = run_of(best.folder)
    settings = read_settings(run / "config.yaml")
    text = given(settings, "data.root")
    if text is not None and (rows := read_split_rows(run / "split.csv")):
        root = data_root(text, run, settings)
        gone = None if root.is_dir() else (
            f"the run's videos are not at {root} any more, so that none of the inputs is known to "
            "have a label"
        )  # fmt: skip
        named = ((os.path.join(root, row.path), (row.start, row.end)) for row in rows)
        return Labelled(named), root if root.is_dir() else None, gone
    found = Labelled(one for side in ("train", "val") for one in _of_side(best, side))
    if found:
        return found, None, None
    return found, None, (
        "the run's files do not tell its videos, so that none of the inputs is known to have a "
        "label"
    )  # fmt: skip


def _of_side(best: BestModel, side: Side) -> Iterator[tuple[str, Bounds]]:
    try:
        _, listing = own_videos(best.folder, best.classes, best.task.several, side=side)
    except NoVideosError:
        return
    videos = listing.videos
    for row in range(len(videos)):
        bounds = (float("nan"),) * 2 if videos.segments is None else videos.segments.seconds(row)
        yield str(videos.path(row)), bounds
