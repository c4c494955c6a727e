"""The curves of a run, and its numbers epoch by epoch."""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from slowfast_dist.metrics.summary import Cells, class_support
from slowfast_dist.report.charts import Series, line_chart
from slowfast_dist.report.format import count, duration, percent, score, share, short
from slowfast_dist.runs.reading import number
from slowfast_dist.runs.run import Run

Form = Callable[[float | None], str]

MOST_ROWS = 120
"""Rows of the table of epochs at most: of more epochs, evenly some, the best and the last."""

MOST_CLASSES = 12
"""Classes with a chart of their own at most: three rows of four."""

CLASS_HITS = 24
"""Places of such a small chart where a pointer finds a value: one each 9 pixels."""

CURVES = (
    ("Loss", "loss", short, short, None, None),
    ("Accuracy", "accuracy", share, percent, 0.0, 1.0),
    ("Macro F1", "f1_macro", score, short, 0.0, 1.0),
    ("Mean average precision", "map_macro", score, short, 0.0, 1.0),
)
"""Title, name below train/ and val/, how its numbers and its scale are written, and its ends."""

SMALL: tuple[tuple[str, tuple[tuple[str, str, str], ...], Form, Form], ...] = (
    ("Learning rate", (("lr", "train", ""),), short, short),
    ("Gradient norm", (("grad_norm", "train", "mean"), ("grad_norm_max", "third", "max")),
     short, short),
    ("Clips a second", (("clips_per_second", "train", ""),), short, short),
    ("Waiting for data", (("data_wait_fraction", "train", ""),), share, percent),
    ("Time an epoch", (("epoch_seconds", "train", ""),), duration, duration),
)  # fmt: skip

COLUMNS = (
    ("Train loss", "train/loss", short), ("Train accuracy", "train/accuracy", share),
    ("Train F1", "train/f1_macro", score), ("Val loss", "val/loss", short),
    ("Val accuracy", "val/accuracy", share), ("Val F1", "val/f1_macro", score),
    ("Train mAP", "train/map_macro", score), ("Val mAP", "val/map_macro", score),
    ("Learning rate", "lr", short), ("Gradient norm", "grad_norm", short),
    ("Clips/s", "clips_per_second", short), ("Waiting", "data_wait_fraction", share),
    ("Time", "epoch_seconds", duration),
)  # fmt: skip


@dataclass(frozen=True)
class Key:
    """A curve in a legend, with its value at the best epoch."""

    name: str
    css: str
    value: str = ""


@dataclass(frozen=True)
class Chart:
    title: str
    series: list[Key]
    svg: str


def _chart(
    title: str,
    series: list[Series],
    form: Form,
    run: Run,
    *,
    small: bool = False,
    **options: Any,
) -> Chart | None:
    best = run.best_epoch
    svg = line_chart(
        title, series, form=form, mark=None if small else best,
        size=(280, 170) if small else (400, 230), **options,
    )  # fmt: skip
    if not svg:
        return None
    keys = []
    for one in series:
        at_best = dict(one.points).get(best) if best is not None else None
        if not one.finite:
            continue
        shown = at_best is not None and not small
        keys.append(Key(one.name, one.css, form(at_best) if shown else ""))
    return Chart(title, keys if len(keys) > 1 or not small else [], svg)


def curves(run: Run) -> list[Chart]:
    found = []
    for title, name, form, tick, low, high in CURVES:
        series = [
            Series("train", "train", run.history.points(f"train/{name}"), run.best_epoch),
            Series("validation", "val", run.history.points(f"val/{name}"), run.best_epoch),
        ]
        found.append(_chart(title, series, form, run, tick=tick, low=low, high=high))
    return [chart for chart in found if chart]


def step_curves(run: Run) -> list[Chart]:
    wanted = (("Loss by step", "step/loss"), ("Gradient norm by step", "step/grad_norm"))
    found = []
    for title, name in wanted:
        points = [
            (row["global_step"], number(row.get(name))) for row in run.history.steps if name in row
        ]
        series = [Series("train", "train", points)]
        found.append(_chart(title, series, short, run, x_name="step"))
    return [chart for chart in found if chart]


