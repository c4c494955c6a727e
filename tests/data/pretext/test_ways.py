"""The ways of a pretraining: which frames of a real file are shown, pixel by pixel."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from slowfast_dist import read_frames
from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.pretext.unlabelled import find_unlabelled
from slowfast_dist.data.pretext.ways import SHOWINGS, WAYS, order, shown, speed_of, way_of
from slowfast_dist.data.sampler import ClipKey, DistributedBatchSampler, ViewKey
from slowfast_dist.data.samples.batch import collate
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.video_set import VideoSet

Order = list[int]

ORDERS: dict[str, Order] = {
    "forwards": [0, 1, 2, 3, 4, 5, 6, 7],
    "backwards": [7, 6, 5, 4, 3, 2, 1, 0],
    "half speed": [0, 1, 2, 3, 4, 5, 6, 7],
    "double speed": [0, 2, 4, 6, 0, 2, 4, 6],
    "to and fro": [0, 2, 4, 6, 7, 5, 3, 1],
    "speeding up": [0, 0, 1, 1, 2, 4, 5, 7],
    "slowing down": [0, 2, 3, 5, 6, 6, 7, 7],
    "moving left": [0, 1, 2, 3, 4, 5, 6, 7],
    "moving right": [0, 1, 2, 3, 4, 5, 6, 7],
    "zooming in": [0, 1, 2, 3, 4, 5, 6, 7],
    "zooming out": [0, 1, 2, 3, 4, 5, 6, 7],
}
"""Worked out by hand for a clip of 8 frames; shuffled is drawn."""


def some() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("way", range(len(WAYS)), ids=WAYS)
def test_the_frames_of_each_way(way: int) -> None:
    found = order(way, 8, some()).tolist()
    if WAYS[way] != "shuffled":
        assert found == ORDERS[WAYS[way]]
    assert speed_of(way) == (0.5 if WAYS[way] == "half speed" else 1)


def test_what_is_shuffled_stays_whole_and_follows_nothing_that_it_followed() -> None:
    shuffled, seen = WAYS.index("shuffled"), set()
    for seed in range(200):
        found = order(shuffled, 8, np.random.default_rng(seed)).reshape(4, 2)
        assert (found[:, 1] == found[:, 0] + 1).all()
        assert sorted(found[:, 0].tolist()) == [0, 2, 4, 6]
        assert not (found[1:, 0] == found[:-1, 0] + 2).any()
        seen.add(tuple(found[:, 0].tolist()))
    assert len(seen) == 11  # of 24 orders of four parts, those without such neighbours


def moved(clip: NDArray[np.uint8], way: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Pixel after pixel, the nearest one of the part that is shown."""
    frames, size = len(clip), clip.shape[1]
    found = np.empty_like(clip)
    if way.startswith("moving"):
        share = [0.75] * frames
        across, down = [0.25 * t / (frames - 1) for t in range(frames)], [0.25 * rng.random()] * 8
        if way == "moving right":
            across.reverse()
    else:
        share = [1 - 0.4 * t / (frames - 1) for t in range(frames)]
        if way == "zooming out":
            share.reverse()
        one, other = rng.random(2)
        down, across = [(1 - s) * one for s in share], [(1 - s) * other for s in share]
    for t in range(frames):
        for row in range(size):
            for column in range(size):
                y = int((down[t] + share[t] * (row + 0.5) / size) * size)
                x = int((across[t] + share[t] * (column + 0.5) / size) * size)
                found[t, row, column] = clip[t, y, x]
    return found


@pytest.mark.parametrize("way", ["moving left", "moving right", "zooming in", "zooming out"])
def test_the_picture_moves_as_it_says(way: str) -> None:
    clip = some().integers(0, 256, (8, 16, 16, 3), np.uint8)
    found = shown(WAYS.index(way), clip, np.random.default_rng(1))
    assert (found == moved(clip, way, np.random.default_rng(1))).all()
    dot = np.zeros_like(clip)
    dot[:, 6:10, 6:10] = 255
    seen = shown(WAYS.index(way), dot, np.random.default_rng(1))[..., 0] > 0
    columns = [np.flatnonzero(frame.any(axis=0)).mean() for frame in seen]
    sizes = [int(frame.sum()) for frame in seen]
    if way.startswith("moving"):
        assert (columns[0] > columns[-1] + 2) == (way == "moving left")
        assert (columns[-1] > columns[0] + 2) == (way == "moving right")
    else:
        assert (sizes[-1] > 2 * sizes[0]) == (way == "zooming in")
        assert (sizes[0] > 2 * sizes[-1]) == (way == "zooming out")


DATA = DataConfig(
    num_frames=8, sampling_rate=2, short_side=(32, 32), crop_size=32, ways=True, flip=False,
    val_fraction=0.4,
)  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> VideoSet:
    """Videos in folders of all depths, whose names say nothing."""
    root = tmp_path_factory.mktemp("videos")
    make_videos(root / "made", 2, seed=0, size=32, frames=24, classes=("moves up", "moves down"))
    made = sorted((root / "made").rglob("*.mp4"))
    for place, path in zip(("a.mp4", "deep/er/b.mp4", "deep/c.mp4", "d.mp4"), made, strict=True):
        (root / "all" / place).parent.mkdir(parents=True, exist_ok=True)
        path.rename(root / "all" / place)
    (root / "all" / "notes.txt").write_text("no video")
    return find_unlabelled(
        DataConfig(**{**vars(DATA), "root": root / "all"}), seed=0
    )


