"""Samples of a run or a cross-validation, with what it says of those that it was validated on."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp
from pathlib import Path

import numpy as np

from slowfast_dist.commands.review.lists import read_list
from slowfast_dist.commands.review.samples import Sample, Source, name_of
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.metrics.cells import SEPARATOR
from slowfast_dist.metrics.summary import Predictions
from slowfast_dist.metrics.wrong_labels import doubts_of
from slowfast_dist.runs.predictions import find_predictions
from slowfast_dist.runs.run import Run, is_run, read_run
from slowfast_dist.runs.settings import given, own_image_rate
from slowfast_dist.runs.videos import data_root, is_list, located


def folds_of(folder: Path) -> list[Path]:
    """The trainings of a cross-validation, in their order."""
    found = [one for one in folder.glob("fold_*") if is_run(one) and one.name[5:].isdecimal()]
    return sorted(found, key=lambda one: int(one.name[5:]))


def of_run(folder: Path, root: Path | None) -> Source:
    """All rows that it was trained and validated on, with what it says of those of its
    validation."""
    runs = [read_run(one) for one in folds_of(folder) or [folder]]
    run = runs[0]
    source = _rows(run, root)
    said = _said(runs)
    if len(runs) > 1:  # of which each has other sides
        source.samples = [replace(one, more=_without_side(one.more)) for one in source.samples]
    source.samples = [_joined(one, said) for one in source.samples]
    known = sum(one.hardness is not None for one in source.samples)
    if known:
        source.order = "hardest"
        what = "each by a model that never saw it" if len(runs) > 1 else "those of its validation"
        source.notes.append(f"{known} of {len(source.samples)} have a prediction: {what}")
    background = run.settings.get("data.background", "none")
    drawn = [one for one in source.samples if one.labels == (background,)]
    if drawn and background != "none":
        source.samples = [one for one in source.samples if one.labels != (background,)]
        source.notes.append(
            f"{len(drawn)} clips of the background, {background}, which the training drew itself, "
            "are left out"
        )
    return source


def _rows(run: Run, root: Path | None) -> Source:
    split = run.folder / "split.csv"
    text = given(run.settings, "data.root")
    if text is not None and split.is_file():
        start = data_root(text, run.folder, run.settings) if root is None else root
        if not start.is_dir():
            raise UserError(
                f"RUN {run.folder}: its videos are not at {start} any more: give --videos DIR, the "
                "folder where they are now"
            )
        source = read_list(split, start, "RUN")
        source.samples = [_without_own_group(one) for one in source.samples]
        return source
    sides = {"train": "data.train-dir", "val": "data.val-dir"}
    found = [
        (side, located(text, run.folder), data_root(text, run.folder, run.settings))
        for side, flag in sides.items()
        if (text := given(run.settings, flag)) is not None
    ]
    if not found:
        raise UserError(
            f"RUN {run.folder}: its files do not tell its videos: give --list, a list or a folder"
        )
    if missing := next((place for _, place, _ in found if not place.exists()), None):
        raise UserError(
            f"RUN {run.folder}: its videos are not at {missing} any more: give --list, a list or a "
            "folder"
        )
    if root is not None:
        raise UserError(
            f"--videos {root}: RUN {run.folder} has videos in two folders: leave it out, or give "
            "--list"
        )
    top = Path(os.path.commonpath([os.path.abspath(start) for _, _, start in found]))
    samples = list[Sample]()
    several = False
    for side, place, start in found:
        part = read_list(place, start, "RUN") if is_list(place) else class_folders(place)
        several |= part.several
        below = os.path.relpath(os.path.abspath(start), top)
        for one in part.samples:
            path = os.path.normpath(os.path.join(below, one.path))
            more = {**one.more, "split": one.more.get("split", side)}
            samples.append(replace(one, path=path, more=more))
    return Source(top, samples, [], several)


def _without_side(more: Mapping[str, str]) -> dict[str, str]:
    return {name: cell for name, cell in more.items() if name != "split"}


def _without_own_group(sample: Sample) -> Sample:
    """split.csv has each video's own name where there was no grouping."""
    if sample.more.get("group") != sample.path:
        return sample
    return replace(sample, more={k: cell for k, cell in sample.more.items() if k != "group"})


