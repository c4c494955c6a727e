"""Which videos there are and what each shows: class folders, or an annotation file."""

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slowfast_dist.annotations.labels import Remark, sort_labels
from slowfast_dist.annotations.table import SIDES, SUFFIXES, Side, Table, names_columns
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.columns import Categorical, Texts
from slowfast_dist.data.listing.gaps import Annotated
from slowfast_dist.data.listing.label_sets import (
    LabelSets,
    covering,
    overlap_remark,
    same_samples,
    several_remark,
)
from slowfast_dist.data.listing.rows import list_rows
from slowfast_dist.data.listing.scan import Files, Skipped, is_video, list_folders
from slowfast_dist.data.listing.segments import Segments
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.metrics.cells import SEPARATOR, parted
from slowfast_dist.system.cpus import TooMuchCpuError, cpu_limit
from slowfast_dist.system.text import few, unwritable

if TYPE_CHECKING:
    from slowfast_dist.data.listing.imported import Imported, ImportedRows


@dataclass(frozen=True)
class Listing:
    """Class names in their order, and the videos by class and name.

    ``sides`` (N,): places in SIDES, where a column split says them. ``remarks``: what the
    user should know.
    """

    classes: tuple[str, ...]
    videos: VideoTable
    sides: NDArray[np.int8] | None = None
    remarks: tuple[Remark, ...] = ()
    imported: "Imported | None" = None
    """What came of a file of another tool; None where there was nothing to import."""
    annotated: Annotated | None = None
    """All that an annotation file with parts of videos names, whatever was selected since."""

    def counts(self) -> NDArray[np.int64]:
        """(K,): videos of each class."""
        return self.videos.class_counts(len(self.classes))

    def select(self, rows: ArrayLike) -> "Listing":
        """With the videos of ``rows`` alone; the classes stay."""
        chosen = np.asarray(rows, np.int64)
        sides = None if self.sides is None else self.sides[chosen]
        return replace(self, videos=self.videos.select(chosen), sides=sides)

    def without_empty_classes(self) -> "Listing":
        has_some = self.counts() > 0
        if (sets := self.videos.sets) is not None:
            kept = tuple(compress(self.classes, has_some))
            return replace(self, classes=kept, videos=replace(self.videos, sets=sets[:, has_some]))
        number = np.cumsum(has_some, dtype=np.int32) - 1
        classes = tuple(n for n, some in zip(self.classes, has_some, strict=True) if some)
        videos = replace(self.videos, labels=number[self.videos.labels].astype(np.int32))
        return replace(self, classes=classes, videos=videos)

    def with_class(self, name: str) -> "Listing":
        """With a class that may have no videos."""
        if name in self.classes:
            return self
        classes = sort_labels((*self.classes, name))
        number = np.array([classes.index(one) for one in self.classes], np.int32)
        videos = replace(self.videos, labels=number[self.videos.labels])
        return replace(self, classes=classes, videos=videos)

    def with_remark(self, kind: str, what: str) -> "Listing":
        return replace(self, remarks=(*self.remarks, Remark("info", kind, what)))

    def left_out_to(self, place: str) -> "Listing":
        """With the remark on the import that ``place`` lists what it left out."""
        if self.imported is None or not self.imported.notes.count():
            return self
        said = (replace(one, remedy=f"{place} lists them") if one.kind == "imported" else one
                for one in self.remarks)  # fmt: skip
        return replace(self, remarks=tuple(said))

    def rows_of(self, *sides: Side) -> NDArray[np.int64]:
        """The rows with one of these splits; all where there is no column split."""
        if self.sides is None:
            return np.arange(len(self.videos))
        return np.flatnonzero(np.isin(self.sides, [SIDES.index(side) for side in sides]))


