"""What the trainings of a cross-validation found: one file of predictions, the scores, a page."""

import csv
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from math import isnan, log2
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.commands.cross_validate.final import finish_final, logits_of
from slowfast_dist.commands.cross_validate.lines import OUT_OF_FOLD, result_lines
from slowfast_dist.commands.cross_validate.plan import Training
from slowfast_dist.commands.cross_validate.result_on_wandb import log_result
from slowfast_dist.config.errors import RunError
from slowfast_dist.config.fields import FINAL
from slowfast_dist.config.training import Config
from slowfast_dist.metrics.calibration import calibrate
from slowfast_dist.metrics.summary import Predictions, Summary, summarise
from slowfast_dist.metrics.uncertainty import group_intervals
from slowfast_dist.metrics.wrong_labels import doubts_of
from slowfast_dist.report.command import PAGE as RUN_PAGE
from slowfast_dist.report.command import render, write_page, write_report
from slowfast_dist.report.cross_validation import cross_validation_context
from slowfast_dist.report.sections.folds import PAGE, RESULT
from slowfast_dist.report.sections.judged import judge
from slowfast_dist.report.sections.wrong_list import BY_FOLDS, write_wrong_labels
from slowfast_dist.report.thumbnails import COMMAND_LIMIT, thumbnails_of
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.predictions import read_predictions, with_neighbours
from slowfast_dist.runs.reading import mapping, read_json, read_text
from slowfast_dist.runs.run import read_run, read_split_rows
from slowfast_dist.system.files import atomic_write, write_json
from slowfast_dist.system.log import logger

DOUBTS_WITH_FRAMES = 12
"""Labels in doubt that the page shows with frames: as many as a run's page shows mistakes."""

MOST_TEXT = 10**8
"""Bytes of a result that are read: more than any has."""

LEAST_GAIN = 0.005
"""F1 that a class must have gained by the last doubling of its videos, for more of them to be worth
naming: less is within the chance of any draw."""


@dataclass(frozen=True)
class Scored:
    """The predictions of all folds of one seed and share: each video once, and of each (N,) its
    fold, counted from 1, and its group's number."""

    predictions: Predictions
    folds: NDArray[np.int64]
    groups: NDArray[np.int64]
    summary: Summary
    intervals: dict[str, tuple[float, float]]
    """95 %, over groups where there are any that hold several videos, else over videos."""
    grouped: bool


