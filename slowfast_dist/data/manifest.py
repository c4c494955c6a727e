"""Which videos there are and what each shows: class folders, or a CSV of path,label."""

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.data.columns import Categorical, Texts
from slowfast_dist.data.scan import list_csv, list_folders
from slowfast_dist.data.video_table import VideoTable
from slowfast_dist.system.cpus import TooMuchCpuError, cpu_limit
from slowfast_dist.system.text import few

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What would break a line, or steer a terminal."""


@dataclass(frozen=True)
class Listing:
    """Class names, sorted, and the videos by class and name."""

    classes: tuple[str, ...]
    videos: VideoTable


def list_videos(
    root: Path, flag: str, group_pattern: str | None = None, *, single_class: bool = False
) -> Listing:
    """The videos of class folders or of a CSV; ``flag`` is the setting that named ``root``.

    Raises UserError, naming the flag, where there is nothing that could be trained on; for an
    evaluation, videos of a ``single_class`` are enough.
    """
    pattern = compile_pattern(group_pattern) if group_pattern else None
    if root.is_dir():
        try:
            found = list_folders(root, flag)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                why = "its folders lie too deep in each other; move the videos up"
            else:
                why = f"{os.fsdecode(error.filename)} cannot be read ({error.strerror}); change "
                why += "its permissions, or move it away"
            raise UserError(f"--{flag} {root}: {why}") from None
    elif root.suffix.lower() == ".csv" and root.is_file():
        found = list_csv(root, flag)
    elif root.exists():
        raise UserError(f"--{flag} {root}: give a folder of class folders, or a .csv of path,label")
    else:
        raise UserError(f"--{flag} {root}: there is no such folder or CSV")
    classes = tuple(sorted(found))
    if len(classes) < (1 if single_class else 2):
        only = f"only one class, {classes[0]!r}" if classes else "no class folder with videos"
        remedy = (
            "give class folders" if single_class else "a classifier needs videos of at least two"
        )
        raise UserError(f"--{flag} {root}: {only}; {remedy}")
    columns = [found[name] for name in classes]
    names = Texts.concatenated([part.names for part in columns])
    for text in (*classes, names.data.tobytes().decode("utf-8", "surrogateescape")):
        if _unwritable(text) is not None:
            wrong = next(name for name in (*classes, *names) if _unwritable(name) is not None)
            raise UserError(f"--{flag} {root}: the name {wrong!r} {_unwritable(wrong)}; rename it")
    groups = None
    if pattern:
        with time_to_search(pattern, len(names), root):
            found_groups = ((name, group_of(name, pattern)) for name in names)
            groups = Categorical.of(name if own is None else own for name, own in found_groups)
            matches = any(pattern.search(name) for name in names)
        if not matches:
            raise UserError(
                f"--data.group-pattern {group_pattern!r}: matches none of the {len(names)} paths "
                f"below {root}, as {names[0]}; give a pattern that does"
            )
    videos = VideoTable(
        root if root.is_dir() else root.parent,
        names,
        np.repeat(np.arange(len(classes), dtype=np.int32), [len(part.names) for part in columns]),
        groups,
        np.concatenate([part.stamps for part in columns]),
    )
    return Listing(classes, videos)


def list_folder(root: Path) -> Listing:
    """As `list_videos`, of one class or more, for what was given without a flag."""
    try:
        return list_videos(root, "DIR", single_class=True)
    except UserError as error:
        raise UserError(str(error).removeprefix("--DIR ")) from None


def usable(listing: Listing, readable: NDArray[np.bool_], flag: str, root: Path) -> Listing:
    """``listing`` with the readable files alone, (N,). Raises UserError where a class has none
    left."""
    left = np.bincount(listing.videos.labels[readable], minlength=len(listing.classes))
    empty = [name for name, count in zip(listing.classes, left, strict=True) if not count]
    if empty:
        raise UserError(
            f"--{flag} {root}: no video of class {few(empty, quoted=True)} can be read; replace "
            "them, or move the folder away"
        )
    return Listing(listing.classes, listing.videos.select(np.flatnonzero(readable)))


def labelled_as(listing: Listing, classes: Sequence[str], flag: str, root: Path) -> Listing:
    """``listing`` with the labels of a model of ``classes``, some of which it may lack.

    Raises UserError, naming them, where it has others.
    """
    unknown = [name for name in listing.classes if name not in classes]
    if unknown:
        raise UserError(
            f"--{flag} {root}: the model does not know {few(unknown, quoted=True)}; its classes "
            f"are {few(classes, quoted=True)}: rename, or leave those videos out"
        )
    labels = np.array([classes.index(name) for name in listing.classes], np.int32)
    videos = replace(listing.videos, labels=labels[listing.videos.labels])
    return Listing(tuple(classes), videos)


def require_same_classes(train: Listing, val: Listing) -> None:
    """Raise UserError, naming the classes, where the two sides do not have the same ones."""
    missing = sorted(set(train.classes) - set(val.classes))
    extra = sorted(set(val.classes) - set(train.classes))
    if missing or extra:
        parts = [f"no {few(missing, quoted=True)}"] * bool(missing)
        parts += [f"{few(extra, quoted=True)} besides"] * bool(extra)
        raise UserError(
            f"--data.val-dir has other classes than --data.train-dir: {' and '.join(parts)}; "
            "give both the same class folders"
        )


def _unwritable(text: str) -> str | None:
    """Why a CSV, a log or a terminal cannot hold ``text`` as it is, None if they can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    return "holds a control character" if _CONTROL.search(text) else None


# --- --data.group-pattern: which videos are of one recording, by a regular expression ------------

SECONDS = 3.0
"""CPU seconds in which the groups of a few names must be found: a slow pattern takes for ever."""

SECONDS_A_NAME = 1e-4
"""CPU seconds more for each name, a hundred times what a pattern such as 'seq\\d+' takes."""


def compile_pattern(group_pattern: str) -> re.Pattern[str]:
    """Raises UserError for what is no regular expression."""
    try:
        return re.compile(group_pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(
            f"--data.group-pattern {group_pattern!r}: no valid regular expression ({error}); "
            r"give one such as 'seq\d+'"
        ) from None


def group_of(name: str, pattern: re.Pattern[str]) -> str | None:
    """The captured parts joined, or the whole match; None where nothing matches: the group of such
    a video is its own name."""
    match = pattern.search(name)
    if match is None:
        return None
    return "/".join(part or "" for part in match.groups()) if match.groups() else match[0]


@contextmanager
def time_to_search(pattern: re.Pattern[str], names: int, root: Path) -> Iterator[None]:
    """For a block that searches that many ``names`` below ``root``.

    Raises UserError where it takes beyond all measure: patterns such as (a+)+$ take twice as long
    for each further letter of a name, and a name of 40 letters outlasts the run.
    """
    try:
        with cpu_limit(SECONDS + names * SECONDS_A_NAME):
            yield
    except TooMuchCpuError:
        raise UserError(
            f"--data.group-pattern {pattern.pattern!r}: takes for ever on paths such as those "
            f"below {root}; give a simpler one, without repetitions inside repetitions"
        ) from None