def list_videos(
    root: Path, flag: str, group_pattern: str | None = None, *, start: Path | None = None,
    single_class: bool = False, may_be_empty: bool = False, order: Sequence[str] | None = None,
    several: bool | None = False, image_fps: float | None = None,
) -> Listing:  # fmt: skip
    """The videos of class folders or of an annotation file; ``flag`` is what named ``root``.

    ``start``: where relative paths of a CSV start, if not from its folder. ``order``: that of the
    classes where these are they, as in a run that goes on. For an evaluation, videos of a
    ``single_class`` are enough, and class folders ``may_be_empty``. ``several``: whether a video
    may have several labels, or none; None: where a list gives some so.
    Raises UserError, naming the flag, where there is nothing that could be trained on.
    """
    pattern = compile_pattern(group_pattern) if group_pattern else None
    found, below, remarks, table = _found(root, flag, start, may_be_empty, several, image_fps)
    several = bool(several) or (table is not None and table.has_several)
    imported = None if table is None or isinstance(table, Table) else table.imported
    classes = sort_labels(found)
    if several:
        classes = sort_labels({name for cell in found for name in parted(cell)})
    if order is not None and sorted(order) == sorted(classes):
        classes = tuple(order)
    require_classes(classes, flag, root, single_class)
    columns = [found[name] for name in (sorted(found) if several else classes)]
    names = Texts.concatenated([part.names for part in columns])
    for text in (*classes, names.data.tobytes().decode("utf-8", "surrogateescape")):
        if unwritable(text) is not None:
            wrong = next(name for name in (*classes, *names) if unwritable(name) is not None)
            raise UserError(f"--{flag} {root}: the name {wrong!r} {unwritable(wrong)}; rename it")
    groups: Categorical | None = None
    given = [group for part in columns for group in part.groups]
    # split.csv of a run has each video's own name where there was no grouping.
    if any(group not in ("", name) for name, group in zip(names, given, strict=True)):
        if pattern:
            raise UserError(
                f"--data.group-pattern {group_pattern!r}: {root} has a column group already; "
                "leave one of the two out"
            )
        groups = Categorical.of(own or name for name, own in zip(names, given, strict=True))
    elif pattern:
        groups = _groups_by_pattern(names, pattern, root)
    sides = np.concatenate([part.sides for part in columns])
    segments = _segments(columns)
    if segments is not None and groups is None and (
        segments.any_part or segments.boxes is not None
    ):
        groups = _by_file(segments, names)
    labels = np.repeat(np.arange(len(columns), dtype=np.int32), [len(c.names) for c in columns])
    videos = VideoTable(
        below, names, labels, groups, np.concatenate([part.stamps for part in columns]),
        segments=segments, weights=_weights(columns),
    )  # fmt: skip
    annotated = None
    if segments is not None and segments.any_part and not several:
        annotated = Annotated(videos, classes, isinstance(table, Table) and table.follows_links)
    listing = Listing(
        classes, videos, sides if (sides >= 0).any() else None, remarks, imported, annotated
    )
    if not several:
        return listing
    cells = sorted(found)
    if table is None and (odd := next((name for name in cells if SEPARATOR in name), None)):
        what = f"class {odd!r} has a {SEPARATOR}, which parts several labels; rename the folder"
        raise UserError(f"--{flag} {root}: {what}")
    sets = LabelSets.of_cells([cells[label] for label in labels], classes)
    listing = _with_sets(listing, sets, columns, table)
    assert listing.videos.sets is not None
    said = several_remark(root, listing.videos.labels, listing.videos.sets)
    return replace(listing, remarks=(*listing.remarks, said))


