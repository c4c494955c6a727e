"""metrics.jsonl, the source of truth for everything drawn: its writer and its reader.

One process writes, the main one. Each write opens the file, appends whole lines and closes it, so
that a run that is killed leaves at most one torn line and a reader always sees the last epoch.
"""

import json
import math
from pathlib import Path
from typing import Any

from slowfast_dist.config.errors import UserError
from slowfast_dist.system.files import append, atomic_write
from slowfast_dist.system.parsing import parse_json

_ONCE_AN_EPOCH = ("epoch", "classes", "average")
"""Kinds of rows of which an epoch has one."""

AT_END = "test"
"""The kind of the one row that a training writes behind its last epoch."""

ON_WANDB = "wandb"
"""The kind of a row that says of which best model wandb has the curves and tables of the end."""


class MetricsFile:
    """metrics.jsonl: one JSON object a line, the source of truth for everything drawn."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, kind: str, **values: Any) -> dict[str, Any]:
        """Append {"kind": kind, **values} and return it as it was written.

        numpy and torch scalars become numbers; NaN and infinity, which JSON has not, null.
        """
        row = {"kind": kind} | {name: plain(value) for name, value in values.items()}
        with append(self.path) as file:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        return row

    def truncate_after(self, global_step: int, epochs_done: int | None = None) -> None:
        """Drop, atomically, the rows that a run resumed at ``global_step`` will write again.

        Those are the rows of later steps, the epoch and classes rows of epochs after
        ``epochs_done`` (a checkpoint of an epoch's last step may be older than that epoch's
        validation), the row at the end, and a torn last line. What says which curves are on wandb
        stays, as these do. A file that does not exist stays so.
        """
        if not self.path.exists():
            return
        lines = [
            line
            for line, row in _lines_and_rows(self.path)
            if row["kind"] == ON_WANDB  # where nothing can be taken back
            or (
                row["global_step"] <= global_step
                and row["kind"] != AT_END
                and (
                    row["kind"] not in _ONCE_AN_EPOCH
                    or epochs_done is None
                    or row["epoch"] <= epochs_done
                )
            )
        ]
        with atomic_write(self.path, "w") as file:
            file.writelines(line + "\n" for line in lines)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line that a crash cut short is left out.

    Raises UserError for another line that was not written so.
    """
    return [row for _, row in _lines_and_rows(path)]


def _lines_and_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [(line, _row(path, number, line)) for number, line in enumerate(lines[:-1], 1) if line]


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = parse_json(line)
        good = isinstance(row["kind"], str) and isinstance(row["global_step"], int)
        if good and (row["kind"] not in _ONCE_AN_EPOCH or isinstance(row["epoch"], int)):
            return dict(row)
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{path}, line {number}: is damaged; mend this line, or delete it")


def plain(value: Any) -> Any:
    """As JSON can hold it: a numpy or torch scalar as its number, NaN and infinity as None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
