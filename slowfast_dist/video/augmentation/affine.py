"""Affine maps of a picture, which all are matrices, so that several in a row are one."""

from collections.abc import Sequence
from functools import reduce

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Pixels = NDArray[np.uint8]
Matrices = NDArray[np.float64]
"""(..., 3, 3), of columns (x, y, 1): pixels' centres, x to the right, y downwards. Numbers that
make one may be arrays (...), too."""

Map = tuple[float, float, float, float, float, float]
"""The upper two rows of a matrix."""


def matrix(a: ArrayLike, b: ArrayLike, c: ArrayLike, d: ArrayLike, e: ArrayLike, f: ArrayLike
           ) -> Matrices:  # fmt: skip
    """x becomes a x + b y + c, y becomes d x + e y + f."""
    found = np.zeros((*np.broadcast(a, b, c, d, e, f).shape, 3, 3))
    found[..., 2, 2] = 1
    for place, entry in enumerate((a, b, c, d, e, f)):
        found[..., place // 3, place % 3] = entry
    return found


def about_centre(matrices: Matrices, size: int) -> Matrices:
    """Maps of the plane as those of a picture of ``size`` x ``size``, whose centre stays."""
    centre = (size - 1) / 2
    return shift(centre, centre) @ matrices @ shift(-centre, -centre)


def shift(x: ArrayLike, y: ArrayLike) -> Matrices:
    return matrix(1, 0, x, 0, 1, y)


def rotation(degrees: ArrayLike) -> Matrices:
    """Clockwise, as y points downwards."""
    angles = np.radians(degrees)
    c, s = np.cos(angles), np.sin(angles)
    return matrix(c, -s, 0, s, c, 0)


def shear(x: ArrayLike, y: ArrayLike) -> Matrices:
    """Pixels a row lower are ``x`` pixels further right; those a column further right ``y`` lower.
    """
    return matrix(1, x, 0, y, 1, 0)


def scaled(x: float, y: float) -> Matrices:
    """Of pixels' centres: the picture's upper left corner, at (-.5, -.5), stays."""
    return matrix(x, 0, (x - 1) / 2, 0, y, (y - 1) / 2)


def in_a_row(matrices: Sequence[Matrices]) -> Matrices:
    """What the first one does, then the second, and so on."""
    return reduce(lambda before, after: after @ before, matrices, np.eye(3))


def as_maps(matrices: Matrices) -> tuple[Map, ...]:
    """Of (T, 3, 3)."""
    rows = matrices[:, :2].reshape(-1, 6).tolist()
    return tuple((a, b, c, d, e, f) for a, b, c, d, e, f in rows)


WORTH_A_CHANNEL = 12
"""Times as large as the result that a source may be and still get a fourth channel: OpenCV 5 takes
340 us for 224 x 224 pixels of three channels and 150 of four, and .26 ns a pixel to add it."""


def warp(source: Pixels, back: Map, fill: int, out: Pixels) -> None:
    """Fill ``out`` (h, w, 3) with the pixels of ``source`` to which ``back`` takes its own, between
    pixels linearly, and with ``fill`` beyond the source. A part of the source that is only moved
    and scaled is resized, in half the time, and begins at a whole pixel, as all crops do."""
    part = _part(source, back, out.shape[0])
    if part is not None:
        cv2.resize(part, out.shape[1::-1], dst=out, interpolation=cv2.INTER_LINEAR)
        if back[0] < 0:
            cv2.flip(out, 1, dst=out)
    elif source.size < WORTH_A_CHANNEL * out.size:
        wide = _warped(cv2.cvtColor(source, cv2.COLOR_RGB2RGBA), back, fill, out.shape[:2])
        cv2.cvtColor(wide, cv2.COLOR_RGBA2RGB, dst=out)
    else:
        out[:] = _warped(source, back, fill, out.shape[:2])


def _part(source: Pixels, back: Map, size: int) -> Pixels | None:
    """What a map of (size, size) that neither turns nor shears shows, where all of it is there."""
    a, b, c, d, e, f = back
    if b or d:
        return None
    columns, rows = max(1, round(abs(a) * size)), max(1, round(e * size))
    left, top = round(c + 0.5 - a / 2 - (columns if a < 0 else 0)), round(f + 0.5 - e / 2)
    if left < 0 or top < 0 or top + rows > source.shape[0] or left + columns > source.shape[1]:
        return None
    return source[top : top + rows, left : left + columns]


def _warped(source: cv2.typing.MatLike, back: Map, fill: int, size: Sequence[int]) -> Pixels:
    warped = cv2.warpAffine(
        source, np.array(back).reshape(2, 3), tuple(reversed(size)), borderValue=(fill,) * 4,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT,
    )  # fmt: skip
    return np.asarray(warped, np.uint8)
