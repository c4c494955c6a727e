"""predictions/val_best.csv: its writer and its reader."""

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.scores import predicted, softmax
from slowfast_dist.metrics.summary import Predictions
from slowfast_dist.system.files import atomic_write
from slowfast_dist.system.text import for_spreadsheets


def write_predictions(
    path: Path,
    names: Sequence[str],
    labels: NDArray[Any],
    logits: NDArray[Any],
    classes: Sequence[str],
    safe: bool = False,
) -> None:
    """Write, atomically, a CSV of path,label,prediction,prob_<class>...: one row a sample.

    ``names`` are the paths below the data's root, ``labels`` (N,) and ``logits`` (N, K). The
    probabilities have all their digits: metrics and loss computed again from them agree to 1e-9.
    ``safe``: for spreadsheets, as `for_spreadsheets` has it; `read_predictions` is for the others.
    """
    header = ["path", "label", "prediction", *(f"prob_{name}" for name in classes)]
    if safe:
        names, classes = [list(map(for_spreadsheets, texts)) for texts in (names, classes)]
    predictions, probabilities = predicted(logits), softmax(logits)
    # Paths that are not valid UTF-8 come as surrogates and go back to the bytes that they were.
    with atomic_write(path, "w", "surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        rows = zip(names, labels, predictions, probabilities, strict=True)
        for name, label, prediction, row in rows:
            writer.writerow([name, classes[label], classes[prediction], *row.tolist()])


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
    shape = len(rows), len(classes)
    return Predictions.from_probabilities(names, labels, probabilities.reshape(shape), classes)


def find_predictions(path: Path) -> Predictions | None:
    """As `read_predictions`; None where there is no file, it is damaged, or says nothing: it has no
    video, or probabilities that are no numbers."""
    try:
        found = read_predictions(path) if path.is_file() else None
    except (OSError, ValueError):
        return None
    return found if found and len(found.labels) and np.isfinite(found.probabilities).all() else None
