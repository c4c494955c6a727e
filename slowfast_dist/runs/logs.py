"""The files of logs/: the lines of the original script, and the samples of each optimizer step."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.scores import over_classes
from slowfast_dist.system.files import append, atomic_write

OF_SEVERAL_LABELS = {"map_macro": "mAP", "map_micro": "mAP micro", "f1_micro": "F1 micro"}
"""What is there of several labels a clip alone, and how it is called."""


class TrainingLog:
    """logs/training_log.txt: for people, the lines an epoch that the original script wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, *lines: str) -> None:
        """Append lines; a resumed run goes on below those of the run before it."""
        with append(self.path, "backslashreplace") as file:
            file.writelines(line + "\n" for line in lines)

    def epoch(
        self, row: Mapping[str, Any], epochs: int, classes: int, saved: Path | None = None
    ) -> None:
        """Append an epoch's row of metrics.jsonl, of a model of that many ``classes``; ``saved`` is
        the model file it made, if any.

        Precision, recall and F1 are the macro ones; the weighted ones have a line of their own.
        """
        lines = [f"Epoch {row['epoch']}/{epochs}", *_score_lines("Train", row, classes)]
        lines += _score_lines("Val", row, classes)
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
    root, path@start-end for a part of a video, by index what ``name_of`` gives, and differ only
    where a video that fails to decode was replaced.
    """

    header = ("global_step", "sample", "video")

    def __init__(self, path: Path, name_of: Callable[[int], str]) -> None:
        self.path, self.name_of = path, name_of

    def epoch(self, rows: NDArray[np.int64]) -> None:
        """Append an epoch's rows (N, 6), in any order and as in training_state.EpochSums."""
        samples, videos, steps = rows[:, 0], rows[:, 1], rows[:, 5]
        order = np.lexsort((samples, steps))
        with append(self.path, "surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not file.tell():
                writer.writerow(self.header)
            for row in order:
                sample, video = self.name_of(int(samples[row])), self.name_of(int(videos[row]))
                writer.writerow((steps[row], sample, video))
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
            atomic_write(self.path, "w", "surrogateescape") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.header)
            for row in islice(_readable_rows(old), 1, None):
                # A step is whole where something stands behind it; later ones are dropped anyway.
                if len(row) < 2 or not row[0].isdecimal() or int(row[0][:18]) > global_step:
                    break
                writer.writerow(row)


def _readable_rows(file: Iterable[str]) -> Iterator[list[str]]:
    """Those of a CSV before its first damage."""
    with suppress(csv.Error):
        yield from csv.reader(file)


def _score_lines(title: str, row: Mapping[str, Any], classes: int) -> list[str]:
    """Two lines for train or val, none where the row has no such metrics (no validation then)."""
    prefix = title.lower()
    if f"{prefix}/accuracy" not in row and f"{prefix}/map_macro" not in row:
        return []
    macro = [f"{title} Loss: {_number(row.get(f'{prefix}/loss'))}"]
    macro.append(f"Accuracy: {_number(row.get(f'{prefix}/accuracy'))}")
    if f"{prefix}/top5_accuracy" in row:
        macro.append(f"Top-5 Accuracy: {_number(row[f'{prefix}/top5_accuracy'])}")
    for name, shown in OF_SEVERAL_LABELS.items():
        if f"{prefix}/{name}" in row:
            macro.append(f"{shown}: {_number(row[f'{prefix}/{name}'])}")
    weighted = []
    for score in ("Precision", "Recall", "F1"):
        macro.append(f"{score}: {_number(row.get(f'{prefix}/{score.lower()}_macro'))}")
        weighted.append(f"{score}: {_number(row.get(f'{prefix}/{score.lower()}_weighted'))}")
    if over := over_classes(row, classes, f"{prefix}/"):
        macro.append(over)
    return [" | ".join(macro), f"{title} Weighted " + " | ".join(weighted)]


def _number(value: float | None, form: str = ".4f") -> str:
    return "nan" if value is None else format(value, form)
