"""The files of class folders: names, sizes and times, a class at a time, in columns."""

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.columns import Texts
from slowfast_dist.system.text import few
from slowfast_dist.video.container import ENDINGS
from slowfast_dist.video.images.listing import (
    FPS_FILE,
    IMAGE_SUFFIXES,
    Stamp,
    counts_for_stamp,
    find_sequence,
    is_image,
    stamp_of_entries,
)

_ENDINGS = frozenset(" ".join(ENDINGS.values()).encode().split())

VIDEO_SUFFIXES = frozenset(f".{ending.decode()}" for ending in _ENDINGS)
"""Endings of the files that are taken for videos, in small letters; capital ones count as well."""

_SIDE_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "test"})
"""Folders of these names alone are no classes but the two sides of a split."""

_LISTS = frozenset(b"csv tsv json jsonl txt md yaml yml xml html pdf log".split())
"""Endings of annotations and notes, which nobody who has them beside class folders expects to be
taken for videos."""

_SYSTEMS_OWN = frozenset({b"thumbs.db", b"desktop.ini", FPS_FILE.encode()})
"""What file managers leave in folders of pictures, others of their files being hidden; and what
tells how fast a folder of images is shown."""

_LONGEST_ENDING = 8
"""Characters of the longest ending that is told; what follows the last dot of a name may be no
ending at all."""


@dataclass
class _FoundVideos:
    """Videos of one class while they are listed: names below the root, and stamps.

    Names are bytes, as the system gives them: a table of a million never makes them text.
    """

    names: list[bytes] = field(default_factory=list)
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    times: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, name: bytes, stamp: Stamp) -> None:
        self.names.append(name)
        self.sizes.append(stamp[0])
        self.times.append(stamp[1])

    def columns(self) -> "Files":
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        stamps = np.stack([np.array(self.sizes, np.int64), np.array(self.times, np.int64)], axis=1)
        return Files(
            Texts.of_parts([self.names[place] for place in order]),
            stamps[order],
            np.full(len(order), -1, np.int8),
            [""] * len(order),
        )


class FileRows(NamedTuple):
    """What an annotation file says beside: of each row a number that is its file's alone, bounds
    (N, 2) in seconds (NaN: the whole video), its line, its subject ("" without one), its region of
    interest, boxes (N, 4) (NaN: the whole picture), its weight in the loss, and its fold in a
    cross-validation (None without a column fold)."""

    numbers: NDArray[np.int32]
    bounds: NDArray[np.float64]
    lines: NDArray[np.int32]
    subjects: list[str]
    boxes: NDArray[np.float64]
    weights: NDArray[np.float32]
    folds: list[str | None]


class Files(NamedTuple):
    """The videos of a class, by name: names (N,) below the root, or absolute ones that a CSV names
    elsewhere; stamps (N, 2), as Stamp, -1 where there is no file; sides (N,): places in
    SIDES, -1 where nothing is said of it; groups (N,), "" where the video is one of its own; rows:
    what only an annotation file tells."""

    names: Texts
    stamps: NDArray[np.int64]
    sides: NDArray[np.int8]
    groups: list[str]
    rows: FileRows | None = None


class Skipped(Counter[str]):
    """How many files were passed over as no videos, by their endings."""

    previews = 0
    """Folders of numbered images among them."""

    def add_previews(self, names: Iterable[bytes]) -> None:
        """Count the files of a folder of images that would be a video if its rate were known."""
        self.previews += 1
        for name in names:
            self.add(name)

    def add(self, name: bytes, in_class: bool = True) -> None:
        """Count one, unless it is hidden or of a file manager, or a list beside the classes."""
        _, dot, ending = name.lower().rpartition(b".")
        ending = ending if dot else b""
        if name.startswith(b".") or name.lower() in _SYSTEMS_OWN:
            return
        if not in_class and ending in _LISTS:
            return
        short = ending.isalnum() and len(ending) <= _LONGEST_ENDING
        self[f".{ending.decode('ascii', 'replace')}" if short else "others"] += 1

    def __str__(self) -> str:
        """As 14 files skipped: .jpg (12), .png (2)."""
        named = [(name, count) for name, count in self.most_common() if name != "others"][:5]
        rest = self.total() - sum(count for _, count in named)
        parts = [f"{name} ({count})" for name, count in named] + [f"others ({rest})"] * bool(rest)
        files = "1 file" if self.total() == 1 else f"{self.total()} files"
        told = f"{files} skipped: {', '.join(parts)}"
        if self.previews:
            what = f"{self.previews} folders" if self.previews > 1 else "a folder"
            told += f"; {what} of numbered images beside videos: to take them as videos, too, give "
            told += "--data.image-fps (--image-fps)"
        return told


def path_below(name: str) -> str:
    """A relative path for a video's name, which is absolute where a CSV names a file elsewhere."""
    return "/".join(part for part in name.split("/") if part) if os.path.isabs(name) else name


def all_endings() -> str:
    """Those of the files that are taken for videos, for a message."""
    others = len(VIDEO_SUFFIXES.difference(COMMON))
    return f"{', '.join(COMMON)} and {others} others (docs/data.md)"


COMMON = (
    ".mp4", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".ts", ".mts", ".flv", ".m4v", ".3gp",
    ".vob", ".mxf", ".gif",
)  # fmt: skip
"""Endings that a message names; all of them would be a long line."""


