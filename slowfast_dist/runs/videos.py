"""The videos that a run was trained and validated on, as far as its folder still leads to them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from slowfast_dist.annotations.table import SUFFIXES
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.background.gaps import Annotated
from slowfast_dist.data.listing.columns import Categorical, Texts
from slowfast_dist.data.listing.label_sets import LabelSets
from slowfast_dist.data.listing.listing import Listing, labelled_as, of_side
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.segments import Segments
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.listing.whole_files import of_whole_files
from slowfast_dist.runs.run import SplitRow, read_split_names, read_split_rows
from slowfast_dist.runs.settings import given, own_image_rate, read_settings, run_of
from slowfast_dist.system.log import logger
from slowfast_dist.system.text import option

OTHER_SUFFIXES = (".json", ".xml", ".eaf", ".boris", ".txt")
"""Endings of the files of other tools that a training imports on the way."""

MISSING = "--data is missing: give the folder (class folders of videos) to score"


class NoVideosError(UserError):
    """A run's folder does not lead to its validation videos; ``reason``: why, in a few words."""

    def __init__(self, problem: str, reason: str) -> None:
        super().__init__(f"{MISSING}; {problem}")
        self.reason = reason


Side = Literal["train", "val"]

SIDE_NAMES: dict[Side, str] = {"train": "training", "val": "validation"}


def own_validation(
    models: Path, classes: Sequence[str], several: bool = False, whole_files: bool = False
) -> tuple[Path, Listing]:
    """`own_videos` of the validation."""
    return own_videos(models, classes, several, whole_files)


def own_videos(
    models: Path, classes: Sequence[str], several: bool = False, whole_files: bool = False,
    side: Side = "val",
) -> tuple[Path, Listing]:  # fmt: skip
    """What names the validation videos of the run of ``models``, and the videos themselves, with
    labels of its ``classes``, ``several`` each or one; ``whole_files``: without parts of files that
    were trained on, too; ``side``: those of the validation or of the training.

    They are those of its split.csv, or of its --data.val-dir or train-dir. Raises NoVideosError,
    which asks for --data, where models/ lies alone, or the videos are not where they were.
    """
    run = run_of(models)
    config, table = run / "config.yaml", run / "split.csv"
    word = SIDE_NAMES[side]
    settings, unknown = read_settings(config), f"the run's files do not tell its {word} videos"
    text = given(settings, "data.root", f"data.{side}-dir")
    if text is None:
        raise NoVideosError(
            f"{models} lies alone, without the run whose videos it knows",
            unknown if config.is_file() else "there is no config.yaml beside models/",
        )
    place = located(text, run)
    if not os.path.exists(place):
        raise NoVideosError(
            f"the run's own {word} videos are not at {place} any more",
            f"the run's {word} videos are not at {text} any more",
        )
    if given(settings, "data.root") is None:
        start = None if place.is_dir() else data_root(text, run, settings)
        listing = list_videos(
            place, "data", start=start, single_class=True, may_be_empty=True, several=several,
            image_fps=own_image_rate(models),
        )  # fmt: skip
        chosen = of_side(listing, side, "data", place)
        listing = of_whole_files(chosen, listing, "data", place) if whole_files else chosen
        names = list(listing.videos.names)
        inside = _inside(listing.videos.root, names, place, place)
        listing = listing.select(inside)
        return place, labelled_as(listing, classes, "data", place)
    listed = read_split_rows(table)
    other = {row.path for row in listed if row.side != side} if whole_files else set[str]()
    rows = [
        row
        for row in listed
        if row.side == side and row.several == several and set(row.labels) <= set(classes)
    ]
    if mixed := {row.path for row in rows if row.path in other}:
        rows = [row for row in rows if row.path not in mixed]
        if not rows:
            raise UserError(
                f"{table}: all {len(mixed)} files of the validation have rows of the training, "
                "too, and --segments scores whole files: give others in --data"
            )
        logger.warning(
            f"{table}: {len(mixed)} files are left out, as they have rows of the training, too: "
            "--segments scores whole files"
        )
    root = data_root(text, run, settings)
    rows = [rows[row] for row in _inside(root, [row.path for row in rows], table, place)]
    if whole_files and rows and place.is_file():
        # The truth is what the list says: split.csv has the background's clips as they were drawn.
        start, files = data_root(text, run, settings), {row.path for row in rows}
        listing = list_videos(
            place, "data", given(settings, "data.group-pattern"), start=start, single_class=True,
            image_fps=own_image_rate(models),
        )  # fmt: skip
        taken = [row for row, name in enumerate(listing.videos.names) if name in files]
        kept = listing.select(taken).without_empty_classes()
        return table, labelled_as(kept, classes, "data", place)
    if not rows:
        raise NoVideosError(f"{table} tells no {word} videos of the model's classes", unknown)
    numbers = {name: place for place, name in enumerate(classes)}
    labels = np.array([0 if several else numbers[row.label] for row in rows], np.int32)
    paths = Texts.of(row.path for row in rows)
    groups: Categorical | None = None
    # split.csv has each video's own name where there was no grouping.
    if any(row.group not in ("", row.path) for row in rows):
        groups = Categorical.of(row.group or row.path for row in rows)
    videos = VideoTable(root, paths, labels, groups, segments=_segments(rows))
    if several:
        found = LabelSets.of_cells([row.label for row in rows], classes)
        videos = replace(videos, labels=found.codes, sets=found.sets)
    return table, Listing(tuple(classes), videos)


