"""A run's folder as a page needs it. Whatever is missing or damaged there is absent here, too."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import fsum, nan
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from slowfast_dist.annotations.segments import (
    BOX,
    EXTRA,
    NO_BOX,
    WEIGHT,
    parse_box,
    parse_time,
    sample_name,
)
from slowfast_dist.annotations.table import OF_RUN, OF_RUN_SEVERAL
from slowfast_dist.metrics.cells import parted
from slowfast_dist.metrics.scores import MACRO_CLASSES, over_classes
from slowfast_dist.metrics.summary import Summary
from slowfast_dist.metrics.task import task_of
from slowfast_dist.runs.history import History, read_history
from slowfast_dist.runs.reading import (
    file_stamp,
    mapping,
    number,
    pair,
    read_json,
    read_table,
    read_text,
    sequence,
    whole,
)
from slowfast_dist.runs.settings import given, read_settings

STATUSES = ("running", "finished", "preempted", "failed")
MOST_EVALUATIONS = 50
"""Evaluations of a run that are read: a page shows each as a row."""


@dataclass(frozen=True)
class Split:
    """How many videos each side has, by class; ``grouped``: whether groups have several videos.

    ``train_times``, ``val_times``: of each class that has segments their seconds, all together and
    in the median.
    """

    train: dict[str, int] = field(default_factory=dict)
    val: dict[str, int] = field(default_factory=dict)
    grouped: bool = False
    train_times: dict[str, tuple[float, float]] = field(default_factory=dict)
    val_times: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation-NAME/metrics.json; None for what it does not tell. ``videos``: or whole files,
    where ``over_time`` says so: an evaluation with --segments."""

    name: str
    epoch: int | None
    videos: int | None
    unreadable: int
    views: str
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    over_time: bool = False


@dataclass(frozen=True)
class Run:
    """All there is. ``settings`` by their flags; ``best`` is models/best_model.json; ``summary``
    and ``split`` come later, as reading them may be spared."""

    folder: Path
    status: str | None
    settings: dict[str, str]
    environment: dict[str, Any]
    classes: list[str]
    best: dict[str, Any]
    history: History
    unreadable: list[list[str]]
    evaluations: list[Evaluation]
    summary: Summary | None = None
    split: Split = Split()

    @property
    def name(self) -> str:
        return self.folder.name or str(self.folder)

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions" / "val_best.csv"

    @property
    def epochs(self) -> int | None:
        """Asked for."""
        text = self.settings.get("epochs", "")
        return int(text) if text.isdecimal() and len(text) < 10 else None

    @property
    def monitor(self) -> str:
        """The metric whose best epoch's model is kept."""
        return self.settings.get("checkpoint.monitor", "val/loss")

    @property
    def guess(self) -> float:
        """The loss of a model that knows nothing."""
        return task_of(self.settings.get("loss.name", "ce")).guess(len(self.classes))

    @property
    def best_epoch(self) -> int | None:
        """Of the model in models/."""
        row = self.history.best
        return row["epoch"] if row else whole(self.best.get("epoch"))

    @property
    def best_row(self) -> dict[str, Any]:
        """The metrics of that epoch, by their names in metrics.jsonl."""
        return self.history.best or mapping(self.best.get("metrics"))

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % intervals of the best epoch's validation."""
        if self.summary is not None:
            return self.summary.intervals
        return _intervals(self.best.get("intervals"))

    @property
    def macro_f1(self) -> float | None:
        """The best epoch's in validation, as its interval means it; rows of older versions have it
        over all classes."""
        row = self.best_row
        if self.summary is not None and row and f"val/{MACRO_CLASSES}" not in row:
            return self.summary.metrics["f1_macro"]
        return number(row.get("val/f1_macro"))

    @property
    def macro_over(self) -> str:
        """As "over 2 of 6 classes", where that is not over all of them; else ""."""
        row = self.best_row
        if f"val/{MACRO_CLASSES}" in row or self.summary is None:
            return over_classes(row, len(self.classes), "val/") if self.classes else ""
        return over_classes(self.summary.metrics, len(self.summary.classes))

    @property
    def data(self) -> str | None:
        """The folder or CSV of the validation videos, as config.yaml has it."""
        return given(self.settings, "data.root", "data.val-dir")


def is_run(folder: Path) -> bool:
    """Whether a training wrote there."""
    return any((folder / name).is_file() for name in ("status", "config.yaml", "metrics.jsonl"))


def read_run(folder: Path, known: History | None = None) -> Run:
    """Read all but the predictions and the split; never raises for what is damaged.

    ``known``: what an earlier call found of metrics.jsonl, see `read_history`.
    """
    status = (read_text(folder / "status", 1000) or "").strip()
    return Run(
        folder=folder,
        status=status if status in STATUSES else None,
        settings=read_settings(folder / "config.yaml"),
        environment=mapping(read_json(folder / "environment.json")),
        classes=_classes(folder),
        best=mapping(read_json(folder / "models" / "best_model.json")),
        history=read_history(folder / "metrics.jsonl", known),
        unreadable=read_table(folder / "unreadable_videos.csv", ("path", "reason", "where")),
        evaluations=_evaluations(folder),
    )


def stored_classes(checkpoint: Path) -> list[str]:
    """The classes of the run that a checkpoint is of, in their order; empty where they are not
    there."""
    return _classes(checkpoint.parents[1])


