"""What is drawn for a clip, and its one map, against the same steps done one after the other."""

from dataclasses import replace
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.config.data import DataConfig
from slowfast_dist.video.augmentation import drawn
from slowfast_dist.video.augmentation.drawn import (
    Draws,
    rand_augment,
    random_box,
    random_resized_crop,
    speed_factor,
    varied_view,
)
from slowfast_dist.video.augmentation.variation import FILL, Variation
from slowfast_dist.video.views import Region, SpatialView, apply_view, training_view

DATA = DataConfig(num_frames=8, crop_size=64, short_side=(72, 96))
FULL = AugmentConfig(crop_scale=(0.3, 1.0), rand_augment=9.0, erasing=0.5)


def draws_of(key: int) -> Draws:
    return lambda kind: np.random.default_rng([key, kind])


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """A frame whose colour tells the place, nowhere black or grey."""
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([30 + 200 * columns / width, 30 + 200 * rows / height,
                      230 - 100 * columns / width - 60 * rows / height], axis=-1)  # fmt: skip
    return image.astype(np.uint8)


# --- random resized crop ------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "aspect"), [(240, 320, 1.0), (720, 480, 1.5)])
def test_a_random_crop_has_the_areas_and_shapes_that_are_asked_for(
    height: int, width: int, aspect: float
) -> None:
    rng = np.random.default_rng(0)
    crops = [
        random_resized_crop(height, width, aspect, (0.3, 1.0), (3 / 4, 4 / 3), rng)
        for _ in range(4000)
    ]
    rows, columns = (np.array([getattr(crop, side) for crop in crops]) for side in
                     ("height", "width"))  # fmt: skip
    areas, shapes = rows * columns / (height * width), columns * aspect / rows
    assert 0.29 < areas.min() < 0.32 and areas.max() <= 1
    assert 0.74 < shapes.min() < 0.76 and 1.31 < shapes.max() < 1.35
    # Small ones, which always fit, are even in area and in the logarithm of their shape.
    small = areas < 0.5
    assert np.median(areas[small]) == pytest.approx(0.4, abs=0.01)
    assert np.median(np.log(shapes[small])) == pytest.approx(0, abs=0.02)
    tops = np.array([crop.top / (height - crop.height) for crop in crops if crop.height < height])
    assert tops.min() == 0 and tops.max() == 1 and tops.mean() == pytest.approx(0.5, abs=0.02)
    for crop in crops:
        assert 0 <= crop.top <= crop.top + crop.height <= height
        assert 0 <= crop.left <= crop.left + crop.width <= width


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(10, 1000, (0, 493, 10, 13)), (1000, 10, (493, 0, 13, 10)), (1, 1, (0, 0, 1, 1))],
)
def test_where_no_shape_fits_the_largest_in_the_centre_is_taken(
    height: int, width: int, expected: tuple[int, int, int, int]
) -> None:
    found = random_resized_crop(
        height, width, 1.0, (1.0, 1.0), (3 / 4, 4 / 3), np.random.default_rng(0)
    )
    assert tuple(found) == expected


@pytest.mark.parametrize("resize", ["short-side", "square", "pad"])
def test_a_crop_stays_in_the_region_of_interest_and_keeps_place_and_mirror(resize: Any) -> None:
    data, region = replace(DATA, resize=resize), Region(20, 30, 100, 150)
    augment = AugmentConfig(crop_scale=(0.3, 1.0))
    sizes = set()
    for key in range(200):
        rng = np.random.default_rng(key)
        plain = training_view(200, 300, data, rng, region=region)
        view = varied_view(plain, region, data, augment, draws_of(key))
        assert region.top <= view.top and view.top + view.height <= 120
        assert region.left <= view.left and view.left + view.width <= 180
        assert (view.flip, view.place, view.variation) == (plain.flip, plain.place, None)
        sizes.add((view.height, view.width))
        if resize != "short-side":  # of the whole picture's shape, more or less
            assert 0.7 < view.width / view.height / 1.5 < 1.4
    assert len(sizes) > 100


# --- RandAugment --------------------------------------------------------------------------------