def _with_sets(
    listing: Listing, sets: LabelSets, columns: Sequence[Files],
    table: "Table | ImportedRows | None",
) -> Listing:  # fmt: skip
    """``listing`` with the ``sets`` of labels of its rows: those of one sample are one row, and
    segments have the labels of those that cover them, unless the ``table`` names all of a row.
    Raises UserError for rows of one sample that are on two sides."""
    rows = [part.rows for part in columns if part.rows is not None]
    if table is None or not rows:
        videos = replace(listing.videos, labels=sets.codes, sets=sets.sets)
        return replace(listing, videos=videos)
    files = np.concatenate([part.numbers for part in rows])
    bounds = np.concatenate([part.bounds for part in rows])
    lines = np.concatenate([part.lines for part in rows])
    boxes = np.nan_to_num(np.concatenate([part.boxes for part in rows]), nan=-1.0)
    # Regions of interest of one file, as of two animals, are as different as files.
    keys = np.column_stack([files, boxes])
    files = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32)
    samples = same_samples(files, bounds)
    chosen = np.array([some[0] for some in samples], np.int64)
    if listing.sides is not None:
        for some in samples:
            if len(set(listing.sides[some].tolist())) > 1:
                first, second = sorted(lines[some].tolist())[:2]
                what = f"its split is not that of line {first}, of the same video; correct one"
                raise table.wrong(what, second)
    # By name, start and end, as the rows of a class are.
    names = list(listing.videos.names)
    order = sorted(range(len(samples)), key=lambda place: (
        names[chosen[place]], *np.nan_to_num(bounds[chosen[place]], nan=-1.0).tolist()
    ))  # fmt: skip
    chosen = chosen[order]
    united = sets.united([samples[place] for place in order])
    listing = listing.select(chosen)
    if not table.names_all:
        own = united.sets[united.codes]
        united = united.united(covering(files[chosen], bounds[chosen]))
        gained = int((united.sets[united.codes] != own).any(axis=1).sum())
        if gained:
            said = overlap_remark(gained, len(chosen))
            listing = replace(listing, remarks=(*listing.remarks, said))
    videos = replace(listing.videos, labels=united.codes, sets=united.sets)
    return replace(listing, videos=videos)


def _segments(columns: Sequence[Files]) -> Segments | None:
    """None where every row is all of a file that no other row names, and of its picture."""
    rows = [part.rows for part in columns if part.rows is not None]
    if not rows:
        return None
    numbers = np.concatenate([part.numbers for part in rows])
    bounds = np.concatenate([part.bounds for part in rows])
    subjects = [subject for part in rows for subject in part.subjects]
    told = Categorical.of(subjects) if any(subjects) else None
    boxes = np.concatenate([part.boxes for part in rows])
    known = None if np.isnan(boxes).all() else boxes
    if np.isnan(bounds).all() and told is None and known is None:
        return None
    lines = np.concatenate([part.lines for part in rows])
    return Segments(numbers, bounds, lines, told, boxes=known)


def _weights(columns: Sequence[Files]) -> NDArray[np.float32] | None:
    """(N,); None where all are 1."""
    rows = [part.rows for part in columns if part.rows is not None]
    weights = np.concatenate([part.weights for part in rows]) if rows else None
    return None if weights is None or (weights == 1).all() else weights


def _by_file(segments: Segments, names: Texts) -> Categorical:
    """(N,): all parts of a file are one group, so that none is on both sides of a split."""
    _, first, codes = np.unique(segments.files, return_index=True, return_inverse=True)
    return Categorical(codes.astype(np.int32), names.take(first))


def list_root(
    data: DataConfig, order: Sequence[str] | None = None, several: bool = False
) -> Listing:
    """The videos of ``data.root``, for training and validation. Raises UserError."""
    assert data.root is not None
    alone = data.background is not None  # which is the second class
    listing = list_videos(
        data.root, "data.root", data.group_pattern, start=data.videos, order=order,
        several=several, image_fps=data.image_fps, single_class=alone,
    )  # fmt: skip
    return for_training(listing, "data.root", data.root, alone)


def list_sides(
    data: DataConfig, order: Sequence[str] | None = None, several: bool = False
) -> tuple[Listing, Listing]:
    """The videos of ``data.train_dir`` and of ``data.val_dir``, both with the classes of the first.
    Raises UserError."""
    assert data.train_dir is not None and data.val_dir is not None
    alone = data.background is not None  # which is the second class
    train = list_videos(
        data.train_dir, "data.train-dir", start=_start(data, data.train_dir), order=order,
        several=several, image_fps=data.image_fps, single_class=alone,
    )  # fmt: skip
    train = of_side(train, "train", "data.train-dir", data.train_dir)
    require_classes(train.classes, "data.train-dir", data.train_dir, alone)
    val = list_videos(
        data.val_dir, "data.val-dir", start=_start(data, data.val_dir), single_class=True,
        may_be_empty=True, several=several, image_fps=data.image_fps,
    )  # fmt: skip
    val = of_side(val, "val", "data.val-dir", data.val_dir)
    if data.background in val.classes:  # of which the other list may say nothing
        train = train.with_class(data.background)
    return train, labelled_as_trained(val, train, data.val_dir)