def is_video(name: bytes) -> bool:
    """Whether a file's name has a video's ending, and is not hidden."""
    _, dot, ending = name.rpartition(b".")
    return bool(dot) and ending.lower() in _ENDINGS and not name.startswith(b".")


def images_of(names: Iterable[bytes], skipped: Skipped) -> bool:
    """Whether the images among the files of a folder make it a video; those that are no frames of
    it are counted in ``skipped``. With a video beside them they do not."""
    images = [name for name in names if is_image(name)]
    try:
        found = find_sequence(map(os.fsdecode, images))
    except ValueError:  # the probe says what is wrong
        return True
    for name in images if found is None else map(os.fsencode, found.others):
        skipped.add(name)
    return found is not None


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


def list_folders(
    root: Path, flag: str, may_be_empty: bool, skipped: Skipped, has_rate: bool = False
) -> dict[str, Files]:
    """The videos of each class folder; files that are none are counted in ``skipped``.
    ``has_rate``: whether it is known how fast folders of images are shown that do not tell.

    Raises UserError, also for a class folder without videos unless some ``may_be_empty``, and
    OSError where one cannot be read.
    """
    found: dict[str, Files] = {}
    loose = 0
    with os.scandir(os.fsencode(root)) as entries:
        for entry in entries:
            if entry.name.startswith(b"."):
                continue
            if os.path.isdir(entry.path):
                name = os.fsdecode(entry.name)
                found[name] = _videos_below(entry.path, len(entry.name), skipped, has_rate)
            elif is_video(entry.name):
                loose += 1
            else:
                skipped.add(entry.name, in_class=False)
    if loose:
        raise UserError(
            f"--{flag} {root}: {loose} videos lie in the folder itself; put those of each class "
            "into a folder with the class's name"
        )
    if len(found) > 1 and {name.lower() for name in found} <= _SIDE_FOLDERS:
        sides = "--data.train-dir and --data.val-dir instead"
        remedy = sides if flag == "data.root" else "one of them"
        names = few(sorted(found), quoted=True)
        raise UserError(f"--{flag} {root}: holds {names} and no classes; give {remedy}")
    empty = sorted(name for name, part in found.items() if not len(part.names))
    names = few(empty, quoted=True)
    why = f" ({skipped}; videos end in {all_endings()})" if skipped and empty else ""
    if empty and any(suffix in skipped for suffix in IMAGE_SUFFIXES):
        why += "; numbered images are a video in a folder of their own below the class's"
    if found and len(empty) == len(found):
        raise UserError(
            f"--{flag} {root}: no video in any of its folders ({names}); give a folder of class "
            f"folders of videos{why}"
        )
    if empty and not may_be_empty:
        raise UserError(
            f"--{flag} {root}: no video in class folder {names}; add some, or move it away{why}"
        )
    return found


UNLABELLED = "video"
"""The one class of videos whose labels nobody knows."""


def list_below(
    root: Path, flag: str, skipped: Skipped, has_rate: bool = False
) -> dict[str, Files]:
    """All videos below a folder, as of one class; else as `list_folders`."""
    found = _videos_below(os.fsencode(root).rstrip(b"/"), -1, skipped, has_rate)
    if not len(found.names):
        why = f" ({skipped}; videos end in {all_endings()})" if skipped else ""
        raise UserError(f"--{flag} {root}: no video in it, or in a folder below it{why}")
    return {UNLABELLED: found}


def _videos_below(top: bytes, name_length: int, skipped: Skipped, has_rate: bool) -> Files:
    """The videos of a folder and of those below it, also behind links; nothing hidden. A folder
    below it that holds numbered images and no video is one, unless nothing tells its rate and the
    class has files of videos: it then holds previews of these.

    ``name_length``: bytes of the folder's own name, from which on paths are the videos' names. A
    link back to a folder that it lies in is not followed. A link to nothing counts as a video: what
    reads it says why. Raises OSError where a folder cannot be read.
    """
    start = len(top) - name_length
    found = _FoundVideos()
    folders: list[tuple[bytes, list[os.DirEntry[bytes]], Skipped]] = []  # of images
    waiting = [(top, frozenset[bytes]())]
    while waiting:
        here, above = waiting.pop()
        real = os.path.realpath(here)
        if real in above:
            continue
        before, images, others = len(found.names), list[os.DirEntry[bytes]](), Skipped()
        with os.scandir(here) as entries:  # knows folders from files without asking for each
            for entry in entries:
                if _is_folder(entry):
                    waiting.append((entry.path, above | {real}))
                elif is_video(entry.name):
                    try:
                        status = entry.stat()
                        found.add(entry.path[start:], (status.st_size, status.st_mtime_ns))
                    except OSError:
                        found.add(entry.path[start:], (-1, -1))
                elif counts_for_stamp(entry.name):
                    images.append(entry)
                else:
                    skipped.add(entry.name)
        names = [entry.name for entry in images]
        if here != top and len(found.names) == before and images_of(names, others):
            folders.append((here, images, others))
            continue
        skipped.update(others)
        if here != top and len(found.names) == before:
            continue
        for name in names:
            skipped.add(name)
    has_files = bool(found.names)
    for here, images, others in folders:
        names = [entry.name for entry in images]
        if has_files and not has_rate and FPS_FILE.encode() not in names:
            skipped.add_previews(names)
        else:
            skipped.update(others)
            found.add(here[start:], stamp_of_entries(images))
    return found.columns()
