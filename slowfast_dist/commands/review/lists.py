"""Samples from a list: an annotation file, whatever else it has in its columns, or the lines of
``predict --json``.
"""

import json
import os
from collections.abc import Iterator
from math import log
from pathlib import Path
from typing import Any

from slowfast_dist.annotations.columns import Columns, plain_name
from slowfast_dist.annotations.segments import BOX, NO_BOX, box_cells
from slowfast_dist.annotations.table import Row, Table, names_columns
from slowfast_dist.commands.review.samples import Sample, Source
from slowfast_dist.config.errors import UserError
from slowfast_dist.metrics.cells import SEPARATOR, parted
from slowfast_dist.report.sections.wrong_list import NEAREST
from slowfast_dist.system.log import logger
from slowfast_dist.system.parsing import parse_json

PREDICTED = ("suggested", "prediction", "predictions")
PROBABILITY = ("probability", "confidence")
LABEL_PROBABILITY = "label_probability"
REASON = "reason"
KNOWN = {*PREDICTED, *PROBABILITY, LABEL_PROBABILITY, REASON, *NEAREST}
"""Columns that a list may have beside those of an annotation file: what a model says, how sure it
is of that, or of the label where nothing is suggested, why the row is there, and how its nearest
clips are labelled, which the reason says as well."""

LEAST = 1e-12
"""In place of a probability of 0 where its logarithm is taken."""


class ReviewedTable(Table):
    """An annotation file whose rows need no label; ``more``: of each row, by its line, what it has
    in columns that only a review knows."""

    def __init__(self, path: Path, flag: str) -> None:
        super().__init__(path, flag, several=None)
        self.more: dict[int, dict[str, str]] = {}

    def _row(self, row: list[str], columns: Columns, line: int) -> Row:
        found = {plain_name(name): row[number] for number, name in columns.unused.items()}
        self.more[line] = {name: cell for name, cell in found.items() if cell and name in KNOWN}
        read = super()._row(row, columns, line)
        self._empty = None
        return read

    def unused(self) -> list[str]:
        return [name for name in self._unused if plain_name(name) not in KNOWN]


def read_list(path: Path, root: Path | None, flag: str) -> Source:
    """The samples of a list; ``root``: where relative paths start, None: its own folder, or for
    paths of `predict` the one that all are in. Raises UserError for what is no such list."""
    if not path.is_file():
        raise UserError(f"--{flag} {path}: there is no such file")
    if names_columns(path):
        return _of_table(path, path.parent if root is None else root, flag)
    if found := list(_of_predict(path, flag)):
        return _below_one(found, root)
    raise UserError(
        f"--{flag} {path}: no list with columns path,label and no output of predict --json: make "
        "one of another tool's file with: python -m slowfast_dist import"
    )


def _of_table(path: Path, root: Path, flag: str) -> Source:
    table = ReviewedTable(path, flag)
    rows = list(table)
    said = {name for more in table.more.values() for name in more}
    samples = [_sample(row, table) for row in rows]
    source = Source(root, samples, [], table.has_several, table.names_all)
    if unused := table.unused():
        names = ", ".join(unused[:6])
        source.notes.append(f"{path}: not used, and not in the new list: columns {names}")
    if {*PREDICTED, REASON} & said:
        source.order = "suggested"
    elif {*PROBABILITY, LABEL_PROBABILITY} & said:
        source.order = "hardest"
    return source


def _sample(row: Row, table: ReviewedTable) -> Sample:
    more = table.more[row.line]
    cells = {"split": row.side or "", "group": row.group, "subject": row.subject}
    if row.box is not NO_BOX:
        cells |= dict(zip(BOX, box_cells(row.box), strict=True))
    if row.weight != 1:
        cells["weight"] = f"{row.weight:.10g}"
    labels = tuple(parted(row.label)) if row.label or table.names_all else None
    predicted = next((more[name] for name in PREDICTED if name in more), "")
    given = [_probability(more[name], table, row) for name in PROBABILITY if name in more]
    of_label = more.get(LABEL_PROBABILITY)
    label_probability = None if of_label is None else _probability(of_label, table, row)
    probability = given[0] if given else None
    if label_probability is None and labels is not None and predicted in ("", row.label):
        label_probability = probability
    told = probability if label_probability is None else label_probability
    return Sample(
        row.path, labels, row.start, row.end, {name: cell for name, cell in cells.items() if cell},
        predicted, probability, label_probability,
        None if told is None else -log(max(told, LEAST)), more.get(REASON, ""),
    )  # fmt: skip


def _probability(cell: str, table: ReviewedTable, row: Row) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise table.wrong(f"probability {cell[:40]!r}: give a number from 0 to 1", row.line)
    return value


# --- what predict printed -------------------------------------------------------------------------


def _of_predict(path: Path, flag: str) -> Iterator[Sample]:
    """The videos of the lines of ``predict --json``, or the parts that --segments cut them into;
    nothing where there is another line. Videos that could not be read are left out, and said."""
    left = 0
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        answers = [parse_json(line) for line in text.splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f"--{flag} {path}: cannot be read ({error.strerror})") from None
    except ValueError:
        return
    if not all(isinstance(one, dict) and isinstance(one.get("path"), str) for one in answers):
        return
    for answer in answers:
        left += "error" in answer
        yield from _parts(answer)
    if left:
        logger.warning(f"{path}: {left} videos that predict could not read are left out")


def _parts(answer: dict[str, Any]) -> Iterator[Sample]:
    path = os.path.abspath(answer["path"])
    if "error" in answer:
        return
    for segment in answer.get("segments") or ():
        sure = float(segment["confidence"])
        yield Sample(
            path, None, float(segment["start"]), float(segment["end"]),
            predicted=str(segment["class"]), probability=sure, hardness=-log(max(sure, LEAST)),
        )  # fmt: skip
    if answer.get("segments"):
        return
    if "predictions" in answer:
        said = answer["predictions"]
        names = SEPARATOR.join(sorted(str(one["class"]) for one in said))
        values = [float(one["probability"]) for one in said]
        yield Sample(path, None, predicted=names, probability=min(values, default=None))
        return
    sure = float(answer.get("confidence", 0.0))
    yield Sample(
        path, None, predicted=str(answer.get("prediction", "")), probability=sure,
        hardness=-log(max(sure, LEAST)),
    )  # fmt: skip


def _below_one(samples: list[Sample], root: Path | None) -> Source:
    """With their paths below ``root``, or the folder that all lie in."""
    paths = [one.path for one in samples]
    if root is None:
        root = Path(os.path.commonpath([os.path.dirname(path) for path in paths]))
    start = os.path.join(os.path.abspath(root), "")
    placed = [
        Sample(**{**one.__dict__, "path": one.path.removeprefix(start)}) for one in samples
    ]
    hard = all(one.hardness is not None for one in samples)
    return Source(root, placed, [], order="hardest" if hard else "path")


def as_json_line(value: dict[str, Any]) -> str:
    """In ASCII: a path may hold any bytes."""
    return json.dumps(value, allow_nan=False) + "\n"
