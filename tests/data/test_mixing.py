"""Mixup and CutMix of clips, against plain numpy."""

import numpy as np
import pytest
import torch

from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.data.mixing import Mixed, mix
from slowfast_dist.data.samples.batch import Batch

SIZE = (4, 3, 20, 30)
"""T, 3, H, W: no two of them alike."""


def batch(clips: int, seed: int = 0) -> Batch:
    """As the collation gives it: pixels of a frame next to each other in memory."""
    frames, height, width = SIZE[0], *SIZE[2:]
    rng = np.random.default_rng(seed)
    pixels = torch.from_numpy(rng.integers(0, 256, (clips, frames, height, width, 3), np.uint8))
    numbers = torch.arange(clips)
    return Batch(pixels.permute(0, 1, 4, 2, 3), numbers + 10, numbers, numbers + 100, numbers * 0)


def mixed(augment: AugmentConfig, key: int, clips: int = 5) -> tuple[Batch, Mixed]:
    plain = batch(clips)
    found = mix(plain, augment, [0, key, 3])
    assert found is not None
    assert found.batch.frames.dtype == torch.uint8 and found.batch.frames.shape == (clips, *SIZE)
    return plain, found


def test_each_clip_keeps_its_label_and_gets_that_of_one_other() -> None:
    for augment in (AugmentConfig(mixup=0.4), AugmentConfig(cutmix=1.0)):
        plain, found = mixed(augment, 0)
        for name in ("labels", "samples", "videos", "views"):
            assert torch.equal(getattr(found.batch, name), getattr(plain, name))
        assert found.partner.labels.tolist() == [14, 10, 11, 12, 13]
        assert found.partner.videos.tolist() == [104, 100, 101, 102, 103]
        assert torch.equal(plain.frames, batch(5).frames)  # nothing is written into it


def test_mixup_mixes_all_pixels_by_the_shares_of_the_labels() -> None:
    shares = []
    for key in range(300):
        plain, found = mixed(AugmentConfig(mixup=0.4), key, clips=2)
        own = plain.frames.double()
        wanted = found.share * own + (1 - found.share) * own.roll(1, 0)
        assert (found.batch.frames.double() - wanted).abs().max() <= 0.501
        shares.append(found.share)
    assert min(shares) >= 0.5 and max(shares) > 0.99
    draws = np.random.default_rng(0).beta(0.4, 0.4, 20_000)
    assert np.mean(shares) == pytest.approx(np.maximum(draws, 1 - draws).mean(), abs=0.03)


def test_cutmix_pastes_one_box_of_height_and_width_in_all_frames_and_counts_its_pixels() -> None:
    shares, rings, cut_off = [], 0, 0
    for key in range(300):
        plain, found = mixed(AugmentConfig(cutmix=1.0), key)
        other = plain.frames.roll(1, 0)
        own = (found.batch.frames == plain.frames).all(dim=2)  # (B, T, H, W)
        theirs = (found.batch.frames == other).all(dim=2)
        assert (own | theirs).all()
        alike = (plain.frames == other).all(dim=2)
        # Of pixels that tell, the same in every frame of every clip.
        place = (~own).any(dim=0).any(dim=0)
        assert torch.equal(~own | alike, place.expand_as(own) | alike)
        assert found.share == pytest.approx(1 - place.double().mean().item())
        assert found.share >= 0.5
        inner = place if place[0, 0] == 0 and place[-1, -1] == 0 and place[0, -1] == 0 else ~place
        box = inner if inner.double().mean() <= 0.5 or found.share == 0.5 else ~inner
        rows, columns = torch.nonzero(box.any(dim=1)), torch.nonzero(box.any(dim=0))
        if len(rows):
            cut_off += int(rows.min() == 0 or columns.min() == 0)
        rings += bool(place[0, 0] and place[-1, -1] and place[0, -1] and place[-1, 0])
        shares.append(found.share)
    assert min(shares) < 0.6 and max(shares) > 0.95
    assert rings  # a box of more than half keeps the inside, and what is around it is pasted
    assert cut_off  # boxes reach beyond the picture's ends


def test_with_both_each_micro_batch_gets_one_of_them() -> None:
    boxes = 0
    for key in range(400):
        plain, found = mixed(AugmentConfig(mixup=0.4, cutmix=1.0), key, clips=2)
        boxes += bool(((found.batch.frames == plain.frames)
                       | (found.batch.frames == plain.frames.roll(1, 0))).all())  # fmt: skip
    assert boxes / 400 == pytest.approx(0.5, abs=0.12)


def test_what_is_drawn_follows_from_the_micro_batch_alone() -> None:
    augment = AugmentConfig(mixup=0.4, cutmix=1.0)
    first, again = (mix(batch(4), augment, [7, 8, 9]) for _ in range(2))
    other = mix(batch(4), augment, [7, 8, 10])
    assert first is not None and again is not None and other is not None
    assert first.share == again.share and torch.equal(first.batch.frames, again.batch.frames)
    assert other.share != first.share


def test_one_clip_alone_and_none_stay_as_they_are() -> None:
    assert mix(batch(1), AugmentConfig(mixup=1.0), [0]) is None
    assert mix(batch(3), AugmentConfig(), [0]) is None
