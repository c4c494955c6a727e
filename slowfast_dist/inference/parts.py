"""What a model computes of files: a row for each video, or for each window of it."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.fields import Precision
from slowfast_dist.inference.inputs import Inputs
from slowfast_dist.inference.predictor import Predictor, open_predictor
from slowfast_dist.inference.scoring import Asked, Compute, probed_parts, rows_of_files
from slowfast_dist.inference.seen import SeenVideos
from slowfast_dist.inference.windows import compute_windows
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.views import Box


@dataclass(frozen=True)
class Part:
    """``row`` float64 (C,) of what is shown in a file from ``start`` to ``end``, seconds from its
    first frame on, NaN where it does not tell."""

    path: Path
    start: float
    end: float
    row: NDArray[np.float64]


@dataclass(frozen=True)
class Unread:
    """What could not be read, and why."""

    name: str
    reason: str


class AskedParts(Asked, Protocol):
    """With the flags that say how they are computed, and which windows there are."""

    @property
    def mixed_precision(self) -> Precision: ...
    @property
    def crop_box(self) -> Box | None: ...
    @property
    def windows(self) -> bool: ...
    @property
    def window(self) -> float | None: ...
    @property
    def stride(self) -> float | None: ...


def open_for_parts(run: Path, asked: AskedParts) -> Predictor:
    """The best model of ``run``, and the processes that read for it. Raises as `open_predictor`."""
    from slowfast_dist.data.workers import prepare_workers
    from slowfast_dist.distributed.failures import faults_as_run_errors

    if not asked.windows:
        prepare_workers(asked.num_workers)  # before torch's threads start
    with faults_as_run_errors():
        predictor = open_predictor(run, mixed_precision=asked.mixed_precision)
        if asked.crop_box is None:
            return predictor
        return replace(predictor, best=predictor.best.looking_at(asked.crop_box))


def parts_of_files(
    predictor: Predictor, compute: Compute, inputs: Inputs, asked: AskedParts, seen: SeenVideos
) -> Generator[Part | Unread, None, None]:
    """The parts as they are computed, those of a file one after the other; ``seen`` is told each
    file that was read to its end. Closing the generator ends its processes."""
    rows = _windows if asked.windows else _videos
    return rows(predictor, compute, inputs, asked, seen)


def with_probabilities(predictor: Predictor) -> Compute:
    """From clips to features and probabilities side by side, (B, F + K), by one pass: as
    `Predictor.features` and, but for rounding, `Predictor.probabilities`; of a model that scores
    clips mirrored, too, by one pass more. Raises UserError as `Predictor.features`."""
    weight, bias = predictor.head

    def compute(clips: NDArray[np.uint8]) -> NDArray[np.float64]:
        features = predictor.features(clips)
        if predictor.best.evaluation.flip:
            return np.hstack([features.astype(np.float64), predictor.probabilities(clips)])
        broken = np.flatnonzero(~np.isfinite(features).all(axis=1))
        logits = np.nan_to_num(features, posinf=0, neginf=0) @ weight.T + bias
        probabilities = predictor.best.task.probabilities(logits)
        probabilities[broken] = nan
        return np.hstack([features.astype(np.float64), probabilities])

    return compute


def _videos(
    predictor: Predictor, compute: Compute, inputs: Inputs, asked: AskedParts, seen: SeenVideos
) -> Generator[Part | Unread, None, None]:
    rows = rows_of_files(predictor.best, compute, inputs.files, asked)
    with closing(rows):
        for one in rows:
            if one.row is None or one.info is None:
                yield Unread(str(one.path), one.reason or "")
                continue
            seen.add(str(one.path), one.info)
            yield Part(one.path, 0.0, one.info.duration() or nan, one.row)


def _windows(
    predictor: Predictor, compute: Compute, inputs: Inputs, asked: AskedParts, seen: SeenVideos
) -> Generator[Part | Unread, None, None]:
    best = predictor.best
    for part in probed_parts(best, inputs.files, asked.image_fps):
        for given, info in part:
            if isinstance(info, str):
                yield Unread(str(given.path), info)
                continue
            windows = compute_windows(
                best, compute, given.path, info, asked.window, asked.stride, asked.batch_size
            )
            try:
                for one in windows:
                    yield Part(given.path, one.start, one.end, one.row)
            except DecodeError as error:
                yield Unread(str(given.path), error.reason)
            else:
                seen.add(str(given.path), info)
