"""predictions/val_best.csv, and beside it which of its videos are near each other: writers and
readers."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from io import StringIO
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.segments import (
    BOX,
    EXTRA,
    NO_BOX,
    extra_columns,
    parse_box,
    sample_name,
)
from slowfast_dist.metrics.cells import parted
from slowfast_dist.metrics.features.neighbours import MOST_NEIGHBOURS
from slowfast_dist.metrics.summary import Predictions
from slowfast_dist.metrics.task import ONE_LABEL, Task
from slowfast_dist.runs.reading import mapping, read_json
from slowfast_dist.system.files import atomic_write
from slowfast_dist.system.text import for_spreadsheets

ONE = ["path", "label", "prediction"]
SEVERAL = ["path", "labels", "predictions"]
"""The first columns: with one label a sample, and with several."""


def write_predictions(
    path: Path,
    names: Sequence[str],
    labels: NDArray[Any],
    logits: NDArray[Any],
    classes: Sequence[str],
    extra: Sequence[tuple[str, ...]] | None = None,
    safe: bool = False,
    task: Task = ONE_LABEL,
) -> None:
    """Write, atomically, a CSV of path,label,prediction,prob_<class>...: one row a sample. Of
    several labels a sample the columns are labels and predictions, any number in a cell.

    ``names`` are the paths below the data's root, ``labels`` (N,) or (N, K), ``logits`` (N, K);
    ``extra``: of parts of videos start, end and subject, and perhaps x, y, w and h of a region of
    interest, columns behind the prediction. The probabilities have all their digits: metrics and
    loss computed again from them agree to 1e-9. ``safe``: for spreadsheets, as `for_spreadsheets`
    has it; `read_predictions` is for the others.
    """
    columns = () if extra is None else extra_columns(extra) or EXTRA
    kind = SEVERAL if task.several else ONE
    header = [*kind, *columns, *(f"prob_{name}" for name in classes)]
    if safe:
        names, classes = [list(map(for_spreadsheets, texts)) for texts in (names, classes)]
    told = Predictions.from_logits(names, labels, logits, classes, task)
    # Paths that are not valid UTF-8 come as surrogates and go back to the bytes that they were.
    with atomic_write(path, "w", "surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        cells: Sequence[tuple[str, ...]] = [()] * len(names) if extra is None else extra
        rows = zip(names, labels, told.predicted, cells, told.probabilities, strict=True)
        for name, label, prediction, more, row in rows:
            said = told.cell(label), told.cell(prediction)
            writer.writerow([name, *said, *more, *row.tolist()])


def read_predictions(path: Path) -> Predictions:
    """Read a CSV that `write_predictions` wrote; parts of videos are called path@start-end.

    Raises OSError where it cannot be read, ValueError where it is no such file.
    """
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    try:
        header, *rows = csv.reader(StringIO(text, newline=""), strict=True)
        if header[:3] not in (ONE, SEVERAL):
            raise ValueError("its columns are not path,label,prediction,prob_...")
        extra: tuple[str, ...] = (*EXTRA, *BOX)
        if tuple(header[3 : 3 + len(extra)]) != extra:
            extra = EXTRA if tuple(header[3 : 3 + len(EXTRA)]) == EXTRA else ()
        first = 3 + len(extra)
        classes = [name.removeprefix("prob_") for name in header[first:]]
        numbers = {name: index for index, name in enumerate(classes)}
        shape = len(rows), len(classes)
        probabilities = np.array([row[first:] for row in rows], np.float64).reshape(shape)
        names = [row[0] if first == 3 else _sample(row[0], *row[3:first]) for row in rows]
        if header[:3] == SEVERAL:
            flags, decided = (_flags([row[column] for row in rows], numbers) for column in (1, 2))
            return Predictions.of_several(names, flags, probabilities, decided, classes)
        labels = np.array([numbers[row[1]] for row in rows], np.int64)
    except (csv.Error, KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{path}: is damaged ({error})") from None
    return Predictions.from_probabilities(names, labels, probabilities, classes)


def _flags(cells: Sequence[str], numbers: Mapping[str, int]) -> NDArray[np.bool_]:
    """(N, K). Raises KeyError for a class that is none."""
    flags = np.zeros((len(cells), len(numbers)), np.bool_)
    for row, cell in enumerate(cells):
        flags[row, [numbers[name] for name in parted(cell)]] = True
    return flags


def _sample(path: str, start: str, end: str, _subject: str, *box: str) -> str:
    """Raises ValueError for times or a region of interest that are none."""
    bounds = (float(start), float(end)) if start else (nan, nan)
    return sample_name(path, *bounds, parse_box(box) if box else NO_BOX)


def find_predictions(path: Path) -> Predictions | None:
    """As `read_predictions`; None where there is no file, it is damaged, or says nothing: it has no
    video, or probabilities that are no numbers."""
    try:
        found = read_predictions(path) if path.is_file() else None
    except (OSError, ValueError):
        return None
    if not found or not len(found.labels) or not np.isfinite(found.probabilities).all():
        return None
    return with_neighbours(path, found)


def neighbours_of(path: Path) -> Path:
    """Where the neighbours of the predictions at ``path`` are: val_best_neighbours.json."""
    return path.with_name(f"{path.stem}_neighbours.json")


def write_neighbours(
    path: Path, probabilities: NDArray[np.float64], nearest: NDArray[np.int64]
) -> None:
    """Write, atomically, for the predictions at ``path``, which may come after it, the rows that
    are ``nearest`` to each, (N, n) with -1 where there are no more. ``probabilities`` (N, K): those
    of the predictions, which it belongs to and to no others. Raises OSError."""
    rows = [[one for one in row if one >= 0] for row in nearest.tolist()]
    content = {"predictions": _digest(probabilities), "nearest": rows}
    with atomic_write(neighbours_of(path), "w") as file:
        json.dump(content, file, separators=(",", ":"))  # a line: a number a line is long


def with_neighbours(path: Path, found: Predictions) -> Predictions:
    """``found``, the predictions at ``path``, with what is beside them of their neighbours, where
    that is of the same predictions."""
    told = mapping(read_json(neighbours_of(path)))
    rows, count = told.get("nearest"), len(found.labels)
    if told.get("predictions") != _digest(found.probabilities) or not isinstance(rows, list):
        return found
    if len(rows) != count or not all(
        isinstance(row, list) and len(row) <= MOST_NEIGHBOURS
        and all(type(one) is int and 0 <= one < count for one in row) for row in rows
    ):  # fmt: skip
        return found
    nearest = np.full((count, MOST_NEIGHBOURS), -1, np.int64)
    for place, row in enumerate(rows):
        nearest[place, : len(row)] = row
    return replace(found, nearest=nearest)


def _digest(probabilities: NDArray[np.float64]) -> str:
    """SHA-256 of what a file holds with all its digits."""
    return sha256(np.ascontiguousarray(probabilities, np.float64).tobytes()).hexdigest()