def write_result(
    folder: Path, trainings: Sequence[Training], folds: int, recall: float | None = None,
    config: Config | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write cross_validation.json, out_of_fold.csv and cross_validation.html, calibrate the model
    of all folds, if there is one, put the folds into the page of each training, and say
    the scores. ``recall``: --evaluation.unknown-recall; ``config``: on whose wandb it is shown.

    Raises RunError where a training's files are missing or damaged.
    """
    final = next((one for one in trainings if one.is_final), None)
    trainings = [one for one in trainings if not one.is_final]
    variants = [
        (key, _scored(list(members)))
        for key, members in groupby(trainings, lambda one: (one.seed, one.share))
    ]
    (seed, share), first = variants[0]
    whole = first.predictions
    calibration = calibrate(logits_of(whole), whole.labels, first.folds)
    facts: dict[str, Any] = {
        "folds": folds, "videos": len(first.folds), "seed": seed,
        "what": "segments" if _has_segments(trainings[0]) else "videos",
        "groups": int(first.groups.max()) + 1 if first.grouped else None,
        "metrics": first.summary.metrics, "intervals": first.intervals, "ece": first.summary.ece,
        "intervals_over": "groups" if first.grouped else "videos",
        "per_fold": _per_fold(first, folds),
        "seeds": [
            {"seed": other, **_main_scores(one)}
            for (other, its_share), one in variants if its_share == share
        ],
        "learning_curve": sorted(
            ({"share": its_share, "groups": _groups_trained(trainings, other, its_share),
              **_main_scores(one)}
             for (other, its_share), one in variants if other == seed),
            key=lambda one: one["share"],
        ),
        "per_class": _per_class(variants),
        "confusion": first.summary.confusion.tolist(), "classes": first.summary.classes,
        "calibration": calibration.facts("out-of-fold") if calibration else None,
        "test": None,
    }  # fmt: skip
    if final is not None:
        said = _read(final)[0]
        facts["test"] = finish_final(final, said, whole, calibration, recall)
    own = [one for one in trainings if (one.seed, one.share) == (seed, share)]
    _write_predictions(folder / OUT_OF_FOLD, own)
    judged = judge(whole, calibration.temperature if calibration else 1.0)
    before = read_text(folder / RESULT, MOST_TEXT)
    kept = mapping(read_json(folder / RESULT))
    if (earlier := kept.get("wandb_id")) is not None:
        facts |= {name: kept[name] for name in ("wandb_id", "wandb_results") if name in kept}
    write_json(folder / RESULT, facts)
    same = read_text(folder / RESULT, MOST_TEXT) == before
    write_wrong_labels(folder, own[0].folder, doubts_of(whole), BY_FOLDS)
    doubtful = [one.path for one in judged.doubts[:DOUBTS_WITH_FRAMES]]
    # The videos are those of each fold: its settings tell where they are.
    drawn = thumbnails_of(read_run(own[0].folder), {}, COMMAND_LIMIT, more=doubtful)
    write_page(folder / PAGE, render("cross_validation.html", cross_validation_context(
        folder, facts, first.summary, judged, drawn
    )))  # fmt: skip
    for one in [*trainings, final] if final else trainings:
        if same and one is not final and (one.folder / RUN_PAGE).exists():
            continue  # it shows this result already; the final one's model may say unknown now
        with suppress(OSError):  # somebody's own file is in its place, or the disk is full
            write_report(one.folder)
    for line in result_lines(folder, facts):
        logger.info(line)
    if same and earlier is not None:  # again, its curves would be drawn twice over one axis
        logger.info(f"wandb: run {earlier} has this result already")
    elif config is not None:
        # Last: wandb may take minutes, and where it fails nothing else is lost.
        bins, calibrated = first.summary.bins, judged.calibrated
        if shown := log_result(folder, config, facts, bins, calibrated, doubts_of(whole)):
            write_json(folder / RESULT, facts | shown)
    return _main_scores(first)


def _scored(trainings: Sequence[Training]) -> Scored:
    parts, folds, groups = [], [], []
    for training in trainings:
        part, own = _read(training)
        parts.append(part)
        assert training.fold != FINAL
        folds += [training.fold] * len(part.labels)
        groups += own
    classes = parts[0].classes
    names = [name for part in parts for name in part.names]
    if any(part.classes != classes for part in parts) or len(set(names)) < len(names):
        raise RunError(
            f"{trainings[0].folder.parent}: its folds are not of one cross-validation (their "
            "classes differ, or a video is in two): the videos or the grouping changed between "
            "them; start over in a new --output-dir"
        )
    whole = Predictions.joined(parts)
    _, codes = np.unique(groups, return_inverse=True)
    grouped = len(set(groups)) < len(groups)
    summary = summarise(whole)
    intervals = summary.intervals
    if grouped:
        intervals = group_intervals(whole.labels, whole.predicted, codes, len(classes))
    return Scored(whole, np.array(folds), codes.astype(np.int64), summary, intervals, grouped)


def _read(training: Training) -> tuple[Predictions, list[str]]:
    """What a training says of the videos that it did not see, and the group of each."""
    path = RunFolder(training.folder).predictions
    try:
        found = with_neighbours(path, read_predictions(path))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{training.folder}: its predictions cannot be read ({error}): delete the folder, and "
            "give --resume auto, which trains that fold again"
        ) from None
    rows = read_split_rows(training.folder / "split.csv")
    group = {row.sample: row.group for row in rows if row.side == "val"}
    return found, [group.get(name) or name for name in found.names]


def _has_segments(training: Training) -> bool:
    return any(not isnan(row.start) for row in read_split_rows(training.folder / "split.csv"))


def _main_scores(one: Scored) -> dict[str, Any]:
    metrics = one.summary.metrics
    scores: dict[str, Any] = {name: metrics[name] for name in ("accuracy", "f1_macro", "loss")}
    return scores | {"intervals": one.intervals}


def _per_fold(one: Scored, folds: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for fold in range(1, folds + 1):
        rows = np.flatnonzero(one.folds == fold)
        whole = one.predictions
        part = Predictions.from_probabilities(
            [whole.names[row] for row in rows.tolist()], whole.labels[rows],
            whole.probabilities[rows], whole.classes,
        )  # fmt: skip
        metrics = summarise(part, resamples=0).metrics
        found.append({
            "fold": fold, "videos": len(rows), "groups": len(np.unique(one.groups[rows])),
            **{name: metrics[name] for name in ("accuracy", "f1_macro", "loss", "macro_classes")},
        })  # fmt: skip
    return found


def _groups_trained(trainings: Sequence[Training], seed: int, share: float) -> float:
    """Groups that a fold's training has, on average."""
    chosen = [one for one in trainings if (one.seed, one.share) == (seed, share)]
    counts = [
        len({row.group for row in read_split_rows(one.folder / "split.csv") if row.side == "train"})
        for one in chosen
    ]
    return mean(counts)


def _per_class(variants: Sequence[tuple[tuple[int, float], Scored]]) -> list[dict[str, Any]]:
    """Scores of each class, and where there is a learning curve what the last doubling of the
    training groups gave it, and how many more videos as many points again would take."""
    (seed, share), first = variants[0]
    half = next(
        (one for (other, its_share), one in variants if (other, its_share) == (seed, share / 2)),
        None,
    )
    found = []
    for place, scores in enumerate(first.summary.per_class):
        row = dict(scores)
        if half is not None:
            gain = row["f1"] - half.summary.per_class[place]["f1"]
            row["gain_of_last_doubling"] = gain
            row["videos_for_one_point"] = _videos_for_one_point(row["support"], gain)
        found.append(row)
    return found


def _videos_for_one_point(support: int, gain: float) -> int | None:
    """How many more videos of a class give .01 of F1, if each doubling goes on to give what the
    last one gave; None where that was about nothing."""
    if gain < LEAST_GAIN:
        return None
    return max(1, round(support * (2 ** min(0.01 / gain, log2(1e6)) - 1)))


def _write_predictions(path: Path, trainings: Sequence[Training]) -> None:
    """The folds' predictions/val_best.csv one below the other, with a column fold behind path."""
    with atomic_write(path, "w", "surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, training in enumerate(trainings):
            source = RunFolder(training.folder).predictions
            text = source.read_text(encoding="utf-8", errors="surrogateescape")
            header, *rows = csv.reader(StringIO(text, newline=""))
            if number == 0:
                writer.writerow([header[0], "fold", *header[1:]])
            writer.writerows([row[0], training.fold, *row[1:]] for row in rows)