def test_rand_augment_draws_once_a_clip_and_its_strength_moves_in_a_line() -> None:
    rng, names, rising = np.random.default_rng(0), [], []
    for _ in range(3000):
        row = rand_augment(9.0, 16, rng)
        assert len(row) == 2
        for name, strengths in row:
            names.append(name)
            most = drawn._STRENGTHS[name].most
            if not most:
                continue
            levels = np.abs(strengths) / most * 30
            assert len(levels) == 16 and levels.mean() == pytest.approx(9)
            steps = np.diff(levels)
            assert np.allclose(steps, steps[0])  # a straight line
            assert levels.min() >= 4.5 and levels.max() <= 13.5
            rising.append(steps[0])
            assert (strengths > 0).all() or (strengths < 0).all()
    counts = {name: names.count(name) for name in drawn._STRENGTHS}
    assert min(counts.values()) > 400 and max(counts.values()) < 600  # 500 each
    assert np.mean(np.array(rising) > 0) == pytest.approx(0.5, abs=0.03)
    assert np.std(rising) > 0


def test_no_operation_is_stronger_than_its_most() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        for name, strengths in rand_augment(30.0, 4, rng):
            assert np.abs(strengths).max() <= drawn._STRENGTHS[name].most


Kind = Literal["rotate", "shear-x", "shear-y", "translate-x", "translate-y"]


def moved(picture: NDArray[np.uint8], name: str, strength: float) -> NDArray[np.uint8]:
    """One operation, plainly: where each pixel of the result comes from."""
    size = picture.shape[0]
    centre = (size - 1) / 2
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) - centre
    if name == "rotate":
        c, s = np.cos(np.radians(strength)), np.sin(np.radians(strength))
        x, y = c * x + s * y, c * y - s * x
    elif name == "shear-x":
        x = x - strength * y
    elif name == "shear-y":
        y = y - strength * x
    elif name == "translate-x":
        x = x - strength * size
    else:
        y = y - strength * size
    places = (x + centre).astype(np.float32), (y + centre).astype(np.float32)
    shown = cv2.remap(picture, *places, cv2.INTER_LINEAR, borderValue=(FILL,) * 3)
    return np.asarray(shown, np.uint8)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("resize", ["short-side", "square"])
