"""Which videos there are and what each shows: class folders, or a CSV of path,label."""

import csv
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slowfast_dist.config import UserError

VIDEO_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        "mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg",
        "ts", "m2ts", "mts", "wmv", "flv", "3gp", "ogv",
    )
)  # fmt: skip
"""Endings of the files that are taken for videos, in small or capital letters."""

SIDES = frozenset({"train", "training", "val", "valid", "validation", "test"})
"""Folders of these names alone are no classes but the two sides of a split."""

Found = dict[str, list[tuple[str, Path]]]
"""Class name -> name and path of each of its videos."""


@dataclass(frozen=True)
class VideoRecord:
    """A video: where it is, its POSIX path below the root, its class's index, and its group."""

    path: Path
    name: str
    label: int
    group: str


@dataclass(frozen=True)
class Listing:
    """Class names, sorted, and the videos by class and name."""

    classes: tuple[str, ...]
    videos: tuple[VideoRecord, ...]


def list_videos(
    root: Path, flag: str, group_pattern: str | None = None, *, single_class: bool = False
) -> Listing:
    """The videos of class folders or of a CSV; ``flag`` is the setting that named ``root``.

    Raises UserError, naming the flag, where there is nothing that could be trained on; for an
    evaluation, videos of a ``single_class`` are enough.
    """
    pattern = _compile(group_pattern) if group_pattern else None
    if root.is_dir():
        try:
            found = _list_folders(root, flag)
        except OSError as error:
            raise UserError(
                f"--{flag} {root}: {error.filename} cannot be read ({error.strerror}); change its "
                "permissions, or move it away"
            ) from None
    elif root.suffix.lower() == ".csv" and root.is_file():
        found = _list_csv(root, flag)
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
    videos = [
        VideoRecord(path, name, label, _group(name, pattern))
        for label, class_name in enumerate(classes)
        for name, path in sorted(found[class_name])
    ]
    for video in videos:
        if not _is_text(classes[video.label] + video.name):
            raise UserError(f"--{flag} {root}: the name {video.name!r} is not UTF-8; rename it")
    if pattern and not any(pattern.search(video.name) for video in videos):
        raise UserError(
            f"--data.group-pattern {group_pattern!r}: matches none of the {len(videos)} paths "
            f"below {root}, as {videos[0].name}; give a pattern that does"
        )
    return Listing(classes, tuple(videos))


