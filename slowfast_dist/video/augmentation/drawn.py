"""Draws how a training clip is varied; `views` applies what is drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, exp, floor, log, sqrt

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.config.data import DataConfig
from slowfast_dist.video.augmentation.affine import (
    Matrices,
    about_centre,
    as_maps,
    in_a_row,
    rotation,
    scaled,
    shear,
    shift,
)
from slowfast_dist.video.augmentation.variation import FILL, Variation
from slowfast_dist.video.views import Region, SpatialView, shown_aspect

Strengths = NDArray[np.float64]
"""(T,): how strong an operation is in each frame."""

Draws = Callable[[int], np.random.Generator]
"""A generator of its own for each kind of augmentation, so that none changes what others draw."""

CROP, RAND_AUGMENT, ERASING, SPEED = range(4)
"""The kinds, by which `Draws` tells them apart; their numbers must stay."""

TRIES = 10
"""Shapes of a crop or an erased box that are drawn until one fits, as in torchvision."""

MOST_MAGNITUDE = 30
"""Magnitude at which an operation is as strong as it gets, as in torchvision and timm."""

OPERATIONS = 2
"""Operations of a clip, as RandAugment (Cubuk et al., 2019) and its users have it."""

ERASED_AREA = (0.02, 1 / 3)
"""Least and largest share of the picture that is erased (Zhong et al., Random Erasing, 2017)."""

ERASED_ASPECT = (0.3, 1 / 0.3)
"""Least and largest height over width of the erased box, from there, too."""


def speed_factor(augment: AugmentConfig, draws: Draws) -> float:
    """How much faster than usual a clip plays: even in its logarithm, so that twice and half are
    equally likely."""
    if augment.speed is None:
        return 1.0
    return _log_uniform(augment.speed, draws(SPEED).random())


def _log_uniform(ends: tuple[float, float], draw: float) -> float:
    low, high = map(log, ends)
    return exp(low + draw * (high - low))


def varied_view(
    view: SpatialView, limits: Region, data: DataConfig, augment: AugmentConfig, draws: Draws,
    aspect: float = 1.0,
) -> SpatialView:  # fmt: skip
    """The view of a clip's ``data.num_frames`` frames with all that ``augment`` asks for.

    ``limits``: the part of the displayed frame that may be looked at; ``aspect``: width of a pixel
    over its height."""
    if augment.crop_scale is not None:
        shown = shown_aspect(data, aspect)
        if data.resize != "short-side":  # the crop takes the whole picture's place and shape
            shown = limits.height / limits.width
        crop = random_resized_crop(
            limits.height, limits.width, shown, augment.crop_scale, augment.crop_aspect,
            draws(CROP),
        )  # fmt: skip
        view = replace(
            view, top=limits.top + crop.top, left=limits.left + crop.left, height=crop.height,
            width=crop.width,
        )  # fmt: skip
    colours: list[tuple[str, tuple[float, ...]]] = []
    moves: list[Matrices] = []
    if augment.rand_augment:
        drawn = rand_augment(augment.rand_augment, data.num_frames, draws(RAND_AUGMENT))
        for name, strengths in drawn:
            if name in _COLOURS:
                colours.append((name, tuple(_COLOURS[name](strengths).tolist())))
            if name in _GEOMETRY:
                moves.append(about_centre(_GEOMETRY[name](strengths, view.size), view.size))
    erased = None
    if augment.erasing:
        erased = random_box(view.size, augment.erasing, draws(ERASING))
    varied = Variation(colours=tuple(colours), erased=erased)
    if moves:
        view, varied = _with_moves(view, varied, limits, data, moves)
    return replace(view, variation=None if varied == Variation() else varied)


# --- places and shapes ---------------------------------------------------------------------------


def random_resized_crop(
    height: int, width: int, aspect: float, scale: tuple[float, float],
    ratio: tuple[float, float], rng: np.random.Generator,
) -> Region:  # fmt: skip
    """A part of a picture of ``scale`` of its area, even between the two, and of a width over
    height of ``ratio``, even in its logarithm, as in torchvision's RandomResizedCrop; where none of
    TRIES fits, the largest part in the centre whose shape is allowed. ``aspect``: width of a pixel
    over its height."""
    shapes, (down, across) = rng.random((TRIES, 2)).tolist(), rng.random(2).tolist()
    for size, shape in shapes:
        area = height * width * aspect * (scale[0] + size * (scale[1] - scale[0]))
        wanted = _log_uniform(ratio, shape)
        rows, columns = round(sqrt(area / wanted)), round(sqrt(area * wanted) / aspect)
        if 1 <= rows <= height and 1 <= columns <= width:
            top = min(int(down * (height - rows + 1)), height - rows)
            left = min(int(across * (width - columns + 1)), width - columns)
            return Region(top, left, rows, columns)
    rows = min(height, max(1, round(width * aspect / ratio[0])))
    columns = min(width, max(1, round(height * ratio[1] / aspect)))
    return Region((height - rows) // 2, (width - columns) // 2, rows, columns)


def random_box(
    size: int, probability: float, rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """Top, left, height and width of what is erased of (size, size); None where nothing is."""
    coin, down, across = rng.random(3).tolist()
    for share, shape in rng.random((TRIES, 2)).tolist():
        area = size * size * (ERASED_AREA[0] + share * (ERASED_AREA[1] - ERASED_AREA[0]))
        ratio = _log_uniform(ERASED_ASPECT, shape)
        rows, columns = round(sqrt(area * ratio)), round(sqrt(area / ratio))
        if coin < probability and 1 <= rows < size and 1 <= columns < size:
            return int(down * (size - rows + 1)), int(across * (size - columns + 1)), rows, columns
    return None


def _with_moves(
    view: SpatialView, varied: Variation, limits: Region, data: DataConfig,
    moves: Sequence[Matrices],
) -> tuple[SpatialView, Variation]:  # fmt: skip
    """Crop, resize, mirror and moves of each frame as one map, and the view of all pixels that the
    maps show; of the picture around the crop those, too, but with ``pad``, whose borders are
    black."""
    size = view.size
    top, left, rows, columns = view.place or (0, 0, size, size)
    steps = [
        shift(-left, -top),
        *([scaled(-1, 1), shift(columns, 0)] if view.flip else []),
        scaled(view.width / columns, view.height / rows),
        shift(view.left, view.top),
    ]
    back = in_a_row(steps)
    maps = back @ np.linalg.inv(in_a_row(moves))  # (T, 3, 3)
    if data.resize == "pad":
        region, fill = Region(view.top, view.left, view.height, view.width), 0
    else:
        region, fill = _seen(maps, size, limits), FILL
    maps = shift(-region.left, -region.top) @ maps
    seen = replace(
        view, top=region.top, left=region.left, height=region.height, width=region.width
    )
    return seen, replace(varied, maps=as_maps(maps), fill=fill)


def _seen(maps: Matrices, size: int, limits: Region) -> Region:
    """The pixels between which the maps of (size, size) lie, as far as ``limits`` reach."""
    last = size - 1
    corners = np.array([[0, 0, 1], [last, 0, 1], [0, last, 1], [last, last, 1]], np.float64).T
    places = maps @ corners  # (T, 3, 4)
    (left, top), (right, bottom) = (f(places[:, :2], axis=(0, 2)) for f in (np.min, np.max))
    left, right = _within(left, right, limits.left, limits.width)
    top, bottom = _within(top, bottom, limits.top, limits.height)
    return Region(top, left, bottom - top, right - left)


def _within(low: float, high: float, first: int, count: int) -> tuple[int, int]:
    """From one pixel to behind another, both of ``count`` from ``first`` on, at least one."""
    begin = min(max(floor(low), first), first + count - 1)
    return begin, max(begin + 1, min(ceil(high) + 1, first + count))


# --- RandAugment ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Strength:
    """Of an operation at the most magnitude."""

    most: float = 0.0
    signed: bool = False


_STRENGTHS = {
    "identity": _Strength(), "shear-x": _Strength(0.3, True), "shear-y": _Strength(0.3, True),
    "translate-x": _Strength(0.45, True), "translate-y": _Strength(0.45, True),
    "rotate": _Strength(30.0, True), "brightness": _Strength(0.9, True),
    "contrast": _Strength(0.9, True), "posterize": _Strength(4.0), "solarize": _Strength(256.0),
    "autocontrast": _Strength(), "equalize": _Strength(),
}  # fmt: skip
"""RandAugment's operations that a map or a table does, of equal chance: pixels a pixel (shear),
shares of the picture's side (translate), degrees, changes of a factor from 1, bits taken away,
values below 256 from which on they are inverted. Left out are saturation and sharpness."""

_GEOMETRY: dict[str, Callable[[Strengths, int], Matrices]] = {
    "shear-x": lambda strength, _: shear(strength, 0),
    "shear-y": lambda strength, _: shear(0, strength),
    "translate-x": lambda strength, size: shift(strength * size, 0),
    "translate-y": lambda strength, size: shift(0, strength * size),
    "rotate": lambda strength, _: rotation(strength),
}
_COLOURS: dict[str, Callable[[Strengths], Strengths]] = {
    "brightness": lambda strength: 1 + strength, "contrast": lambda strength: 1 + strength,
    "posterize": lambda strength: 8 - np.round(strength),
    "solarize": lambda strength: 256 - strength, "autocontrast": lambda _: np.zeros(1),
    "equalize": lambda _: np.zeros(1),
}  # fmt: skip
"""What `colours` takes of such a strength."""



def rand_augment(
    magnitude: float, frames: int, rng: np.random.Generator
) -> list[tuple[str, Strengths]]:
    """The operations of a clip with their strength in each of its frames.

    RandAugment-T (Kim et al., Learning Temporally Invariant and Localizable Features, 2020): the
    magnitude goes in a straight line from the first frame to the last, from M - d to M + d or back,
    with d drawn between 0 and M/2; at most MOST_MAGNITUDE.
    """
    found = []
    names = list(_STRENGTHS)
    for _ in range(OPERATIONS):
        number, (sign, falls, share) = int(rng.integers(len(names))), rng.random(3).tolist()
        strength = _STRENGTHS[names[number]]
        change = 0.5 * share * magnitude * (-1 if falls < 0.5 else 1)
        line = magnitude + np.linspace(-change, change, frames)
        of_most = np.minimum(line, MOST_MAGNITUDE) / MOST_MAGNITUDE
        factor = -1 if strength.signed and sign < 0.5 else 1
        found.append((names[number], factor * strength.most * of_most))
    return found