def small_multiples(run: Run) -> list[Chart]:
    found = []
    for title, names, form, tick in SMALL:
        series = [Series(label or title.lower(), css, run.history.points(name))
                  for name, css, label in names]  # fmt: skip
        found.append(_chart(title, series, form, run, small=True, tick=tick, low=0.0))
    return [chart for chart in found if chart]


def class_curves(run: Run) -> tuple[list[Chart], str]:
    """F1 by epoch of each class, and which ones: of many classes the worst of the last epoch, of
    equally bad ones those that fell furthest from their best. None of a single epoch."""

    def rank(name: str) -> tuple[float, float]:
        values = [value for _, value in found[name] if value is not None]
        return (values[-1], values[-1] - max(values)) if values else (2.0, 0.0)

    found = {name: points for name, points in run.history.class_f1.items() if len(points) > 1}
    names = list(found)
    text = f"F1 of {count(len(names), 'class', 'classes')} by epoch"
    if len(names) > MOST_CLASSES:
        worst = sorted(names, key=rank)[:MOST_CLASSES]
        names = [name for name in names if name in worst]
        text = f"F1 by epoch of the {MOST_CLASSES} worst of {count(len(found), 'class', 'classes')}"
    charts = [
        _chart(name, [Series("F1", "train", found[name], run.best_epoch)], score, run,
               small=True, low=0.0, high=1.0, hits=CLASS_HITS)
        for name in names
    ]  # fmt: skip
    return [chart for chart in charts if chart], text


def epoch_table(run: Run) -> dict[str, Any]:
    epochs = run.history.epochs
    stride = -(-len(epochs) // MOST_ROWS) or 1
    chosen = [
        row for index, row in enumerate(epochs)
        if index % stride == 0 or row is epochs[-1] or row["epoch"] == run.best_epoch
    ]  # fmt: skip
    return {
        "epoch_columns": [column for column in COLUMNS if any(column[1] in row for row in epochs)],
        "epoch_rows": chosen,
        "epochs_left_out": len(chosen) < len(epochs),
    }


# The confusion matrix: a grid with counts for a few classes, a picture for many.


MOST_IN_GRID = 30
"""Classes up to which the matrix is a grid whose numbers can be read; of more it is a picture."""
MOST_PIXELS = 1000
"""Pixels of the picture's side at most: of more classes several share a pixel."""
STRONGEST = 9
"""The strongest shade in the style sheet (1 to 9); 0 is an empty cell."""


@dataclass(frozen=True)
class Cell:
    """``count`` videos, which are ``share`` of the true class's; ``shade`` 0 to STRONGEST."""

    count: int
    share: float
    shade: int
    right: bool


def grid(cells: Cells, classes: int) -> list[list[Cell]]:
    """(K, K): row = true class, column = predicted class."""
    support = class_support(cells, classes)
    rows = [[Cell(0, 0.0, 0, i == j) for j in range(classes)] for i in range(classes)]
    for true, guess, videos in cells:
        share = videos / support[true]
        shade = max(1, round(STRONGEST * share))
        rows[true][guess] = Cell(videos, share, shade, true == guess)
    return rows


def heat_map(cells: Cells, classes: int) -> str:
    """A PNG as a data: address, a pixel a cell (or several cells), that fits light and dark.

    What is right is blue, what is wrong orange, the stronger the larger its share of the true
    class; the rest is transparent.
    """
    side = min(classes, MOST_PIXELS)
    strength = np.zeros((side, side))
    wrong = np.zeros((side, side), np.bool_)
    support = class_support(cells, classes)
    for true, guess, videos in cells:
        at = true * side // classes, guess * side // classes
        share = videos / support[true]
        if share > strength[at]:
            strength[at], wrong[at] = share, true != guess
    picture = np.zeros((side, side, 4), np.uint8)
    picture[..., :3] = np.where(wrong[..., None], (221, 107, 16), (38, 121, 194))
    picture[..., 3] = np.where(strength > 0, 60 + 195 * np.sqrt(strength), 0)
    file = BytesIO()
    Image.fromarray(picture, "RGBA").quantize(64, Image.Quantize.FASTOCTREE).save(
        file, "PNG", optimize=True
    )
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
