"""Colours by one lookup table, against Pillow's own operations, one after the other."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from slowfast_dist.video.augmentation.colours import LOOKED_AT, NAMES, Operations, recolour

Operation = Callable[[Image.Image, float], Image.Image]

PILLOW: dict[str, Operation] = {
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "posterize": lambda image, bits: ImageOps.posterize(image, round(bits)),
    "solarize": lambda image, threshold: ImageOps.solarize(image, int(np.ceil(threshold))),
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
}
STRENGTHS = {
    "brightness": (0.1, 0.73, 1.0, 1.9), "contrast": (0.1, 0.73, 1.0, 1.9),
    "posterize": (4.0, 6.0, 8.0), "solarize": (256.0, 200.0, 100.5, 0.0), "autocontrast": (0.0,),
    "equalize": (0.0,),
}  # fmt: skip


def picture(seed: int) -> NDArray[np.uint8]:
    """Channels of unlike ranges, and a step in each."""
    rng = np.random.default_rng(seed)
    values = rng.normal((90, 120, 150), (20, 30, 15), (40, 56, 3))
    values[:, 30:] += 25
    return np.clip(values, 12, 230).astype(np.uint8)


def recoloured(frames: NDArray[np.uint8], operations: Operations) -> NDArray[np.uint8]:
    clip = frames.copy()
    recolour(clip, operations)
    return clip


def by_pillow(frame: NDArray[np.uint8], operations: list[tuple[str, float]]) -> NDArray[np.int64]:
    image = Image.fromarray(frame)
    for name, strength in operations:
        image = PILLOW[name](image, strength)
    return np.asarray(image).astype(np.int64)


def test_all_names_have_a_reference() -> None:
    assert set(PILLOW) == set(NAMES)


@pytest.mark.parametrize("name", PILLOW)
def test_one_operation_is_pillows(name: str) -> None:
    for seed, strength in enumerate(STRENGTHS[name]):
        frame = picture(seed)
        found = recoloured(frame[None], ((name, (strength,)),))[0]
        assert np.abs(found - by_pillow(frame, [(name, strength)])).max() <= 1, strength
        if strength not in (1.0, 8.0, 256.0):
            assert not np.array_equal(found, frame)


def test_several_in_a_row_see_what_those_before_leave() -> None:
    rng = np.random.default_rng(0)
    for seed in range(60):
        frame = picture(seed)
        chosen = [str(name) for name in rng.choice(NAMES, 3)]
        row = [(name, float(rng.choice(STRENGTHS[name]))) for name in chosen]
        found = recoloured(frame[None], tuple((name, (one,)) for name, one in row))[0]
        off = np.abs(found - by_pillow(frame, row))
        # A value that rounds the other way can be stretched by what follows.
        assert np.mean(off > 2) < 0.02 and np.median(off) <= 1, row


def test_a_strength_that_moves_gives_each_frame_its_own_table() -> None:
    frame = picture(1)
    factors = (0.5, 0.8, 1.1, 1.4)
    found = recoloured(np.stack([frame] * 4), (("brightness", factors), ("contrast", (0.7,))))
    for one, factor in zip(found, factors, strict=True):
        wanted = by_pillow(frame, [("brightness", factor), ("contrast", 0.7)])
        assert np.abs(one - wanted).max() <= 1


def test_a_clip_is_looked_at_as_one_picture() -> None:
    """So a still part of it does not flicker while another one changes."""
    frames = np.stack([picture(seed) for seed in range(16)])
    frames[:, :20] = picture(99)[:20]
    looked_at = frames[[4, 12]]
    assert len(looked_at) == LOOKED_AT
    for name in ("contrast", "autocontrast", "equalize"):
        found = recoloured(frames, ((name, (1.4,)),))
        assert (found[:, :20] == found[0, :20]).all()
        one = looked_at.reshape(-1, *frames.shape[2:])  # below each other
        assert np.abs(found[4] - by_pillow(one, [(name, 1.4)])[:40]).max() <= 1