@pytest.mark.parametrize(
    "kinds", [["rotate"], ["shear-x"], ["shear-y"], ["translate-x"], ["translate-y"],
              ["rotate", "shear-x"], ["translate-y", "rotate"]]
)  # fmt: skip
def test_crop_mirror_and_moves_in_one_map_are_those_steps_one_after_the_other(
    kinds: list[Kind], resize: Any, mirrored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the crop's own pixels are shown; around them the one map has the picture's."""
    line = np.linspace(0.4, 1.0, 8)
    row = [(name, drawn._STRENGTHS[name].most * line) for name in kinds]
    monkeypatch.setattr(drawn, "rand_augment", lambda *_: row)
    data = replace(DATA, resize=resize)
    frame = smooth(180, 240)
    view = SpatialView(50, 70, 90, 100, 64, mirrored)
    varied = varied_view(view, Region(0, 0, 180, 240), data, AugmentConfig(rand_augment=9.0),
                         draws_of(0))  # fmt: skip
    assert varied.variation is not None and len(varied.variation.maps) == 8
    frames = np.stack([frame] * 8)
    found = apply_view(frames, varied)
    crop = apply_view(frame[None], view)[0]
    for place in range(8):
        steps, inside = crop, np.full_like(crop, 255)
        for name, strengths in row:
            steps = moved(steps, name, float(strengths[place]))
            inside = cv2.erode(moved(inside, name, float(strengths[place])), np.ones((3, 3)))
        own = (inside == 255).all(axis=-1)
        assert own.mean() > 0.15
        off = np.abs(found[place].astype(int) - steps.astype(int))[own]
        assert off.max() <= 4 and off.mean() < 1
        around = (found[place] == FILL).all(axis=-1)
        assert not around[own].any()
    assert (found == FILL).all(axis=-1).mean() < 0.05  # the picture reaches almost everywhere
    assert not np.array_equal(found[0], found[-1])


def test_beyond_the_picture_is_grey_and_with_pad_black(monkeypatch: pytest.MonkeyPatch) -> None:
    row = [("translate-x", np.full(8, 0.45))]
    monkeypatch.setattr(drawn, "rand_augment", lambda *_: row)
    frames, limits = np.full((8, 60, 120, 3), 200, np.uint8), Region(0, 0, 60, 120)
    augment = AugmentConfig(rand_augment=9.0)
    cases: list[tuple[Literal["square", "pad"], int]] = [("square", FILL), ("pad", 0)]
    for resize, beyond in cases:
        data = replace(DATA, resize=resize, flip=False)
        view = training_view(60, 120, data, np.random.default_rng(0))
        found = apply_view(frames, varied_view(view, limits, data, augment, draws_of(0)))
        assert (found[:, :, :28] == beyond).all()
        assert (found[:, 17:47, 30:] == 200).all()
        # The outermost row lies half between the picture and what is beyond it.
        assert (found[:, 1:15] == (0 if resize == "pad" else found[:, 20:21])).all()


def test_a_mirrored_file_shows_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    row = [("rotate", np.linspace(5, 20, 8))]
    monkeypatch.setattr(drawn, "rand_augment", lambda *_: row)
    frame = smooth(180, 240)
    for flip in (False, True):
        view = varied_view(
            SpatialView(30, 20, 100, 110, 64, flip), Region(0, 0, 180, 240), DATA,
            AugmentConfig(rand_augment=9.0), draws_of(0),
        )  # fmt: skip
        assert view.variation is not None
        stored = replace(
            view, left=240 - view.left - view.width, flip=not flip,
            variation=view.variation.of_mirrored(view.width),
        )  # fmt: skip
        shown = apply_view(np.stack([frame] * 8), view)
        other = apply_view(np.stack([np.ascontiguousarray(frame[:, ::-1])] * 8), stored)
        assert np.abs(shown.astype(int) - other.astype(int)).max() <= 2


# --- the rest -----------------------------------------------------------------------------------


def test_erasing_is_one_grey_box_a_clip() -> None:
    boxes, clips = [], 2000
    rng = np.random.default_rng(0)
    for _ in range(clips):
        if (box := random_box(64, 0.25, rng)) is not None:
            top, left, height, width = box
            assert top + height <= 64 and left + width <= 64
            boxes.append((height * width / 64**2, height / width))
    assert len(boxes) / clips == pytest.approx(0.25, abs=0.03)
    areas, shapes = np.array(boxes).T
    assert areas.min() > 0.015 and areas.max() < 0.36 and np.median(areas) > 0.12
    assert shapes.min() < 0.5 and shapes.max() > 2

    augment, erased = AugmentConfig(erasing=1.0), 0
    frames = np.full((8, 90, 120, 3), 200, np.uint8)
    for key in range(20):
        plain = training_view(90, 120, DATA, np.random.default_rng(key))
        view = varied_view(plain, Region(0, 0, 90, 120), DATA, augment, draws_of(key))
        grey = (apply_view(frames, view) == FILL).all(axis=-1)
        assert (grey == grey[0]).all()
        rows, columns = np.nonzero(grey[0])
        assert grey[0].sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)  # a whole box
        erased += 1
    assert erased == 20


def test_each_kind_has_draws_of_its_own() -> None:
    """So that switching one on leaves what the others do."""
    limits = Region(0, 0, 180, 240)
    for key in range(30):
        plain = training_view(180, 240, DATA, np.random.default_rng(key))
        full = varied_view(plain, limits, DATA, FULL, draws_of(key))
        without = varied_view(plain, limits, DATA, replace(FULL, erasing=0.0), draws_of(key))
        assert replace(full, variation=None) == replace(without, variation=None)
        mine, other = full.variation or Variation(), without.variation or Variation()
        assert replace(mine, erased=None) == other and other.erased is None
        alone = varied_view(plain, limits, DATA, AugmentConfig(erasing=0.5), draws_of(key))
        assert (alone.variation or Variation()).erased == mine.erased


def test_nothing_asked_for_leaves_the_view() -> None:
    plain = training_view(180, 240, DATA, np.random.default_rng(0))
    refuse: Any = None  # nothing may be drawn
    assert varied_view(plain, Region(0, 0, 180, 240), DATA, AugmentConfig(), refuse) == plain
    assert speed_factor(AugmentConfig(), refuse) == 1.0


def test_speeds_are_even_in_their_logarithm() -> None:
    augment = AugmentConfig(speed=(0.8, 1.25))
    speeds = np.array([speed_factor(augment, draws_of(key)) for key in range(2000)])
    assert 0.8 <= speeds.min() < 0.81 and 1.24 < speeds.max() <= 1.25
    assert np.median(speeds) == pytest.approx(1, abs=0.02)
