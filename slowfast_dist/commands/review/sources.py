"""Where the samples come from: a run, a cross-validation, a list, or a folder of videos."""

import os
from collections.abc import Sequence
from pathlib import Path

from slowfast_dist.annotations.labels import sort_labels
from slowfast_dist.commands.review.lists import read_list
from slowfast_dist.commands.review.run_source import class_folders, folds_of, of_run, with_run
from slowfast_dist.commands.review.samples import Sample, Source
from slowfast_dist.config.commands.browser import Review
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.scan import is_video, walk_folders
from slowfast_dist.metrics.cells import SEPARATOR, parted
from slowfast_dist.runs.run import is_run
from slowfast_dist.runs.settings import given, read_settings
from slowfast_dist.system.text import few, option, unwritable


def find_source(word: Path, command: Review) -> Source:
    """What is to be reviewed of RUN, which may be a list or a folder, and --list. Raises
    UserError."""
    run = run_of(word)
    given_list = command.list if run is not None or command.list is not None else word
    if given_list is None:
        assert run is not None
        source = of_run(run, command.videos)
    elif given_list.is_dir():
        source = _of_folder(given_list, command.class_folders)
    else:
        source = read_list(given_list, command.videos, "list" if command.list else "RUN")
    if run is not None:
        source = with_run(source, run, given_list is not None)
    names = {name for one in source.samples for name in one.labels or ()}
    names |= {name for one in source.samples for name in parted(one.predicted)}
    source.classes = list(dict.fromkeys([*source.classes, *sort_labels(names)]))
    return _checked(source)


def run_of(word: Path) -> Path | None:
    """The folder of a run, or of a cross-validation; None where the word is something else."""
    if not word.exists():
        raise UserError(f"RUN {word}: there is no such run, list or folder")
    if not word.is_dir():
        return None
    if word.name == "models" and is_run(word.parent):
        word = word.parent
    if is_run(word) or (word / "models" / "best_model.json").is_file() or folds_of(word):
        return word
    return None


# --- a folder -------------------------------------------------------------------------------------


def _of_folder(folder: Path, of_classes: bool) -> Source:
    if of_classes:
        return class_folders(folder)
    found = [
        os.path.relpath(os.path.join(here, name), folder)
        for here, names in walk_folders(str(folder))
        for name in names
        if is_video(os.fsencode(name))
    ]
    if not found:
        raise UserError(f"RUN {folder}: neither a run nor a folder with videos")
    return Source(folder, [Sample(path) for path in found], [])


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


def settings_words(config: Path, own_folder: bool) -> Sequence[str]:
    """The flags beside `training_words` for a training with the settings of a run's ``config``,
    without those that do not go with the list. ``own_folder``: the list's paths start from its own
    folder."""
    run = read_settings(config)
    # Of a part of a cross-validation too: the list has both sides, as a run of its own wants.
    cleared = ["data.group-pattern", "folds", "fold"]
    cleared += [flag for flag in ("data.train-dir", "data.val-dir") if given(run, flag)]
    if own_folder and given(run, "data.videos"):
        cleared.append("data.videos")
    return [option("--config", config), *(f"--{flag} none" for flag in cleared)]
