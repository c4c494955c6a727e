"""Changes of colour that one lookup table does: what Pillow's ImageEnhance and ImageOps do.

Several in a row are one table, too: those that look at the picture (contrast, autocontrast,
equalize) see the histogram that the ones before them leave, so no picture is made in between. All
frames of a clip are looked at as one picture, or one that changes would flicker. Saturation and
sharpness mix channels or pixels, which no table does.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Tables = NDArray[np.uint8]
"""(S, C, 256): what each value of a channel becomes; S is T, or 1 for all frames alike, C is 3, or
1 for all channels alike."""
Strengths = NDArray[np.float64]
"""(S, 1, 1)."""
Histograms = NDArray[np.int64]
"""(S, 3, 256): how many pixels of each channel have each value."""

Operations = tuple[tuple[str, tuple[float, ...]], ...]
"""Names of NAMES, each with its strength in each frame of a clip, or one for all."""

LOOKED_AT = 2
"""Frames of a clip, at a quarter and three quarters of it, of which the histogram is made: all
would take as long as the tables."""

GREY = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the brightness of a picture (ITU-R BT.601, as in Pillow)."""

_VALUES = np.arange(256)


def brightness(factors: Strengths) -> Tables:
    """Values times a factor: Pillow's ImageEnhance.Brightness."""
    return _clipped(factors * _VALUES)


def posterize(bits: Strengths) -> Tables:
    """The upper bits of the values alone: ImageOps.posterize."""
    lower = (1 << (8 - np.round(bits).astype(np.int64))) - 1
    return (_VALUES & ~lower).astype(np.uint8)


def solarize(thresholds: Strengths) -> Tables:
    """Values from a threshold on are inverted: ImageOps.solarize."""
    return np.where(thresholds > _VALUES, _VALUES, 255 - _VALUES).astype(np.uint8)


def contrast(factors: Strengths, seen: Histograms) -> Tables:
    """Distances from the mean brightness of the picture times a factor: ImageEnhance.Contrast."""
    means = (seen @ _VALUES) / seen.sum(axis=-1)
    mean = np.floor(means @ GREY + 0.5)[:, None, None]
    return _clipped(mean + factors * (_VALUES - mean))


def autocontrast(_: Strengths, seen: Histograms) -> Tables:
    """Each channel is stretched from its least and largest value to 0 and 255:
    ImageOps.autocontrast."""
    used = seen > 0
    low = used.argmax(axis=-1)[..., None]
    high = 255 - used[..., ::-1].argmax(axis=-1)[..., None]
    stretched = _clipped((_VALUES - low) * (255 / np.maximum(high - low, 1)))
    return np.where(high > low, stretched, _VALUES).astype(np.uint8)


def equalize(_: Strengths, seen: Histograms) -> Tables:
    """Each channel's values become evenly frequent: ImageOps.equalize."""
    last = 255 - (seen > 0)[..., ::-1].argmax(axis=-1)[..., None]
    step = (seen.sum(axis=-1, keepdims=True) - np.take_along_axis(seen, last, axis=-1)) // 255
    below = np.cumsum(seen, axis=-1) - seen
    even = np.minimum((step // 2 + below) // np.maximum(step, 1), 255)
    return np.where(step > 0, even, _VALUES).astype(np.uint8)


def _clipped(values: NDArray[np.floating]) -> Tables:
    # Cut off as Pillow does; what should be a whole number may lie a rounding below it.
    return np.clip(values + 1e-6, 0, 255).astype(np.uint8)


_PLAIN: dict[str, Callable[[Strengths], Tables]] = {
    "brightness": brightness, "posterize": posterize, "solarize": solarize,
}  # fmt: skip
"""Operations that look at no picture."""

_LOOKING: dict[str, Callable[[Strengths, Histograms], Tables]] = {
    "contrast": contrast, "autocontrast": autocontrast, "equalize": equalize,
}  # fmt: skip
"""Operations that look at the picture's histogram."""

NAMES = (*_PLAIN, *_LOOKING)


def recolour(clip: Pixels, operations: Operations) -> None:
    """Do the operations one after the other to the frames of a clip (T, h, w, 3), in place."""
    tables = _VALUES.astype(np.uint8)[None, None]
    seen: Histograms | None = None
    for name, strengths in operations:
        shaped = np.array(strengths)[:, None, None]
        if name in _PLAIN:
            more = _PLAIN[name](shaped)
        else:
            seen = _histogram(clip) if seen is None else seen
            more = _LOOKING[name](shaped, _moved(seen, tables))
        if len(operations) == 1:
            tables = more
        else:
            both = np.broadcast_arrays(more, tables)
            tables = np.take_along_axis(both[0], both[1].astype(np.int64), axis=-1)
    # OpenCV takes a table of (256,), or one of (1, 256, 3).
    lookups = [np.ascontiguousarray(one.T)[None] if len(one) == 3 else one[0] for one in tables]
    for place, picture in enumerate(clip):
        cv2.LUT(picture, lookups[min(place, len(lookups) - 1)], dst=picture)


def _histogram(clip: Pixels) -> Histograms:
    """(1, 3, 256) of LOOKED_AT frames."""
    places = sorted({len(clip) * (2 * k + 1) // (2 * LOOKED_AT) for k in range(LOOKED_AT)})
    counts = [
        sum(np.ravel(cv2.calcHist([clip[place]], [channel], None, [256], [0, 256]))
            for place in places)
        for channel in range(3)
    ]  # fmt: skip
    return np.array(counts)[None].astype(np.int64)


def _moved(seen: Histograms, tables: Tables) -> Histograms:
    """(S, 3, 256) of the pictures that the tables make of one whose histogram is ``seen``."""
    if len(tables) == 1 and np.array_equal(tables[0, 0], _VALUES) and tables.shape[1] == 1:
        return seen
    moved = [
        np.bincount(values, counts, 256)
        for of_frame in np.broadcast_to(tables, (len(tables), 3, 256))
        for values, counts in zip(of_frame, seen[0], strict=True)
    ]
    return np.array(moved).reshape(-1, 3, 256).astype(np.int64)