def own_training_list(models: Path) -> Annotated | None:
    """What the list in the --data.train-dir of the run of ``models`` has of its files; None where
    there was no such list, or it is not there any more."""
    run = run_of(models)
    settings = read_settings(run / "config.yaml")
    text = given(settings, "data.train-dir")
    if text is None or not is_list(place := located(text, run)) or not place.exists():
        return None
    try:
        return list_videos(
            place, "data", start=data_root(text, run, settings), single_class=True,
            may_be_empty=True, image_fps=own_image_rate(models),
        ).annotated  # fmt: skip
    except UserError as error:
        logger.warning(f"{place}: what the training knew of its files is not known here: {error}")
        return None


def _inside(root: Path, names: Sequence[str], table: Path, data: Path) -> list[int]:
    """Which of the videos that ``table`` names lie below ``root``; that others do not is said."""
    inside = [row for row, name in enumerate(names) if is_below(root, name, follow=True)]
    if names and not inside:
        raise NoVideosError(
            f"{table} names no validation video that lies below {root}, and a run may be another's",
            f"the run's validation videos do not lie below {root}",
        )
    if len(inside) < len(names):
        logger.warning(
            f"{table}: {len(names) - len(inside)} of {len(names)} validation videos are not below "
            f"{root} and are left out, as a run may be another's: to score them name them yourself "
            f"({option('--data', data)})"
        )
    return inside


def _segments(rows: Sequence[SplitRow]) -> Segments | None:
    """None where all are whole videos."""
    bounds = np.array([(row.start, row.end) for row in rows])
    subjects = Categorical.of(row.subject for row in rows)
    boxes = np.array([row.box for row in rows])
    has_boxes = not np.isnan(boxes).all()
    if np.isnan(bounds).all() and not any(subjects) and not has_boxes:
        return None
    files = Categorical.of(row.path for row in rows).codes
    told = subjects if any(subjects) else None
    return Segments(files, bounds, subjects=told, boxes=boxes if has_boxes else None)


