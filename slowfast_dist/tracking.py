"""What a run writes about itself as text: metrics.jsonl, the files of logs/, predictions.

One process writes, the main one. Each write opens the file, appends whole lines and closes it, so
that a run that is killed leaves at most one torn line and a reader always sees the last epoch.
"""

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO, TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config import UserError
from slowfast_dist.files import append, atomic_write
from slowfast_dist.metrics import predicted, softmax

_ONCE_AN_EPOCH = ("epoch", "classes")  # kinds of rows


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
        validation) and a torn last line. A file that does not exist stays so.
        """
        if not self.path.exists():
            return
        kept = [
            line
            for line, row in _lines_and_rows(self.path)
            if row["global_step"] <= global_step
            and (
                row["kind"] not in _ONCE_AN_EPOCH
                or epochs_done is None
                or row["epoch"] <= epochs_done
            )
        ]
        with atomic_write(self.path, "w") as file:
            file.writelines(line + "\n" for line in kept)


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
        row = json.loads(line)
        good = isinstance(row["kind"], str) and isinstance(row["global_step"], int)
        if good and (row["kind"] not in _ONCE_AN_EPOCH or isinstance(row["epoch"], int)):
            return dict(row)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UserError(f"{path}, line {number}: is damaged; mend this line, or delete it")


def plain(value: Any) -> Any:
    """As JSON can hold it: a numpy or torch scalar as its number, NaN and infinity as None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


class TrainingLog:
    """logs/training_log.txt: for people, the lines an epoch that the original script wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, *lines: str) -> None:
        """Append lines; a resumed run goes on below those of the run before it."""
        with append(self.path, "backslashreplace") as file:
            file.writelines(line + "\n" for line in lines)

    def epoch(self, row: Mapping[str, Any], epochs: int, saved: Path | None = None) -> None:
        """Append an epoch's row of metrics.jsonl; ``saved`` is the model file it made, if any.

        Precision, recall and F1 are the macro ones; the weighted ones have a line of their own.
        """
        lines = [f"Epoch {row['epoch']}/{epochs}", *_score_lines("Train", row)]
        lines += _score_lines("Val", row)
        lines.append(
            f"Gradient Norm: {_number(row.get('grad_norm'))} | "
            f"Learning Rate: {_number(row.get('lr'), '.3e')}"
        )
        if saved is not None:
            lines.append(f"Model saved to {saved}")
        lines.append(f"Epoch Time: {_number(row.get('epoch_seconds'), '.1f')} seconds")
        self.write(*lines, "")

    def finish(self, seconds: float) -> None:
        """Append the total time, given in seconds and written in minutes."""
        self.write(f"Total Training Time: {seconds / 60:.2f} minutes")


class SampleLog:
    """logs/samples.csv: which sample each optimizer step used, and which video was read for it.

    Rows of global_step,sample,video, sorted by step and sample; both are paths below the data's
    root, ``names`` by index, and differ only where a video that fails to decode was replaced.
    """

    header = ("global_step", "sample", "video")

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path, self.names = path, names

    def epoch(self, rows: NDArray[np.int64]) -> None:
        """Append an epoch's rows (N, 6), in any order and as in training_state.EpochSums."""
        samples, videos, steps = rows[:, 0], rows[:, 1], rows[:, 5]
        order = np.lexsort((samples, steps))
        with append(self.path, "surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not file.tell():
                writer.writerow(self.header)
            for row in order:
                writer.writerow((steps[row], self.names[samples[row]], self.names[videos[row]]))
            file.flush()
            os.fsync(file.fileno())

    def truncate_after(self, global_step: int) -> None:
        """Drop, atomically, the rows of later steps and what a crash left torn behind them.

        A file that does not exist stays so.
        """
        if not self.path.exists():
            return
        with (
            open(self.path, encoding="utf-8", errors="surrogateescape", newline="") as old,
            atomic_write(self.path) as file,
        ):
            text = TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(self.header)
            for row in islice(_readable_rows(old), 1, None):
                # A step is whole where something stands behind it; later ones are dropped anyway.
                if len(row) < 2 or not row[0].isdecimal() or int(row[0][:18]) > global_step:
                    break
                writer.writerow(row)
            text.flush()
            text.detach()


def _readable_rows(file: Iterable[str]) -> Iterator[list[str]]:
    """Those of a CSV before its first damage."""
    with suppress(csv.Error):
        yield from csv.reader(file)


def _score_lines(title: str, row: Mapping[str, Any]) -> list[str]:
    """Two lines for train or val, none where the row has no such metrics (no validation then)."""
    prefix = title.lower()
    if f"{prefix}/accuracy" not in row:
        return []
    macro = [f"{title} Loss: {_number(row.get(f'{prefix}/loss'))}"]
    macro.append(f"Accuracy: {_number(row[f'{prefix}/accuracy'])}")
    if f"{prefix}/top5_accuracy" in row:
        macro.append(f"Top-5 Accuracy: {_number(row[f'{prefix}/top5_accuracy'])}")
    weighted = []
    for score in ("Precision", "Recall", "F1"):
        macro.append(f"{score}: {_number(row.get(f'{prefix}/{score.lower()}_macro'))}")
        weighted.append(f"{score}: {_number(row.get(f'{prefix}/{score.lower()}_weighted'))}")
    return [" | ".join(macro), f"{title} Weighted " + " | ".join(weighted)]


def _number(value: float | None, form: str = ".4f") -> str:
    return "nan" if value is None else format(value, form)


def write_predictions(
    path: Path,
    names: Sequence[str],
    labels: NDArray[Any],
    logits: NDArray[Any],
    classes: Sequence[str],
) -> None:
    """Write, atomically, a CSV of path,label,prediction,prob_<class>...: one row a sample.

    ``names`` are the paths below the data's root, ``labels`` (N,) and ``logits`` (N, K). The
    probabilities have all their digits: metrics and loss computed again from them agree to 1e-9.
    """
    predictions, probabilities = predicted(logits), softmax(logits)
    header = ["path", "label", "prediction", *(f"prob_{name}" for name in classes)]
    # Paths that are not valid UTF-8 come as surrogates and go back to the bytes that they were.
    with atomic_write(path) as file:
        text = TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        for name, label, prediction, row in zip(
            names, labels, predictions, probabilities, strict=True
        ):
            writer.writerow([name, classes[label], classes[prediction], *row.tolist()])
        text.flush()
        text.detach()


@dataclass(frozen=True)
class Predictions:
    """What `write_predictions` wrote: N videos, K classes.

    ``names``: paths below the data's root; ``labels`` int64 (N,); ``probabilities`` float64 (N, K);
    ``classes``: the K names.
    """

    names: list[str]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    classes: list[str]


def read_predictions(path: Path) -> Predictions:
    """Read a CSV that `write_predictions` wrote.

    Raises OSError where it cannot be read, ValueError where it is no such file.
    """
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    try:
        header, *rows = csv.reader(StringIO(text, newline=""), strict=True)
        if header[:3] != ["path", "label", "prediction"]:
            raise ValueError("its columns are not path,label,prediction,prob_...")
        classes = [name.removeprefix("prob_") for name in header[3:]]
        numbers = {name: index for index, name in enumerate(classes)}
        labels = np.array([numbers[row[1]] for row in rows], np.int64)
        probabilities = np.array([row[3:] for row in rows], np.float64)
    except (csv.Error, KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{path}: is damaged ({error})") from None
    names = [row[0] for row in rows]
    return Predictions(names, labels, probabilities.reshape(len(rows), len(classes)), classes)