def _start(data: DataConfig, root: Path) -> Path | None:
    """Of two roots, one may be a CSV and the other a folder, which --data.videos is not for."""
    both = (data.train_dir, data.val_dir)
    lists = any(other is not None and not other.is_dir() for other in both)
    return None if root.is_dir() and lists else data.videos


def _found(
    root: Path, flag: str, start: Path | None, may_be_empty: bool, several: bool | None,
    image_fps: float | None,
) -> "tuple[dict[str, Files], Path, tuple[Remark, ...], Table | ImportedRows | None]":
    """The files by class, the folder below which their names lie, what is to be said, and the list
    that was read, if one was."""
    if start is not None:
        name = "data.videos" if flag.startswith("data.") else "videos"
        if root.is_dir():
            raise UserError(f"--{name} {start}: is for a CSV, and {root} is a folder; leave it out")
        if not start.is_dir():
            raise UserError(f"--{name} {start}: there is no such folder")
    if root.is_dir():
        skipped = Skipped()
        try:
            found = list_folders(root, flag, may_be_empty, skipped)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                why = "its folders lie too deep in each other; move the videos up"
            else:
                why = f"{os.fsdecode(error.filename)} cannot be read ({error.strerror}); change "
                why += "its permissions, or move it away"
            raise UserError(f"--{flag} {root}: {why}") from None
        said = [Remark("info", "skipped", f"{root}: {skipped}")] * bool(skipped)
        return found, root, tuple(said), None
    below = root.parent if start is None else start
    table = open_list(root, flag, below, several, image_fps)
    return list_rows(table, below), below, tuple(table.remarks()), table


def open_list(
    root: Path, flag: str, below: Path, several: bool | None = False,
    image_fps: float | None = None,
) -> "Table | ImportedRows":  # fmt: skip
    """The annotation file that ``flag`` names, its format found, its rows not read; ``below``:
    where its videos are; ``several``: as of `Table`. Raises UserError for what is none."""
    if not root.exists():
        raise UserError(f"--{flag} {root}: there is no such folder or CSV")
    listed = root.suffix.lower() in SUFFIXES
    text = root.is_file() and root.stat().st_size and not is_video(os.fsencode(root.name))
    if not (root.is_file() if listed else text):
        raise UserError(
            f"--{flag} {root}: give a folder of class folders, or a .csv or .jsonl "
            "of path,label"
        )
    if listed and names_columns(root):
        return Table(root, flag, several)
    # Imported late: class folders and lists start without the readers of formats.
    from slowfast_dist.data.listing.imported import ImportedRows

    try:
        return ImportedRows(root, flag, below, several, image_fps)
    except UserError:
        if listed:  # what is wrong with it as a list, it says itself
            return Table(root, flag, several)
        raise


def list_folder(
    root: Path, start: Path | None = None, image_fps: float | None = None
) -> Listing:
    """As `list_videos`, of one class or more, for what was given without a flag."""
    try:
        return list_videos(
            root, "DIR", start=start, single_class=True, several=None, image_fps=image_fps
        )
    except UserError as error:
        raise UserError(str(error).removeprefix("--DIR ")) from None


def for_training(
    listing: Listing, flag: str, root: Path, single_class: bool = False
) -> Listing:
    """Without the rows of split test, and classes that only those have. Raises UserError where no
    row is of split train, and for a ``single_class`` unless that is enough."""
    if listing.sides is None or len(listing.rows_of("test")) == 0:
        kept = listing
    else:
        kept = listing.select(listing.rows_of("train", "val")).without_empty_classes()
        left_out = len(listing.videos) - len(kept.videos)
        what = f"{root}: {left_out} of {len(listing.videos)} videos, of split test, are left out"
        if only := [name for name in listing.classes if name not in kept.classes]:
            what += f", and with them the classes {few(only, quoted=True)}"
        kept = kept.with_remark("split-test", what)
    if listing.sides is not None and not len(listing.rows_of("train")):
        raise UserError(f"--{flag} {root}: no row has split train; a training needs some")
    require_classes(kept.classes, flag, root, single_class)
    return kept