def _compile(group_pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(group_pattern)
    except re.error as error:
        raise UserError(
            f"--data.group-pattern {group_pattern!r}: no valid regular expression ({error}); "
            r"give one such as 'seq\d+'"
        ) from None


def _group(name: str, pattern: re.Pattern[str] | None) -> str:
    match = pattern.search(name) if pattern else None
    if match is None:
        return name
    return "/".join(part or "" for part in match.groups()) if match.groups() else match[0]


def _list_folders(root: Path, flag: str) -> Found:
    found: Found = {}
    loose = 0
    for entry in root.iterdir():
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            loose += _is_video(entry)
            continue
        found[entry.name] = [(path.relative_to(root).as_posix(), path) for path in _below(entry)]
    if loose:
        raise UserError(
            f"--{flag} {root}: {loose} videos lie in the folder itself; put those of each class "
            "into a folder with the class's name"
        )
    if len(found) > 1 and {name.lower() for name in found} <= SIDES:
        sides = "--data.train-dir and --data.val-dir instead"
        remedy = sides if flag == "data.root" else "one of them"
        raise UserError(
            f"--{flag} {root}: holds {_few(sorted(found))} and no classes; give {remedy}"
        )
    empty = sorted(name for name, videos in found.items() if not videos)
    if found and len(empty) == len(found):
        raise UserError(
            f"--{flag} {root}: no video in any of its folders ({_few(empty)}); give a folder of "
            "class folders of videos"
        )
    if empty:
        raise UserError(
            f"--{flag} {root}: no video in class folder {_few(empty)}; add some, or move it away"
        )
    return found


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def _below(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """The videos in a folder, in those further down, and behind links; nothing hidden.

    A link back to a folder ``above`` is not followed. A link to nothing counts as a video, which
    the probe then rejects with a reason.
    """
    above |= {folder.resolve()}
    with os.scandir(folder) as entries:  # knows folders from files without asking for each
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir():
                if not path.name.startswith(".") and path.resolve() not in above:
                    yield from _below(path, above)
            elif _is_video(path):
                yield path


def _list_csv(table: Path, flag: str) -> Found:
    root = Path(os.path.abspath(table)).parent
    found: Found = {}
    lines: dict[str, int] = {}
    missing: list[str] = []
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"path", "label"} <= set(reader.fieldnames or ()):
                raise UserError(
                    f"--{flag} {table}: its first line must name the columns path,label"
                )
            for row in reader:
                where = f"--{flag} {table}, line {reader.line_num}"
                given, label = (row["path"] or "").strip(), (row["label"] or "").strip()
                if not given or not label:
                    raise UserError(
                        f"{where}: path or label is empty; fill it in or delete the line"
                    )
                path = Path(os.path.normpath(root / given))
                if not path.is_relative_to(root):
                    raise UserError(f"{where}: {given} is not below {root}; move it there")
                name = path.relative_to(root).as_posix()
                if name in lines:
                    raise UserError(
                        f"{where}: {name} stands in line {lines[name]} already; delete one"
                    )
                lines[name] = reader.line_num
                if not path.is_file():
                    missing.append(f"line {reader.line_num}: {given}")
                found.setdefault(label, []).append((name, table.parent / name))
    except OSError as error:
        raise UserError(f"--{flag} {table}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--{flag} {table}: not a CSV in UTF-8 ({error}); save it as one") from None
    if missing:
        raise UserError(
            f"--{flag} {table}: files that do not exist: {_few(missing, quote=False)}; paths are "
            f"relative to {root}; correct or delete these lines"
        )
    return found


def usable(listing: Listing, readable: Collection[Path], flag: str, root: Path) -> Listing:
    """``listing`` with the readable files alone. Raises UserError where a class has none left."""
    kept = tuple(video for video in listing.videos if video.path in readable)
    left = Counter(video.label for video in kept)
    empty = [name for label, name in enumerate(listing.classes) if not left[label]]
    if empty:
        raise UserError(
            f"--{flag} {root}: no video of class {_few(empty)} can be read; replace them, or "
            "move the folder away"
        )
    return Listing(listing.classes, kept)


def labelled_as(listing: Listing, classes: Sequence[str], flag: str, root: Path) -> Listing:
    """``listing`` with the labels of a model of ``classes``, some of which it may lack.

    Raises UserError, naming them, where it has others.
    """
    unknown = [name for name in listing.classes if name not in classes]
    if unknown:
        raise UserError(
            f"--{flag} {root}: the model does not know {_few(unknown)}; its classes are "
            f"{_few(list(classes))}: rename, or leave those videos out"
        )
    labels = [classes.index(name) for name in listing.classes]
    videos = [replace(video, label=labels[video.label]) for video in listing.videos]
    return Listing(tuple(classes), tuple(videos))


def require_same_classes(train: Listing, val: Listing) -> None:
    """Raise UserError, naming the classes, where the two sides do not have the same ones."""
    missing = sorted(set(train.classes) - set(val.classes))
    extra = sorted(set(val.classes) - set(train.classes))
    if missing or extra:
        parts = [f"no {_few(missing)}"] * bool(missing) + [f"{_few(extra)} besides"] * bool(extra)
        raise UserError(
            f"--data.val-dir has other classes than --data.train-dir: {' and '.join(parts)}; "
            "give both the same class folders"
        )


def _is_text(name: str) -> bool:
    """Whether ``name`` can be written; a file's name may hold bytes that are no UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _few(names: list[str], quote: bool = True) -> str:
    quoted = [repr(name) if quote else name for name in names]
    return ", ".join(quoted[:3]) + (f" and {len(quoted) - 3} more" if len(quoted) > 3 else "")
