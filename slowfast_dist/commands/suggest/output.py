"""The list of what to label next, as ``review --list`` reads it."""

import csv
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slowfast_dist.annotations.segments import seconds_text
from slowfast_dist.report.sections.listed import COLUMNS
from slowfast_dist.system.files import atomic_write


@dataclass(frozen=True)
class Suggestion:
    """A video, or its part from ``start`` to ``end`` in seconds (None: all of it); what a model
    predicts of it, a|b of several labels, with the probability of that, of several labels the least
    one, None where none is predicted; ``reason``: why it was chosen, for people."""

    path: str
    start: float | None
    end: float | None
    predicted: str
    probability: float | None
    reason: str

    @property
    def times(self) -> tuple[str, str]:
        """Both in text; empty for a whole video."""
        start, end = ("" if one is None else seconds_text(one, 3) for one in (self.start, self.end))
        return start, end

    @property
    def name(self) -> str:
        """For people."""
        return self.path if self.start is None else f"{self.path}@{'-'.join(self.times)}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def write_list(output: Path, chosen: Sequence[Suggestion]) -> None:
    """A row each, with absolute paths: the list may be moved. Raises OSError."""
    with atomic_write(output, "w") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for one in chosen:
            sure = "" if one.probability is None else f"{one.probability:.4f}"
            path = os.path.abspath(one.path)
            writer.writerow([path, "", *one.times, one.predicted, sure, one.reason])
