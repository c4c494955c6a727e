"""Where the samples come from: a run, a cross-validation, a list, or a folder of videos."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp
from pathlib import Path

import numpy as np

from slowfast_dist.annotations.labels import sort_labels
from slowfast_dist.annotations.segments import parse_box, sample_name
from slowfast_dist.commands.review.lists import read_list
from slowfast_dist.commands.review.samples import Sample, Source
from slowfast_dist.config.commands import Review
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.scan import is_video, walk_folders
from slowfast_dist.metrics.cells import SEPARATOR, parted
from slowfast_dist.metrics.summary import Predictions
from slowfast_dist.metrics.wrong_labels import wrong_labels
from slowfast_dist.runs.predictions import find_predictions
from slowfast_dist.runs.run import Run, is_run, read_run
from slowfast_dist.runs.settings import given
from slowfast_dist.runs.videos import data_root, is_list, located, own_image_rate
from slowfast_dist.system.text import few, option, unwritable


def find_source(word: Path, command: Review) -> Source:
    """What is to be reviewed of RUN, which may be a list or a folder, and --list. Raises
    UserError."""
    run = _run_of(word)
    given_list = command.list if run is not None or command.list is not None else word
    if given_list is None:
        assert run is not None
        source = _of_run(run, command.videos)
    elif given_list.is_dir():
        source = _of_folder(given_list, command.class_folders)
    else:
        source = read_list(given_list, command.videos, "list" if command.list else "RUN")
    if run is not None:
        source = _with_run(source, run, given_list is not None)
    names = {name for one in source.samples for name in one.labels or ()}
    names |= {name for one in source.samples for name in parted(one.predicted)}
    source.classes = list(dict.fromkeys([*source.classes, *sort_labels(names)]))
    return _checked(source)


def _run_of(word: Path) -> Path | None:
    """The folder of a run, or of a cross-validation; None where the word is something else."""
    if not word.exists():
        raise UserError(f"RUN {word}: there is no such run, list or folder")
    if not word.is_dir():
        return None
    if word.name == "models" and is_run(word.parent):
        word = word.parent
    if is_run(word) or (word / "models" / "best_model.json").is_file() or _folds(word):
        return word
    return None


def _folds(folder: Path) -> list[Path]:
    """The trainings of a cross-validation, in their order."""
    found = [one for one in folder.glob("fold_*") if is_run(one) and one.name[5:].isdecimal()]
    return sorted(found, key=lambda one: int(one.name[5:]))


# --- a run, or a cross-validation -----------------------------------------------------------------


def _of_run(folder: Path, root: Path | None) -> Source:
    """All rows that it was trained and validated on, with what it says of those of its
    validation."""
    runs = [read_run(one) for one in _folds(folder) or [folder]]
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
        part = read_list(place, start, "RUN") if is_list(place) else _class_folders(place)
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
    names = [name for part in parts for name in part.names]
    wrong = wrong_labels(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
    )
    for row, place, margin in zip(*(column.tolist() for column in wrong), strict=True):
        name = names[row]
        own = said[name].label_probability or 0.0
        said[name] = replace(
            said[name], doubt=margin, predicted=parts[0].classes[place], probability=margin + own
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
        of_run=True,
    )  # fmt: skip


def _ends(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[place:]) for place in range(1, len(parts))]


def name_of(sample: Sample) -> str:
    """As lists of predictions call it: path@start-end#xywh=..."""
    box = parse_box([sample.more.get(name, "") for name in ("x", "y", "w", "h")])
    nan = float("nan")
    start = nan if sample.start is None else sample.start
    return sample_name(sample.path, start, nan if sample.end is None else sample.end, box)


def _with_run(source: Source, folder: Path, listed: bool) -> Source:
    """With the classes of the run; where the samples are another list's, and what the run says of
    those that it knows."""
    runs = [read_run(one) for one in _folds(folder) or [folder]]
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


# --- a folder -------------------------------------------------------------------------------------


def _of_folder(folder: Path, class_folders: bool) -> Source:
    if class_folders:
        return _class_folders(folder)
    found = [
        os.path.relpath(os.path.join(here, name), folder)
        for here, names in walk_folders(str(folder))
        for name in names
        if is_video(os.fsencode(name))
    ]
    if not found:
        raise UserError(f"RUN {folder}: neither a run nor a folder with videos")
    return Source(folder, [Sample(path) for path in found], [])


def _class_folders(folder: Path) -> Source:
    listing = list_videos(folder, "RUN", single_class=True, may_be_empty=True)
    labels = listing.videos.labels.tolist()
    samples = [
        Sample(path, (listing.classes[label],))
        for path, label in zip(listing.videos.names, labels, strict=True)
    ]
    return Source(folder, samples, list(listing.classes))


# --- all ------------------------------------------------------------------------------------------


def _checked(source: Source) -> Source:
    """Without what cannot be shown or listed, which is said. Raises UserError where nothing is
    left."""
    odd = [one for one in source.samples if unwritable(one.path) is not None]
    if odd:
        source.notes.append(
            f"{len(odd)} videos are left out, whose names a list cannot hold: "
            f"{few([one.path for one in odd], quoted=True)}: rename them"
        )
    if wrong := next((name for name in source.classes if SEPARATOR in name), None):
        raise UserError(f"class {wrong!r} has a |, which parts several labels: rename it")
    if out := next((one.path for one in source.samples if _leaves(one.path)), None):
        raise UserError(
            f"{out} is not below {source.root}: write it as an absolute path, or give --videos DIR "
            "(where paths start)"
        )
    there: dict[str, bool] = {}
    for one in source.samples:
        if one.path not in there:
            there[one.path] = os.path.exists(source.root / one.path)
    gone = [path for path, exists in there.items() if not exists]
    if gone:
        where = f"{few(gone)}; relative paths start from {source.root}"
        if len(gone) == len(there):
            raise UserError(f"none of the {len(gone)} videos is there: {where}: give --videos DIR")
        source.notes.append(f"{len(gone)} videos that are not there are left out: {where}")
    source.samples = [
        one for one in source.samples if there[one.path] and unwritable(one.path) is None
    ]
    if not source.samples:
        raise UserError("nothing to review: the list has no row")
    return source


def _leaves(path: str) -> bool:
    """Whether a relative path leaves the folder that it starts from."""
    return not os.path.isabs(path) and os.path.normpath(path).split(os.sep)[0] == os.pardir


def training_words(output: Path, root: Path) -> Sequence[str]:
    """The flags with which a training takes the list that was written."""
    words = [option("--data.root", output)]
    if os.path.realpath(root) != os.path.realpath(output.parent):
        words.append(option("--data.videos", root))
    return words


