"""Write rows as our own list: a CSV of path,label,start,end,... or JSON lines of the same keys."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from slowfast_dist.annotations.importing.columns import Columns
from slowfast_dist.annotations.importing.conversion import Table
from slowfast_dist.annotations.importing.rows import Notes
from slowfast_dist.annotations.segments import seconds_text
from slowfast_dist.system.files import atomic_write

LEFT_OUT = "annotations.dropped.csv"
"""The file in a command's output that lists the rows which an import on the way dropped or changed.
"""

LINES_SUFFIX = ".jsonl"
"""Ending of JSON lines; all others get a CSV."""


def seconds(value: float) -> str:
    """To a microsecond, with three digits behind the point at least, as annotation tools write;
    NaN is empty."""
    return seconds_text(value, 3)


def write_rows(
    path: Path, columns: Columns, table: Table, spelled: Callable[[str], str]
) -> None:
    """Write the rows of ``table``; ``spelled`` gives the path that a video has in the list. Columns
    that nothing fills are left out. Raises OSError."""
    rows = table.rows
    used: dict[str, tuple[Any, list[str]]] = {
        "path": (columns.codes("video")[rows], [spelled(name) for name in columns.videos.texts]),
        "label": (columns.codes("label")[rows], columns.labels.texts),
    }
    timed = not bool(np.isnan(table.start).all())
    for name, words in (
        ("split", columns.splits), ("group", columns.groups), ("subject", columns.subjects),
    ):  # fmt: skip
        codes = columns.codes(name)[rows]
        if codes.any() and (name != "split" or table.split):
            used[name] = (codes, words.texts)
    names = [*list(used)[:2], *(["start", "end"] if timed else []), *list(used)[2:]]

    def cells() -> Iterator[list[str]]:
        starts, ends = table.start.tolist(), table.end.tolist()
        codes = {name: column.tolist() for name, (column, _) in used.items()}
        texts = {name: text for name, (_, text) in used.items()}
        others = [(codes[name], texts[name]) for name in names[4 if timed else 2:]]
        paths, labels = codes["path"], codes["label"]
        path_texts, label_texts = texts["path"], texts["label"]
        for row in range(len(rows)):
            cell = [path_texts[paths[row]], label_texts[labels[row]]]
            if timed:
                cell += [seconds(starts[row]), seconds(ends[row])]
            yield cell + [text[column[row]] for column, text in others]

    with atomic_write(path, "w", errors="surrogateescape") as file:
        if path.suffix.lower() == LINES_SUFFIX:
            for row in cells():
                pairs = zip(names, row, strict=True)
                times = ("start", "end")
                entry = {name: float(cell) if name in times else cell
                         for name, cell in pairs if cell}  # fmt: skip
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        else:
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows(cells())


def left_out(several: Iterable[Notes]) -> Iterator[str]:
    """The list of the rows that imports dropped or changed, and why, a CSV in pieces; nothing where
    there are none."""
    lists = [notes for notes in several if notes.count()]
    for number, notes in enumerate(lists):
        yield from notes.listed(header=not number)


def write_left_out(path: Path, pieces: Iterable[str]) -> None:
    """Write such a list; without any, what an earlier import listed there is deleted. Raises
    OSError."""
    rest = iter(pieces)
    if not (first := next(rest, "")):
        path.unlink(missing_ok=True)
        return
    with atomic_write(path, "w") as file:
        file.write(first)
        file.writelines(rest)