def test_all_videos_below_the_folder_are_found(videos: VideoSet) -> None:
    names = [*dict.fromkeys(videos.train.names), *dict.fromkeys(videos.val.names)]
    assert sorted(names) == ["a.mp4", "d.mp4", "deep/c.mp4", "deep/er/b.mp4"]
    assert videos.classes == WAYS and videos.ways
    kept = len(set(videos.val.names))
    assert kept and videos.val.labels.tolist() == list(range(len(WAYS))) * kept
    assert len(videos.val.file_rows()[0]) == kept  # so that each is decoded, and kept, once


def test_a_clip_of_training_is_shown_in_the_way_of_its_label(videos: VideoSet) -> None:
    clips, counted = TrainingClips(videos.train, DATA, seed=3, ways=True), Counter[int]()
    for epoch, row in itertools.product(range(12), range(4, 8)):  # all of the second video
        sample, entropy = clips[ClipKey(epoch, row)], [3, epoch, row]
        way = int(np.random.default_rng([3, epoch, 1, 3]).permutation(12)[row - 4])
        way_rng = np.random.default_rng([*entropy, 3, 1])
        assert sample.frames is not None and sample.label == way
        position = float(np.random.default_rng(entropy).random())
        step = 1 if WAYS[way] == "half speed" else 2
        latest = 24 - 1 - 7 * step
        first = min(int(position * (latest + 1)), latest)
        numbers = np.array([first + step * place for place in range(8)])
        plain = read_frames(videos.train.path(4), numbers)
        expected = plain
        if WAYS[way] == "shuffled":
            expected = plain[order(way, 8, way_rng)]
        elif WAYS[way].startswith(("moving", "zooming")):
            expected = moved(plain, WAYS[way], way_rng)
        else:
            expected = plain[ORDERS[WAYS[way]]]
        assert (sample.frames.permute(0, 2, 3, 1).numpy() == expected).all(), WAYS[way]
        counted[way] += 1
    assert len(counted) == 12 and max(counted.values()) < 12


def test_a_validation_shows_each_row_in_its_way_and_always_alike(videos: VideoSet) -> None:
    clips = EvaluationClips(videos.val, DATA, temporal_views=2, ways=True)
    keys = [ViewKey(row, view) for row in range(len(WAYS)) for view in range(2)]
    once, again = clips.__getitems__(keys), clips.__getitems__(keys[::-1])[::-1]
    for key, one, other in zip(keys, once, again, strict=True):
        assert one.frames is not None and other.frames is not None
        assert one.label == key.video and torch.equal(one.frames, other.frames)
        way, first = WAYS[key.video], (0, 24 - 1 - 14)[key.view]
        numbers = first + 2 * np.arange(8)
        if way == "half speed":
            numbers = (0, 24 - 1 - 7)[key.view] + np.arange(8)
        plain, rng = read_frames(videos.val.path(0), numbers), np.random.default_rng(
            [key.video, key.view]
        )  # fmt: skip
        if way.startswith(("moving", "zooming")):
            expected = moved(plain, way, rng)
        elif way == "shuffled":
            expected = plain[order(key.video, 8, rng)]
        else:
            expected = plain[ORDERS[way]]
        assert (one.frames.permute(0, 2, 3, 1).numpy() == expected).all(), way


def test_the_showings_of_a_video_follow_each_other_in_ways_of_their_own(videos: VideoSet) -> None:
    sampler = DistributedBatchSampler(len(videos.train), 4, 4, seed=3, together=SHOWINGS)
    met = []
    for epoch in range(6):
        sampler.set_epoch(epoch)
        for keys in sampler:
            of_files = {videos.train.path(key.sample) for key in keys}
            assert len(of_files) == 1 and len(keys) == SHOWINGS == 4
            met.append(of_files.pop())
            assert len({way_of(3, epoch, key.sample)[0] for key in keys}) == 4
    assert Counter(met) == dict.fromkeys(set(met), 6) and met[::2] != met[:1] * 6
    plain = DistributedBatchSampler(12, 4, 4, seed=3)
    order = np.random.default_rng([3, 0]).permutation(12).tolist()
    assert [key.sample for keys in plain for key in keys] == order


def test_workers_do_not_change_the_ways(videos: VideoSet) -> None:
    def batches(workers: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        sampler = DistributedBatchSampler(len(videos.train), 4, 2, seed=3, together=SHOWINGS)
        clips = TrainingClips(videos.train, DATA, seed=3, ways=True)
        loader = DataLoader(
            clips, batch_sampler=sampler, num_workers=workers, collate_fn=collate
        )
        return [(batch.frames, batch.labels) for batch in loader]

    for one, other in zip(batches(0), batches(2), strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
