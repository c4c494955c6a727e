"""The files of class folders or of a CSV: names, sizes and times, a class at a time, in columns."""

import errno
import os
import stat
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.table import read_rows
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.columns import Texts
from slowfast_dist.system.text import few

_ENDINGS = frozenset(b"mp4 m4v mov avi mkv webm mpg mpeg ts m2ts mts wmv flv 3gp ogv".split())

VIDEO_SUFFIXES = frozenset(f".{ending.decode()}" for ending in _ENDINGS)
"""Endings of the files that are taken for videos, in small or capital letters."""

SIDES = frozenset({"train", "training", "val", "valid", "validation", "test"})
"""Folders of these names alone are no classes but the two sides of a split."""

_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


@dataclass
class _FoundVideos:
    """Videos of one class while they are listed: names below the root, sizes and times.

    Names are bytes, as the system gives them: a table of a million never makes them text.
    """

    names: list[bytes] = field(default_factory=list)
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    times: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, name: bytes, status: os.stat_result | None) -> None:
        self.names.append(name)
        self.sizes.append(-1 if status is None else status.st_size)
        self.times.append(-1 if status is None else status.st_mtime_ns)

    def columns(self) -> "Files":
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        stamps = np.stack([np.array(self.sizes, np.int64), np.array(self.times, np.int64)], axis=1)
        return Files(Texts.of_parts([self.names[place] for place in order]), stamps[order])


class Files(NamedTuple):
    """The videos of a class, by name: names (N,) below the root, and stamps (N, 2) of size and
    mtime_ns, -1 where there is no file."""

    names: Texts
    stamps: NDArray[np.int64]


def is_video(name: bytes) -> bool:
    """Whether a file's name has a video's ending, and is not hidden."""
    _, dot, ending = name.rpartition(b".")
    return bool(dot) and ending.lower() in _ENDINGS and not name.startswith(b".")


def walk_folders(
    top: str, on_error: Callable[[OSError], None] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """A folder and all below it, also behind links, with the names of the files in each; nothing
    hidden.

    Each once, however many links lead to it, so that links in a circle come to an end.
    """
    seen = set()
    for here, folders, names in os.walk(top, onerror=on_error, followlinks=True):
        real = os.path.realpath(here)
        visible = [] if real in seen else [name for name in folders if not name.startswith(".")]
        folders[:] = sorted(visible)  # os.walk goes on to what is left in its own list
        if real not in seen:
            seen.add(real)
            yield here, [name for name in names if not name.startswith(".")]


def _is_folder(entry: "os.DirEntry[bytes]") -> bool:
    """Whether to go into it. So it is with a link in a circle or into a closed folder, which then
    is told as one that cannot be read, unless it is named like a video."""
    if entry.name.startswith(b"."):
        return False
    try:
        return entry.is_dir()
    except OSError:
        return not is_video(entry.name)


def list_folders(root: Path, flag: str) -> dict[str, Files]:
    """The videos of each class folder. Raises UserError, and OSError where one cannot be read."""
    found: dict[str, Files] = {}
    loose = 0
    with os.scandir(os.fsencode(root)) as entries:
        for entry in entries:
            if entry.name.startswith(b"."):
                continue
            if os.path.isdir(entry.path):
                found[os.fsdecode(entry.name)] = _videos_below(entry.path, len(entry.name))
            else:
                loose += is_video(entry.name)
    if loose:
        raise UserError(
            f"--{flag} {root}: {loose} videos lie in the folder itself; put those of each class "
            "into a folder with the class's name"
        )
    if len(found) > 1 and {name.lower() for name in found} <= SIDES:
        sides = "--data.train-dir and --data.val-dir instead"
        remedy = sides if flag == "data.root" else "one of them"
        names = few(sorted(found), quoted=True)
        raise UserError(f"--{flag} {root}: holds {names} and no classes; give {remedy}")
    empty = sorted(name for name, part in found.items() if not len(part.names))
    names = few(empty, quoted=True)
    if found and len(empty) == len(found):
        raise UserError(
            f"--{flag} {root}: no video in any of its folders ({names}); give a folder of class "
            "folders of videos"
        )
    if empty:
        raise UserError(
            f"--{flag} {root}: no video in class folder {names}; add some, or move it away"
        )
    return found


def _videos_below(top: bytes, name_length: int) -> Files:
    """The videos of a folder and of those below it, also behind links; nothing hidden.

    ``name_length``: bytes of the folder's own name, from which on paths are the videos' names. A
    link back to a folder that it lies in is not followed. A link to nothing counts as a video: what
    reads it says why. Raises OSError where a folder cannot be read.
    """
    start = len(top) - name_length
    found = _FoundVideos()
    waiting = [(top, frozenset[bytes]())]
    while waiting:
        here, above = waiting.pop()
        real = os.path.realpath(here)
        if real in above:
            continue
        with os.scandir(here) as entries:  # knows folders from files without asking for each
            for entry in entries:
                if _is_folder(entry):
                    waiting.append((entry.path, above | {real}))
                elif is_video(entry.name):
                    try:
                        status = entry.stat()
                    except OSError:
                        status = None
                    found.add(entry.path[start:], status)
    return found.columns()


def list_csv(table: Path, flag: str) -> dict[str, Files]:
    """The videos of each label. Raises UserError."""
    root = os.path.dirname(os.path.abspath(table))
    below = os.path.join(root, "")
    found: dict[str, _FoundVideos] = defaultdict(_FoundVideos)
    lines: dict[str, int] = {}
    missing: list[str] = []
    for line, given, label in read_rows(table, flag):
        path = os.path.normpath(os.path.join(root, given))
        if path != root and not path.startswith(below):
            raise UserError(
                f"--{flag} {table}, line {line}: {given} is not below {root}; move it there"
            )
        name = (path[len(below) :] or ".").replace(os.sep, "/")
        if (first := lines.setdefault(name, line)) != line:
            raise UserError(
                f"--{flag} {table}, line {line}: {name} stands in line {first} already; delete one"
            )
        try:
            status = _file_status(path)
        except OSError as error:
            raise UserError(f"--{flag} {table}: cannot be read ({error.strerror})") from None
        if status is None:
            missing.append(f"line {line}: {given}")
        found[label].add(name.encode(), status)
    if missing:
        raise UserError(
            f"--{flag} {table}: files that do not exist: {few(missing)}; paths are "
            f"relative to {root}; correct or delete these lines"
        )
    return {label: videos.columns() for label, videos in found.items()}


def _file_status(path: str) -> os.stat_result | None:
    """None where there is no file. Raises OSError where that cannot be known."""
    try:
        status = os.stat(path)
    except ValueError:  # a name with a null character
        return None
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        return None
    return status if stat.S_ISREG(status.st_mode) else None
