"""wrong_labels.csv: labels in doubt as an annotation file, which review and training take."""

import csv
import os
from collections.abc import Sequence
from math import nan
from pathlib import Path

from slowfast_dist.annotations.segments import (
    BOX,
    NO_BOX,
    box_cells,
    parse_sample_box,
    parse_sample_name,
    seconds_text,
)
from slowfast_dist.metrics.wrong_labels import Doubt
from slowfast_dist.report.sections.listed import COLUMNS
from slowfast_dist.runs.run import read_split_rows
from slowfast_dist.runs.videos import is_below, root_of
from slowfast_dist.system.files import atomic_write
from slowfast_dist.system.text import unwritable

WRONG_LABELS = "wrong_labels.csv"
"""In the folder of the run, or of the cross-validation, whose predictions doubt them."""

LABEL_PROBABILITY = "label_probability"
"""A column behind those of suggested.csv, by which ``review --order wrong`` sorts as the page."""

HEADER = (*COLUMNS, LABEL_PROBABILITY)
"""Of all lists, with BOX behind it where a video has a region of interest, and NEAREST where
neighbours are known. Its file is ours."""

NEAREST = ("nearest", "nearest_suggested", "nearest_label")
"""Columns at the end: of how many nearest clips the labels were asked, and how many of them have
the suggested class, and the label."""

BY_VALIDATION, BY_FOLDS = "the model (validation alone)", "a model that never saw it (folds)"
"""Whose judgement it is, for people."""


def write_wrong_labels(
    folder: Path, run: Path, doubts: Sequence[Doubt], by: str, root: Path | None = None
) -> None:
    """Put all ``doubts`` into ``folder``, in their order, in place of those of an earlier
    judgement; without any nothing is left there. ``root``: the folder of the videos, None: what the
    files of ``run`` tell. Where they do not, or a name leads elsewhere or is none that a list can
    hold, there is no row. ``by``: BY_VALIDATION or BY_FOLDS. Another's file of that name stays.
    Raises OSError."""
    output = folder / WRONG_LABELS
    if os.path.lexists(output) and not _is_ours(output):
        return
    root = root_of(run) if doubts and root is None else root
    rows = [] if root is None else _rows(run, root, doubts, by)
    if not rows:
        output.unlink(missing_ok=True)
        return
    columns: tuple[str, ...] = (*HEADER, *BOX, *NEAREST)
    for optional in (BOX, NEAREST):
        places = [columns.index(name) for name in optional]
        if not any(row[place] for row in rows for place in places):
            first = places[0]
            columns = columns[:first] + columns[first + len(optional) :]
            rows = [row[:first] + row[first + len(optional) :] for row in rows]
    with atomic_write(output, "w") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(",".join(HEADER))) == ",".join(HEADER).encode()


def _rows(run: Path, root: Path, doubts: Sequence[Doubt], by: str) -> list[tuple[str, ...]]:
    """With absolute paths, as those of suggested.csv: a list may be moved."""
    names = {one.path for one in doubts}
    known = {
        row.sample: row for row in read_split_rows(run / "split.csv") if row.sample in names
    }
    rows = list[tuple[str, ...]]()
    for one in doubts:
        if (row := known.get(one.path)) is not None:
            path, start, end, box = row.path, row.start, row.end, row.box
        elif os.path.lexists(root / one.path):  # whatever its name looks like
            path, start, end, box = one.path, nan, nan, NO_BOX
        else:
            path, start, end = parse_sample_name(one.path)
            box = parse_sample_box(one.path)[1]
        texts = (path, one.label, one.probable)
        if any(map(unwritable, texts)) or not is_below(root, path, follow=True):
            continue
        reason = (
            f"{by} is at least as sure of it as of that class's own videos; the label has "
            f"{one.label_probability:.1%}"
        )
        near = ("", "", "")
        if one.nearest:
            reason = f"{reason}; {one.nearest_words}"
            near = str(one.nearest), str(one.nearest_probable), str(one.nearest_label)
        rows.append((
            os.path.abspath(root / path), one.label, seconds_text(start), seconds_text(end),
            one.probable, f"{one.probability:.4f}", reason, f"{one.label_probability:.4f}",
            *box_cells(box), *near,
        ))  # fmt: skip
    return rows
