"""Augmented training clips of real files: what decides them, their times, and their labels."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.clips import clip_indices
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.data.samples.batch import collate
from slowfast_dist.data.samples.training import AUGMENTATION, TrainingClips
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.video.augmentation.drawn import varied_view
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import VideoInfo, read_frames
from slowfast_dist.video.seeking import pack_uneven_times, rate_of_times
from slowfast_dist.video.views import Region, apply_view, training_view
from tests.helpers.video_tables import table_of

DATA = DataConfig(num_frames=8, sampling_rate=2, short_side=(36, 48), crop_size=32)
ALL = AugmentConfig(
    crop_scale=(0.3, 1.0), rand_augment=9.0, erasing=0.5, speed=(0.8, 1.25)
)
CLASSES = ("moves left", "moves right", "moves up")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos") / "all"
    make_videos(folder, 3, seed=0, size=48, frames=24, classes=CLASSES)
    return folder


@pytest.fixture(scope="module")
def table(root: Path) -> VideoTable:
    records = list(list_videos(root, "data.root").videos)
    return table_of(records, [probe_file(record.path) for record in records])


def frames_of(clips: TrainingClips, epoch: int, sample: int) -> np.ndarray:
    frames = clips[ClipKey(epoch, sample)].frames
    assert frames is not None
    return frames.permute(0, 2, 3, 1).numpy()


def test_without_augmentation_the_clips_are_those_of_older_versions(table: VideoTable) -> None:
    """From the same draws in the same order, so that a run that goes on keeps its bits."""
    clips = TrainingClips(table, DATA, seed=3)
    for epoch in range(3):
        for row in range(len(table)):
            rng = np.random.default_rng([3, epoch, row])
            position = rng.random()
            side = rng.integers(36, 49)
            down, across, coin = rng.random(3)
            start = min(int(position * 10), 9)  # 24 frames: a clip of 15 begins at 0 to 9
            indices = start + 2 * np.arange(8)
            size = round(32 * 48 / side)
            top, left = int(down * (49 - size)), int(across * (49 - size))
            whole = read_frames(table.path(row), indices, table.info(row), "auto", None)
            region = whole[:, top : top + size, left : left + size]
            view = replace(
                training_view(size, size, replace(DATA, resize="square"), np.random.default_rng(0)),
                flip=bool(coin < 0.5),
            )
            assert np.abs(frames_of(clips, epoch, row).astype(int)
                          - apply_view(region, view).astype(int)).max() <= 1  # fmt: skip


@pytest.mark.parametrize("resize", ["short-side", "square", "pad"])
def test_a_clip_is_its_frames_read_whole_and_then_varied(table: VideoTable, resize: Any) -> None:
    data = replace(DATA, resize=resize)
    clips = TrainingClips(table, data, seed=3, augment=ALL)
    mapped = 0
    for row in range(len(table)):
        rng = np.random.default_rng([3, 5, row])
        position, info = float(rng.random()), table.info(row)

        def draws(kind: int, row: int = row) -> np.random.Generator:
            return np.random.default_rng([3, 5, row, AUGMENTATION, kind])

        view = varied_view(
            training_view(48, 48, data, rng), Region(0, 0, 48, 48), data, ALL, draws
        )
        speed = float(np.exp(np.log(0.8) + draws(3).random() * np.log(1.25 / 0.8)))
        indices = clip_indices(info, data, position, speed=speed)
        whole = read_frames(table.path(row), indices, info, "auto", None)
        np.testing.assert_array_equal(frames_of(clips, 5, row), apply_view(whole, view))
        mapped += view.variation is not None and len(view.variation.maps) == 8
    assert mapped


def test_frames_that_are_shown_again_are_varied_as_of_their_own_time(table: VideoTable) -> None:
    """Of a video shorter than the clip the last frame comes again and again, and goes on moving."""
    data = replace(DATA, num_frames=32)
    clips = TrainingClips(table, data, seed=3, augment=AugmentConfig(rand_augment=20.0))
    moving = 0
    for epoch in range(12):
        frames = frames_of(clips, epoch, 0)
        assert frames.shape == (32, 32, 32, 3)
        moving += bool((frames[-1] != frames[-12]).any())  # 24 frames: both are the last one
    assert moving > 3


def test_workers_do_not_change_the_clips(table: VideoTable) -> None:
    def batches(workers: int) -> list[torch.Tensor]:
        clips = TrainingClips(table, DATA, seed=3, augment=ALL)
        keys = [[ClipKey(1, 2 * n), ClipKey(1, 2 * n + 1)] for n in range(4)]
        loader = DataLoader(clips, batch_sampler=keys, num_workers=workers, collate_fn=collate)
        return [batch.frames for batch in loader]

    for alone, other in zip(batches(0), batches(2), strict=True):
        assert torch.equal(alone, other)


# --- speed --------------------------------------------------------------------------------------


def video(frames: int, fps: float, ticks: list[int] | None = None) -> VideoInfo:
    uneven = pack_uneven_times(ticks, Fraction(1, 1000), fps) if ticks else ""
    return VideoInfo(frames, fps, 64, 64, 0, "h264", True, uneven_times=uneven,
                     uneven_rate=rate_of_times(uneven))  # fmt: skip


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.1, 1.25])
@pytest.mark.parametrize("frame_rate", ["video", 30.0])
def test_a_faster_clip_lasts_as_many_times_as_long(speed: float, frame_rate: Any) -> None:
    data = replace(DATA, num_frames=16, frame_rate=frame_rate)
    for fps in (25.0, 60.0):
        clip = clip_indices(video(500, fps), data, 0.5, speed=speed)
        step = 2 * speed * (1 if frame_rate == "video" else fps / 30)
        assert np.abs(clip - clip[0] - step * np.arange(16)).max() <= 0.5 + 1e-6
    uneven = video(400, 25.0, np.cumsum(np.random.default_rng(0).integers(20, 60, 400)).tolist())
    if frame_rate == 30.0:
        clip = clip_indices(uneven, data, 0.5, speed=speed)
        times = uneven.times()
        assert times is not None
        off = times[clip] - times[clip[0]] - speed * np.arange(16) / 15
        assert np.abs(off).max() <= 0.03


def test_a_slower_uniform_clip_shows_a_part_of_the_video() -> None:
    data = replace(DATA, sampling="uniform")
    whole = clip_indices(video(100, 25.0), data, 0.3)
    assert (whole[0], whole[-1]) == (0, 99)
    for speed in (1.0, 1.2):  # there is no more of it
        assert (clip_indices(video(100, 25.0), data, 0.3, speed=speed) == whole).all()
    starts = set()
    for position in np.linspace(0, 1, 200):
        clip = clip_indices(video(100, 25.0), data, position, speed=0.8)
        assert clip[-1] - clip[0] == 79 and clip[-1] <= 99
        starts.add(int(clip[0]))
    assert starts == set(range(21))
    part = clip_indices(video(100, 25.0), data, 1.0, (40, 60), speed=0.8)
    assert (part[0], part[-1]) == (44, 59)
    assert clip_indices(video(1, 25.0), data, 0.7, speed=0.8).tolist() == [0] * 8


# --- classes that a mirror swaps ----------------------------------------------------------------


def test_a_mirrored_clip_has_the_label_of_its_mirror_image(root: Path) -> None:
    data = replace(DATA, root=root, flip_pairs=("moves left:moves right",))
    found = find_videos(data, seed=0)
    assert found.swaps is not None and found.swaps.tolist() == [1, 0, 2]
    assert not any(remark.kind == "mirrored-classes" for remark in found.remarks)
    clips = TrainingClips(found.train, data, seed=3, swaps=found.swaps)
    plain = TrainingClips(found.train, replace(data, flip=False, flip_pairs=()), seed=3)
    seen = set()
    for row in range(len(found.train)):
        for epoch in range(6):
            key = ClipKey(epoch, row)
            mine, other = clips[key], plain[key]
            assert mine.frames is not None and other.frames is not None
            flipped = not torch.equal(mine.frames, other.frames)
            assert torch.equal(mine.frames, other.frames.flip(3) if flipped else other.frames)
            assert mine.label == (found.swaps[other.label] if flipped else other.label)
            assert mine.view == flipped
            seen.add((int(other.label), flipped))
    assert len(seen) == 6


def test_each_of_several_labels_is_swapped(root: Path, tmp_path: Path) -> None:
    names = sorted(path.relative_to(root) for path in root.rglob("*.mp4"))
    labels = ["moves left|moves up", "moves right", "moves up", ""] * 3
    rows = [f"{root / name},{label}" for name, label in zip(names, labels, strict=False)]
    listed = tmp_path / "list.csv"
    listed.write_text("path,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    data = replace(DATA, root=listed, flip_pairs=("moves left:moves right",))
    found = find_videos(data, seed=0, several=True)
    clips = TrainingClips(found.train, data, seed=3, swaps=found.swaps)
    checked = 0
    for row in range(len(found.train)):
        for epoch in range(6):
            sample, own = clips[ClipKey(epoch, row)], found.train.targets(row).tolist()
            wanted = [own[1], own[0], own[2]] if sample.view else own
            assert sample.label.tolist() == wanted
            checked += bool(sample.view) and wanted != own
    assert checked


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (("moves left:moves rigth",), "no class 'moves rigth': give two of 'moves left', "),
        (("moves left:moves right", "moves left:moves up"), "'moves left' is of two pairs"),
        (("moves up:moves up",), "give two classes"),
    ],
)
def test_pairs_that_are_none_are_refused(root: Path, pairs: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^--data.flip-pairs {pairs[-1]}: .*{message}"):
        find_videos(replace(DATA, root=root, flip_pairs=pairs), seed=0)


def test_weights_of_classes_count_clips_with_the_labels_that_they_get(root: Path) -> None:
    data = replace(DATA, root=root, flip_pairs=("moves left:moves right",), val_fraction=0.34)
    found = find_videos(data, seed=0)
    few = replace(found, train=found.train.select(np.array([0, 1, 2, 4])))
    counts = few.train_counts().tolist()
    assert counts == [2, 1, 1]
    mean = (counts[0] + counts[1]) / 2
    assert few.balanced_weights().tolist() == pytest.approx([4 / 3 / mean, 4 / 3 / mean, 4 / 3])
    priors = np.exp(few.log_priors("natural"))
    assert priors.tolist() == pytest.approx([1.5 / 4, 1.5 / 4, 1 / 4])
    total = np.sqrt(counts).sum()
    drawn = (np.sqrt(2) + 1) / 2 / total
    assert np.exp(few.log_priors("sqrt")).tolist() == pytest.approx([drawn, drawn, 1 / total])
    none = replace(found, train=found.train.select(np.array([0, 1])))
    assert none.train_counts().tolist() == [2, 0, 0]
    assert np.exp(none.log_priors("natural")).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])