def _classes(folder: Path) -> list[str]:
    names = mapping(read_json(folder / "classes.json"))
    return [str(name) for _, name in sorted(names.items(), key=lambda item: _index(item[0]))]


def _index(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() and len(text) < 10 else (10**9, text)


def read_split(path: Path) -> Split:
    """Count the rows of a split.csv, and the seconds of those that are segments."""
    rows = read_split_rows(path)
    train, val = (
        dict(Counter(name for row in rows if row.side == wanted for name in row.labels))
        for wanted in ("train", "val")
    )
    groups = {row.group for row in rows if row.side in ("train", "val")}
    times = (_times(row for row in rows if row.side == wanted) for wanted in ("train", "val"))
    return Split(train, val, 0 < len(groups) < len(rows), *times)


def _times(rows: Iterable["SplitRow"]) -> dict[str, tuple[float, float]]:
    """Of each class with segments their seconds, all together and in the median."""
    seconds = defaultdict[str, list[float]](list)
    for row in rows:
        if row.end > row.start:  # not of whole videos, which are NaN
            for name in row.labels:
                seconds[name].append(row.end - row.start)
    return {name: (fsum(of_class), median(of_class)) for name, of_class in seconds.items()}


class SplitRow(NamedTuple):
    """A row of split.csv; ``start`` and ``end`` in seconds, NaN for a whole video; ``box``: its
    region of interest; ``several``: whether ``label`` may hold several classes, or none."""

    path: str
    label: str
    side: str
    group: str
    start: float
    end: float
    subject: str
    box: tuple[float, float, float, float] = NO_BOX
    several: bool = False

    @property
    def labels(self) -> list[str]:
        """Its classes."""
        return parted(self.label) if self.several else [self.label]

    @property
    def sample(self) -> str:
        """What it is called: path@start-end where it is a part of a video."""
        return sample_name(self.path, self.start, self.end, self.box)


def read_split_rows(path: Path) -> list[SplitRow]:
    """The rows of a split.csv, whole videos or parts of some; those with broken times are left
    out."""
    rows = list[SplitRow]()
    # Behind these may stand those of parts of videos, of regions of interest, and the weight.
    for columns in (OF_RUN, OF_RUN_SEVERAL):
        several = columns == OF_RUN_SEVERAL
        for header in (columns, (*columns, WEIGHT)):
            if whole := read_table(path, header):
                return [SplitRow(name, label, side, group, nan, nan, "", NO_BOX, several)
                        for name, label, side, group, *_ in whole]  # fmt: skip
        for more in (EXTRA, (*EXTRA, *BOX)):
            parts = read_table(path, (*columns, *more))
            parts = parts or read_table(path, (*columns, *more, WEIGHT))
            for name, label, side, group, start, end, subject, *cells in parts:
                with suppress(ValueError):
                    times = (parse_time(start), parse_time(end)) if start else (nan, nan)
                    box = parse_box(cells[: len(BOX)]) if len(more) > len(EXTRA) else NO_BOX
                    rows.append(
                        SplitRow(name, label, side, group, *times, subject, box, several)
                    )
    return rows


def read_split_names(path: Path) -> dict[str, str]:
    """The side, train or val, of each sample of a split.csv, by what it is called."""
    return {row.sample: row.side for row in read_split_rows(path)}


def _evaluations(folder: Path) -> list[Evaluation]:
    try:
        found = sorted(folder.glob("evaluation-*/metrics.json"))[:MOST_EVALUATIONS]
    except (OSError, ValueError):
        return []
    return [
        _evaluation(path.parent.name.removeprefix("evaluation-"), mapping(content))
        for path in sorted(found, key=lambda path: file_stamp(path) or (0, 0), reverse=True)
        if (content := read_json(path)) is not None
    ]


def _evaluation(name: str, content: dict[str, Any]) -> Evaluation:
    views = whole(content.get("temporal_views")), whole(content.get("spatial_crops"))
    numbers = {key: number(value) for key, value in content.items()}
    over_time = content.get("segments") is True
    return Evaluation(
        name,
        whole(content.get("epoch")),
        whole(content.get("files" if over_time else "videos")),
        whole(content.get("unreadable")) or 0,
        f"{views[0]} × {views[1]}" if None not in views else "",
        {key: value for key, value in numbers.items() if value is not None},
        _intervals(content.get("intervals")),
        over_time,
    )


def _intervals(value: Any) -> dict[str, tuple[float, float]]:
    return {name: found for name, one in mapping(value).items() if (found := pair(one)) is not None}


def versions(environment: Mapping[str, Any]) -> dict[str, str]:
    """The packages that were installed, by name."""
    return {
        str(name): str(version)
        for name, version in mapping(environment.get("versions")).items()
        if version is not None
    }


def command_words(environment: Mapping[str, Any]) -> list[str]:
    """The command that began (or last resumed) the run, as a shell would start it."""
    words = [str(word) for word in sequence(environment.get("command"))]
    if not words:
        return []
    program = words[0].replace("\\", "/")
    if program.endswith("slowfast_dist/__main__.py"):
        return ["python", "-m", "slowfast_dist", *words[1:]]
    return ["python", *words] if program.endswith(".py") else words
