"""metrics.jsonl as a page needs it, whatever happened to the file.

Parsing costs 8 ms for each validation of 400 classes, whose confusion matrix has half a megabyte.
So a `History` knows how far it was read: one that was kept in the report's cache parses only the
lines that were written since.
"""

import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from slowfast_dist.runs.reading import mapping, number, sequence, whole
from slowfast_dist.system.parsing import parse_json

MOST_LINE = 64 * 1024**2
"""Bytes of the longest line that is read; a confusion matrix of 2,000 classes has a quarter."""

MOST_CLASS_EPOCHS = 48
"""Epochs at most of which the scores of single classes are remembered: as many as the small chart
of a class can show apart."""

Row = dict[str, Any]

Point = tuple[float, float | None]
"""Place and value; None where there is none."""


@dataclass
class History:
    """The rows of a run, in JSON's types but for the points of ``class_f1``."""

    epochs: list[Row] = field(default_factory=list)
    """In order, one each."""
    steps: list[Row] = field(default_factory=list)
    """Only while no epoch is complete."""
    average: Row | None = None
    """That of the weights of several epochs, where one was the best."""
    confusion: list[Any] | None = None
    """Of the best epoch, else of the last one that was validated; (K, K) where it is well."""
    confusion_epoch: int | None = None
    class_f1: dict[str, list[Point]] = field(default_factory=dict)
    """(epoch, F1) of each class that has validation videos, in order; of many epochs some."""
    class_epochs: list[int] = field(default_factory=list)
    """The epochs in ``class_f1``: every ``stride``-th of the ``validations``, and the last."""
    stride: int = 1
    validations: int = 0
    damaged: int = 0
    """Lines that were not written so; a torn last one is none of them."""
    read_bytes: int = 0
    """Where the next line begins."""
    checksum: int = 0
    """CRC-32 of the bytes before it."""

    @property
    def best(self) -> Row | None:
        """The row of the best epoch: the last that was called so. Where an average of epochs was,
        that of its last epoch with the validation of the average."""
        best = next((row for row in reversed(self.epochs) if row.get("best") is True), None)
        average = self.average
        if not average or (best and best["epoch"] > average["epoch"]):
            return best
        of_last = (row for row in self.epochs if row["epoch"] == average["epoch"])
        return {**next(of_last, {}), **average}

    def value(self, name: str) -> float | None:
        """The last number of that name."""
        values = (number(row.get(name)) for row in reversed(self.epochs))
        return next((value for value in values if value is not None), None)

    def points(self, name: str) -> list[Point]:
        """(epoch, value) of each row that has ``name``; None where it is no number."""
        return [(row["epoch"], number(row[name])) for row in self.epochs if name in row]

    def total(self, name: str) -> float:
        """The sum over the epochs."""
        return sum(number(row.get(name)) or 0.0 for row in self.epochs)

    def add(self, line: bytes) -> None:
        """Take in the next line of the file, with its line feed."""
        self.read_bytes += len(line)
        self.checksum = zlib.crc32(line, self.checksum)
        if line == b"\n":
            return
        try:
            row = mapping(parse_json(line))
        except ValueError:
            row = {}
        kind, epoch = row.get("kind"), whole(row.get("epoch"))
        if not isinstance(kind, str):
            self.damaged += 1
        elif kind == "epoch" and epoch is not None:
            self._add_epoch(epoch, row)
        elif kind == "average" and epoch is not None:
            self.average = row if row.get("best") is True else self.average
        elif kind == "classes" and epoch is not None:
            self._add_classes(epoch, row)
        elif kind == "step" and not self.epochs and whole(row.get("global_step")) is not None:
            self.steps.append(row)

    def _add_epoch(self, epoch: int, row: Row) -> None:
        self.steps = []
        if self.epochs and epoch <= self.epochs[-1]["epoch"]:  # a file put together
            self.epochs = [old for old in self.epochs if old["epoch"] != epoch]
        self.epochs.append(row)
        self.epochs.sort(key=lambda one: one["epoch"])

    def _add_classes(self, epoch: int, row: Row) -> None:
        best = self.best["epoch"] if self.best else None
        if isinstance(row.get("confusion"), list) and (
            epoch == best or self.confusion_epoch != best
        ):
            self.confusion, self.confusion_epoch = row["confusion"], epoch
        if self.validations and (self.validations - 1) % self.stride:
            self._forget({self.class_epochs[-1]})  # it was there for being the last
        self.validations += 1
        if epoch in self.class_epochs:
            self._forget({epoch})
        self.class_epochs.append(epoch)
        for one in map(mapping, sequence(row.get("per_class"))):
            if one.get("support"):
                point = (epoch, number(one.get("f1")))
                self.class_f1.setdefault(str(one.get("class")), []).append(point)
        if len(self.class_epochs) > MOST_CLASS_EPOCHS:
            self._forget(set(self.class_epochs[1::2]))
            self.stride *= 2

    def _forget(self, epochs: set[int]) -> None:
        """Take the scores of classes in these epochs out."""
        self.class_epochs = [epoch for epoch in self.class_epochs if epoch not in epochs]
        for name, points in self.class_f1.items():
            self.class_f1[name] = [point for point in points if point[0] not in epochs]


def read_history(path: Path, known: History | None = None) -> History:
    """Read a metrics.jsonl; an empty History where there is none.

    ``known``: what an earlier call found. Where the file still begins with all that was read then,
    that is gone on with; after a resume, say, which takes rows back, it is read from the start.
    """
    history = History()
    with suppress(OSError, ValueError):
        if path.is_file():
            with open(path, "rb") as file:
                if known is not None and _begins_as(file, known):
                    history = known
                file.seek(history.read_bytes)
                # Not a last line that a crash has torn, or that is just being written.
                while (line := file.readline(MOST_LINE)).endswith(b"\n"):
                    history.add(line)
    return history


def _begins_as(file: BinaryIO, known: History) -> bool:
    checksum, left = 0, known.read_bytes
    while left and (block := file.read(min(left, 1024**2))):
        checksum, left = zlib.crc32(block, checksum), left - len(block)
    return not left and checksum == known.checksum
