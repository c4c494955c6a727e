"""Scores over time of a model on whole files: of frames, of runs of frames and of events, with
intervals over recordings.

Pure functions of arrays that were gathered from all processes before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.detection import (
    EVENT_IOU,
    IOUS,
    DetectionScores,
    Events,
    boundary_errors,
    match,
    score_detections,
)
from slowfast_dist.metrics.segmentation import (
    OVERLAPS,
    class_counts,
    class_f1,
    confusion_of,
    edit_score,
    f1_of,
    macro_of,
    overlap_counts,
    runs_of,
)
from slowfast_dist.metrics.uncertainty import NUMBERS_AT_ONCE, RESAMPLES

MAP = {"map_30": 0.3, "map_50": 0.5, "map_70": 0.7}
"""Names of the mean average precisions at single temporal IoUs."""

MEAN_MAP = "map_50_95"
"""Name of the mean over AVERAGED_IOUS."""

SCORES = (
    "frame_accuracy", "frame_f1_macro", *MAP, MEAN_MAP,
    *(f"f1_{100 * overlap:.0f}" for overlap in OVERLAPS), "edit_score",
)  # fmt: skip
"""The scores that have intervals, in the order in which they are shown; all from 0 to 1."""

ERRORS = tuple(
    f"{end}_{kind}" for end in ("onset", "offset")
    for kind in ("error_median", "error_mean", "late_median")
)  # fmt: skip
"""Seconds: median and mean of how far the ends of matched events are off, and the median of how
late they are; None where none is matched."""


@dataclass(frozen=True)
class FileScores:
    """Of one file: ``counts`` (3, K), as `class_counts` of the frames with a true label;
    ``confusion`` and ``seconds`` (K + 1, K + 1): of all frames, and of the time they are shown,
    where place K is that of no label; ``overlaps`` (O, 3), as `overlap_counts`; ``edit``."""

    counts: NDArray[np.float64]
    confusion: NDArray[np.float64]
    seconds: NDArray[np.float64]
    overlaps: NDArray[np.int64]
    edit: float

    @property
    def accuracy(self) -> float | None:
        """Of the frames with a true label; None without any."""
        right, true, _ = self.counts.sum(axis=1).tolist()
        return right / true if true else None


def score_file(
    truth: NDArray[np.int64], found: NDArray[np.int64], shown: NDArray[np.float64], classes: int,
    background: int | None,
) -> FileScores:  # fmt: skip
    """``truth`` and ``found`` (N,): the labels of a file's frames, below ``classes``, or that
    number where there is none; ``shown`` (N,): seconds. ``background``: the class that means that
    nothing happens, of which runs are not compared; None where the model has no such class."""
    confusion = confusion_of(truth, found, classes + 1)
    ignored = [classes] if background is None else [classes, background]
    runs, found_runs = runs_of(truth, ignored), runs_of(found, ignored)
    return FileScores(
        class_counts(confusion[:classes, :classes]),
        confusion,
        confusion_of(truth, found, classes + 1, shown),
        overlap_counts(runs, found_runs),
        edit_score(runs[:, 0], found_runs[:, 0]),
    )


@dataclass(frozen=True)
class OverTime:
    """``values``: SCORES, ERRORS and counts by name; ``intervals``: 95 %, of SCORES;
    ``per_class``: a row each; ``confusion`` and ``seconds`` (K + 1, K + 1), as of FileScores."""

    values: dict[str, Any]
    intervals: dict[str, tuple[float, float]]
    per_class: list[dict[str, Any]]
    confusion: NDArray[np.float64]
    seconds: NDArray[np.float64]


def summarise_over_time(
    files: Sequence[FileScores], recordings: NDArray[np.int64], truth: Events, found: Events,
    classes: Sequence[str], resamples: int = RESAMPLES, seed: int = 0,
) -> OverTime:  # fmt: skip
    """Of F files of U ``recordings`` (F,), numbered from 0; the events' files are their places.

    Intervals are percentiles of a bootstrap that draws recordings with replacement, as
    `uncertainty.bootstrap_intervals` draws videos; none are given of a single recording.
    """
    units = int(recordings.max()) + 1
    draws = np.zeros((0, len(files)))
    if units > 1 and resamples:
        rng = np.random.default_rng(seed)
        times = rng.multinomial(units, np.full(units, 1 / units), resamples)
        draws = times[:, recordings].astype(np.float64)
    matches = match(truth, found)
    detections = score_detections(truth, found, matches, len(classes), draws)
    counts = np.stack([one.counts for one in files])
    overlaps = np.stack([one.overlaps for one in files]).astype(np.float64)
    edits = np.array([one.edit for one in files])
    once = np.ones((1, len(files)))
    values = _scores(once, counts, overlaps, edits, detections.means[None])
    spread = _scores(draws, counts, overlaps, edits, detections.draws)
    taken_for = matches[int(np.flatnonzero(IOUS == EVENT_IOU)[0])]
    errors = boundary_errors(truth, found, taken_for)
    content: dict[str, Any] = {name: float(values[name][0]) for name in SCORES}
    content |= {
        "true_events": len(truth), "found_events": len(found), "matched_events": len(errors),
        **_errors(errors),
    }  # fmt: skip
    confusion = np.sum([one.confusion for one in files], axis=0)
    return OverTime(
        content,
        {name: _interval(spread[name]) for name in SCORES if np.isfinite(spread[name]).any()},
        _per_class(counts.sum(axis=0), detections, truth, found, taken_for, classes),
        confusion,
        np.sum([one.seconds for one in files], axis=0),
    )


def _scores(
    draws: NDArray[np.float64], counts: NDArray[np.float64], overlaps: NDArray[np.float64],
    edits: NDArray[np.float64], precisions: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:  # fmt: skip
    """SCORES (D,) in each of the ``draws`` (D, F), NaN in one that has nothing to be scored;
    ``precisions`` (D, T): mean average precisions."""
    weight = np.maximum(draws.sum(axis=1), 1)
    shares = f1_of(np.tensordot(draws, overlaps, axes=1))
    scores = {
        **dict(zip(("frame_accuracy", "frame_f1_macro"), _of_frames(draws, counts), strict=True)),
        **{name: precisions[:, _place(iou)] for name, iou in MAP.items()},
        MEAN_MAP: precisions[:, IOUS >= 0.5].mean(axis=1),
        "edit_score": draws @ edits / weight,
    }
    for place, overlap in enumerate(OVERLAPS):
        scores[f"f1_{100 * overlap:.0f}"] = shares[:, place]
    return scores


def _of_frames(
    draws: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy and macro-F1 (D,), a few draws at a time: hundreds of classes take much memory."""
    accuracy, f1 = np.full((2, len(draws)), np.nan)
    at_once = max(1, NUMBERS_AT_ONCE // counts[0].size)
    for first in range(0, len(draws), at_once):
        part = slice(first, first + at_once)
        summed = np.tensordot(draws[part], counts, axes=1)
        right, true, _ = np.moveaxis(summed.sum(axis=2), -1, 0)
        some = true > 0
        accuracy[part] = np.where(some, right / np.where(some, true, 1), np.nan)
        f1[part] = np.where(some, macro_of(class_f1(summed)), np.nan)
    return accuracy, f1


def _place(iou: float) -> int:
    return int(np.abs(IOUS - iou).argmin())


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.nanquantile(values, [0.025, 0.975]).tolist()
    return low, high


def _errors(errors: NDArray[np.float64]) -> dict[str, float | None]:
    if not len(errors):
        return dict.fromkeys(ERRORS)
    found = np.stack([np.median(abs(errors), 0), abs(errors).mean(0), np.median(errors, 0)])
    return dict(zip(ERRORS, found.T.ravel().tolist(), strict=True))


def _per_class(
    counts: NDArray[np.float64], detections: DetectionScores, truth: Events, found: Events,
    taken_for: NDArray[np.int64], classes: Sequence[str],
) -> list[dict[str, Any]]:  # fmt: skip
    """A row a class: scores of its frames, its average precision at the IoUs of MAP and the mean
    over AVERAGED_IOUS, and its events; None where there is nothing to be scored."""
    f1 = class_f1(counts)
    rows = []
    for label, name in enumerate(classes):
        right, true, said = counts[:, label].tolist()
        precisions = detections.by_class[label]
        of_class = found.labels == label
        rows.append({
            "class": name,
            "frame_precision": right / said if said else None,
            "frame_recall": right / true if true else None,
            "frame_f1": _number(f1[label]),
            "ap_50": _number(precisions[_place(0.5)]),
            "ap_50_95": _number(precisions[IOUS >= 0.5].mean()),
            "true_events": int((truth.labels == label).sum()),
            "found_events": int(of_class.sum()),
            "matched_events": int((taken_for[of_class] >= 0).sum()),
        })  # fmt: skip
    return rows


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
