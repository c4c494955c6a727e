"""The confusion matrix: a grid with counts for a few classes, a picture for many, and the pairs
that are mixed up most."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

MOST_IN_GRID = 30
"""Classes of a grid whose numbers can still be read."""
MOST_PIXELS = 1000
"""Of the picture's side: of more classes several share a pixel."""
STRONGEST = 9
"""Shades are 1 to this; 0 is an empty cell."""


@dataclass(frozen=True)
class Cell:
    """``count`` videos, which are ``share`` of the true class's; ``shade`` 0 to STRONGEST."""

    count: int
    share: float
    shade: int
    right: bool


@dataclass(frozen=True)
class Pair:
    """``count`` videos of class ``label`` were called ``prediction``, ``share`` of its videos."""

    label: str
    prediction: str
    count: int
    share: float


Cells = Sequence[tuple[int, int, int]]


def _support(cells: Cells, classes: int) -> list[int]:
    sums = [0] * classes
    for true, _, count in cells:
        sums[true] += count
    return sums


def grid(cells: Cells, classes: int) -> list[list[Cell]]:
    """(K, K): row = true class, column = predicted class."""
    support = _support(cells, classes)
    rows = [[Cell(0, 0.0, 0, i == j) for j in range(classes)] for i in range(classes)]
    for true, guess, count in cells:
        share = count / support[true]
        shade = max(1, round(STRONGEST * share))
        rows[true][guess] = Cell(count, share, shade, true == guess)
    return rows


def confused_pairs(cells: Cells, classes: Sequence[str], most: int) -> list[Pair]:
    """The classes that are taken for others, by the number of videos."""
    support = _support(cells, len(classes))
    wrong = [(count, true, guess) for true, guess, count in cells if true != guess]
    wrong.sort(key=lambda one: (-one[0], -one[0] / support[one[1]], one[1:]))
    return [
        Pair(classes[true], classes[guess], count, count / support[true])
        for count, true, guess in wrong[:most]
    ]


def heat_map(cells: Cells, classes: int) -> str:
    """A PNG as a data: address, a pixel a cell (or several cells), that fits light and dark.

    What is right is blue, what is wrong orange, the stronger the larger its share of the true
    class; the rest is transparent.
    """
    side = min(classes, MOST_PIXELS)
    strength = np.zeros((side, side))
    wrong = np.zeros((side, side), np.bool_)
    support = _support(cells, classes)
    for true, guess, count in cells:
        at = true * side // classes, guess * side // classes
        share = count / support[true]
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