def of_side(listing: Listing, side: Side, flag: str, root: Path) -> Listing:
    """The rows of a split alone, where a CSV says them, and all where it does not. Raises UserError
    where there are none."""
    rows = listing.rows_of(side)
    if listing.sides is None or len(rows) == len(listing.videos):
        return listing
    if not len(rows):
        raise UserError(
            f"--{flag} {root}: no row has split {side}; correct the column, or delete it"
        )
    left_out = len(listing.videos) - len(rows)
    what = f"{root}: {len(rows)} rows of split {side} are taken, {left_out} others left out"
    return listing.select(rows).without_empty_classes().with_remark(f"split-{side}", what)


def require_classes(classes: Sequence[str], flag: str, root: Path, single_class: bool) -> None:
    """Raise UserError, naming the flag, where there is nothing to tell apart, unless a
    ``single_class`` is enough."""
    if len(classes) < (1 if single_class else 2):
        only = f"only one class, {classes[0]!r}" if classes else "no class folder with videos"
        remedy = (
            "give class folders" if single_class else "a classifier needs videos of at least two"
        )
        raise UserError(f"--{flag} {root}: {only}; {remedy}")


def usable(
    listing: Listing, readable: NDArray[np.bool_], flag: str, root: Path,
    may_lack: str | None = None,
) -> Listing:  # fmt: skip
    """``listing`` with the readable files alone, (N,). Raises UserError where a class other than
    the one that it ``may_lack`` has none left."""
    left = listing.videos.select(np.flatnonzero(readable)).class_counts(len(listing.classes))
    counted = zip(listing.classes, left, strict=True)
    empty = [name for name, count in counted if not count and name != may_lack]
    if empty:
        raise UserError(
            f"--{flag} {root}: no video of class {few(empty, quoted=True)} can be read; replace "
            "them, or move the folder away"
        )
    kept = listing.select(np.flatnonzero(readable))
    for side in SIDES:
        if listing.sides is not None and len(listing.rows_of(side)) and not len(kept.rows_of(side)):
            raise UserError(f"--{flag} {root}: no video of split {side} can be read; replace them")
    return kept


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
    if (own := listing.videos.sets) is not None:
        sets = np.zeros((len(own), len(classes)), np.bool_)
        sets[:, labels] = own
        return replace(
            listing, classes=tuple(classes), videos=replace(listing.videos, sets=sets)
        )
    videos = replace(listing.videos, labels=labels[listing.videos.labels])
    return replace(listing, classes=tuple(classes), videos=videos)


def labelled_as_trained(val: Listing, train: Listing, root: Path) -> Listing:
    """The validation videos with the labels of the training's, some of which they may lack.

    Raises UserError, naming them, for classes that the training does not have.
    """
    if extra := [name for name in val.classes if name not in train.classes]:
        raise UserError(
            f"--data.val-dir {root}: has classes that --data.train-dir lacks, "
            f"{few(extra, quoted=True)}; rename them, or leave those videos out"
        )
    return labelled_as(val, train.classes, "data.val-dir", root)


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


def _groups_by_pattern(names: Texts, pattern: re.Pattern[str], root: Path) -> Categorical:
    """(N,) of all paths. Raises UserError where the pattern matches none of them."""
    with time_to_search(pattern, len(names), root):
        found = ((name, group_of(name, pattern)) for name in names)
        groups = Categorical.of(name if own is None else own for name, own in found)
        matches = any(pattern.search(name) for name in names)
    if not matches:
        raise UserError(
            f"--data.group-pattern {pattern.pattern!r}: matches none of the {len(names)} paths "
            f"below {root}, as {names[0]}; give a pattern that does"
        )
    return groups


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