def trained_on(models: Path, videos: VideoTable) -> int:
    """How many of ``videos`` are, by their paths, training videos of the run of ``models``.

    0 where models/ lies alone, or where the data, or the list of it, has moved since.
    """
    run = run_of(models)
    settings = read_settings(run / "config.yaml")
    root, folder = (given(settings, flag) for flag in ("data.root", "data.train-dir"))
    here = os.path.realpath(videos.root)
    if root is not None:
        below = os.path.realpath(data_root(root, run, settings))
        sides = read_split_names(run / "split.csv")
        seen = {os.path.join(below, name) for name, side in sides.items() if side == "train"}
        return sum(os.path.join(here, name) in seen for name in videos.samples())
    if folder is None:
        return 0
    place = located(folder, run)
    if is_list(place):
        try:
            start = data_root(folder, run, settings)
            listing = list_videos(
                place, "data", start=start, single_class=True, may_be_empty=True, several=None,
                image_fps=own_image_rate(models),
            )  # fmt: skip
            listing = of_side(listing, "train", "data", place)
        except UserError:
            return 0
        listed = set(_places(listing.videos))
        return sum(path in listed for path in _places(videos))
    below = os.path.join(os.path.realpath(data_root(folder, run, settings)), "")
    return sum(os.path.join(here, name).startswith(below) for name in videos.names)


def _places(videos: VideoTable) -> Iterator[str]:
    """Each sample, by its path in a folder without links: a list may name it in another way."""
    root, folders = os.path.realpath(videos.root), dict[str, str]()
    for name in videos.samples():
        folder, file = os.path.split(os.path.join(root, name))
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        yield os.path.join(folders[folder], file)


def start_of_paths(table: Path | None, start: Path | None) -> Path | None:
    """Where the relative paths of a list start: ``start`` if that was given, for split.csv of a run
    the videos of that run while they are there, else None: its own folder."""
    if start is not None or table is None or table.name != "split.csv":
        return start
    run = Path(os.path.abspath(table)).parent
    settings = read_settings(run / "config.yaml")
    root = given(settings, "data.root")
    below = None if root is None else data_root(root, run, settings)
    return below if below is not None and below.is_dir() else None


def with_start(data: DataConfig) -> DataConfig:
    """``data`` with the folder from which the paths of its lists start, where those are a run's
    split.csv."""
    given = (data.root, data.train_dir, data.val_dir)
    tables = [path for path in given if path is not None and not path.is_dir()]
    starts = {start_of_paths(table, data.videos) for table in tables}
    return replace(data, videos=starts.pop()) if len(starts) == 1 else data


def data_root(text: str, run: Path, settings: Mapping[str, str]) -> Path:
    """The folder below which the names of config.yaml's data lie: of a CSV the one that it names in
    data.videos, or the one it is in.

    A path that is not absolute was below the folder of the training's start; that was often the
    current one, or one above the run's.
    """
    place = located(text, run)
    if not is_list(place):
        return place
    start = given(settings, "data.videos")
    return place.parent if start is None else located(start, run)


def is_list(place: Path) -> bool:
    """Whether it is an annotation file, by its ending where it is not there any more."""
    if os.path.exists(place):
        return not place.is_dir()
    return place.suffix.lower() in (*SUFFIXES, *OTHER_SUFFIXES)


def is_below(root: Path, name: str, follow: bool) -> bool:
    """Whether a video that a run names, which may be another's, lies below the folder ``root``.

    ``follow``: links below it may lead anywhere.
    """
    try:
        below = os.path.normpath(os.path.abspath(root))
        path = os.path.normpath(os.path.join(below, name))
        if not follow:
            below, path = os.path.realpath(below), os.path.realpath(path)
    except ValueError:  # a null character
        return False
    return path.startswith(os.path.join(below, ""))


def root_of(run: Path) -> Path | None:
    """The folder of its videos that a run names."""
    settings = read_settings(run / "config.yaml")
    text = given(settings, "data.root", "data.val-dir")
    return None if text is None else data_root(text, run, settings)


def located(text: str, run: Path) -> Path:
    """The folder or CSV that config.yaml names, found as `data_root` says."""
    given = Path(text)
    places = [given, *(parent / given for parent in run.parents)]
    return next((place for place in places if _exists(place)), given)


def _exists(path: Path) -> bool:
    try:
        return os.path.exists(path)
    except ValueError:  # a null character
        return False
