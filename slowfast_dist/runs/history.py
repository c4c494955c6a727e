"""metrics.jsonl as a page needs it: quickly, and whatever happened to the file."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slowfast_dist.runs.reading import mapping, number, sequence, whole

MOST_LINE = 64 * 1024**2
"""Bytes of a line; a confusion matrix of 2,000 classes has a quarter of that."""

MOST_CLASS_EPOCHS = 48
"""Epochs at most of which the scores of single classes are kept."""

_CONFUSION = b', "confusion": '
"""Where a row of kind "classes" goes on with what costs most to parse. It stands in no name, where
quotes have a backslash before them."""

MOST_STEPS = 400
"""Step rows that are parsed: a chart shows no more."""

_START = re.compile(rb'\{"kind": "(\w+)"(?:, "epoch": (\d{1,9})[,}])?')
"""How every line begins that this package wrote. Lines that are not needed are not parsed: at 400
classes a row of kind "classes" has half a megabyte."""

Row = dict[str, Any]

Point = tuple[float, float | None]
"""Place and value; None where there is none."""


@dataclass
class History:
    """The rows of a run. ``epochs`` are in order, one each."""

    epochs: list[Row] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)
    """Only while no epoch is complete; thinned out."""
    last_step: int | None = None
    """Optimizer steps done, as far as written."""
    confusion: list[Any] | None = None
    """Of the best epoch, else of the last one that was validated; (K, K) where it is well."""
    confusion_epoch: int | None = None
    class_f1: dict[str, list[Point]] = field(default_factory=dict)
    """(epoch, F1) of each class that has validation videos, in order; of many epochs some."""
    damaged: int = 0
    """Lines that were not written so; a torn last one is none of them."""

    @property
    def best(self) -> Row | None:
        """The row of the best epoch: the last that was called so."""
        return next((row for row in reversed(self.epochs) if row.get("best") is True), None)

    def value(self, name: str) -> float | None:
        """The last number of that name."""
        values = (number(row.get(name)) for row in reversed(self.epochs))
        return next((value for value in values if value is not None), None)

    def points(self, name: str) -> list[tuple[float, float | None]]:
        """(epoch, value) of each row that has ``name``; None where it is no number."""
        return [(row["epoch"], number(row[name])) for row in self.epochs if name in row]

    def total(self, name: str) -> float:
        """The sum over the epochs."""
        return sum(number(row.get(name)) or 0.0 for row in self.epochs)


def read_history(path: Path) -> History:
    """Read a metrics.jsonl; an empty History where there is none."""
    history, epochs = History(), dict[int, Row]()
    steps: list[bytes] = []
    scores = _Thinned()
    classes: dict[str, bytes] = {}
    best: int | None = None
    for line in _lines(path):
        start = _START.match(line)
        kind = start[1] if start else None
        if kind == b"classes" and start is not None and start[2]:
            classes["best" if int(start[2]) == best else "last"] = line
            scores.add(line)
        elif kind == b"step":
            if epochs:
                steps = [line]
            else:
                steps.append(line)
        elif kind != b"checkpoint" and line != b"\n":
            row = _parsed(line)
            if row is None:
                history.damaged += 1
            elif row.get("kind") == "epoch" and (epoch := whole(row.get("epoch"))) is not None:
                epochs[epoch] = row
                best = epoch if row.get("best") is True else best
    history.epochs = [epochs[epoch] for epoch in sorted(epochs)]
    _read_steps(history, steps)
    history.class_f1 = _class_f1(scores.lines)
    for raw in (classes.get("best"), classes.get("last")):
        row = None if raw is None else _parsed(raw)
        if row is not None and isinstance(row.get("confusion"), list):
            history.confusion, history.confusion_epoch = row["confusion"], whole(row.get("epoch"))
            break
    return history


class _Thinned:
    """Of the rows of kind "classes", the scores, no matrix: of all or evenly of some, and the last.
    """

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.last, self.count, self.stride = b"", 0, 1

    def add(self, line: bytes) -> None:
        scores, comma, _ = line.partition(_CONFUSION)
        self.last = scores + b"}" if comma else line
        if self.count % self.stride == 0:
            self.kept.append(self.last)
        if len(self.kept) >= MOST_CLASS_EPOCHS:
            self.kept, self.stride = self.kept[::2], 2 * self.stride
        self.count += 1

    @property
    def lines(self) -> list[bytes]:
        return self.kept if self.kept[-1:] == [self.last] else [*self.kept, self.last]


def _class_f1(lines: list[bytes]) -> dict[str, list[Point]]:
    epochs: dict[int, dict[str, float | None]] = {}
    for line in lines:
        row = _parsed(line) or {}
        if (epoch := whole(row.get("epoch"))) is not None:
            epochs[epoch] = {
                str(one.get("class")): number(one.get("f1"))
                for one in map(mapping, sequence(row.get("per_class")))
                if one.get("support")
            }
    found: dict[str, list[Point]] = {}
    for epoch in sorted(epochs):
        for name, value in epochs[epoch].items():
            found.setdefault(name, []).append((epoch, value))
    return found


def _lines(path: Path) -> Iterator[bytes]:
    """The whole lines; not a last one that a crash has torn, or that is just being written."""
    try:
        if not path.is_file():
            return
        with open(path, "rb") as file:
            while (line := file.readline(MOST_LINE)).endswith(b"\n"):
                yield line
    except (OSError, ValueError):
        return


def _read_steps(history: History, lines: list[bytes]) -> None:
    stride = -(-len(lines) // MOST_STEPS)
    kept = lines[:: stride or 1] + (lines[-1:] if stride > 1 else [])
    rows = [row for line in kept if (row := _parsed(line)) is not None]
    if rows:
        history.last_step = whole(rows[-1].get("global_step"))
    if not history.epochs:
        history.steps = [row for row in rows if whole(row.get("global_step")) is not None]


def _parsed(line: bytes) -> Row | None:
    try:
        row = mapping(json.loads(line))
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row.get("kind"), str) else None