def _said(runs: Sequence[Run]) -> dict[str, Sample]:
    """What a run says of the videos of its validation, by their names, or several runs each of its
    own."""
    parts = [part for run in runs if (part := find_predictions(run.predictions)) is not None]
    said = {name: one for part in parts for name, one in _each(part).items()}
    # Doubts need all at once: what is usual for a class is their mean.
    if not parts or any(part.classes != parts[0].classes for part in parts):
        return said
    if parts[0].decided is not None:
        return {
            name: replace(one, doubt=one.hardness if one.reason else None, reason="")
            for name, one in said.items()
        }
    whole = Predictions.joined(parts)
    for one in doubts_of(whole):
        said[one.path] = replace(
            said[one.path], doubt=one.probability - one.label_probability, predicted=one.probable,
            probability=one.probability, reason=one.nearest_words,
        )
    return said


def _each(found: Predictions) -> dict[str, Sample]:
    """Of several labels the ``reason`` tells where they are not those that are predicted."""
    samples = {}
    for row, name in enumerate(found.names):
        loss, sure = float(found.losses[row]), found.probabilities[row]
        if found.decided is not None:
            chosen = np.flatnonzero(found.decided[row]).tolist()
            predicted = SEPARATOR.join(sorted(found.classes[place] for place in chosen))
            probability = float(sure[chosen].min()) if chosen else None
            differ = bool((found.decided[row] != found.labels[row]).any())
            samples[name] = Sample(
                "", None, predicted=predicted, probability=probability, hardness=loss,
                reason="differ" if differ else "", of_run=True,
            )  # fmt: skip
            continue
        place = int(sure.argmax())
        samples[name] = Sample(
            "", None, predicted=found.classes[place], probability=float(sure[place]),
            label_probability=exp(-loss), hardness=loss, of_run=True,
        )  # fmt: skip
    return samples


def _joined(sample: Sample, said: Mapping[str, Sample]) -> Sample:
    """With what a model says of it."""
    if (found := said.get(name_of(sample))) is None:
        # Of two roots the predictions are named below the second.
        name = name_of(sample)
        found = next((said[rest] for rest in _ends(name) if rest in said), None)
        if found is None or sample.more.get("split") != "val":
            return sample
    return replace(
        sample, predicted=found.predicted, probability=found.probability,
        label_probability=found.label_probability, hardness=found.hardness, doubt=found.doubt,
        reason=found.reason, of_run=True,
    )  # fmt: skip


def _ends(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[place:]) for place in range(1, len(parts))]


def with_run(source: Source, folder: Path, listed: bool) -> Source:
    """With the classes of the run; where the samples are another list's, and what the run says of
    those that it knows."""
    runs = [read_run(one) for one in folds_of(folder) or [folder]]
    run = runs[0]
    best = [str(name) for name in run.best.get("classes") or ()]
    source.classes = list(dict.fromkeys([*run.classes, *best]))
    source.image_fps = own_image_rate(run.folder / "models")
    if listed:
        said = _said(runs)
        source.samples = [
            one if one.predicted or one.hardness is not None else _joined(one, said)
            for one in source.samples
        ]
        several = run.settings.get("loss.name") == "bce"
        source.several |= several and not any(one.labels for one in source.samples)
    return source


def class_folders(folder: Path) -> Source:
    listing = list_videos(folder, "RUN", single_class=True, may_be_empty=True)
    labels = listing.videos.labels.tolist()
    samples = [
        Sample(path, (listing.classes[label],))
        for path, label in zip(listing.videos.names, labels, strict=True)
    ]
    return Source(folder, samples, list(listing.classes))
