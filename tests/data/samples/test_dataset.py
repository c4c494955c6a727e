"""Clips of real files: the same key gives the same clip, and failures are replaced or reported."""

import os
import shutil
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.clips import clip_indices
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.segments import Segments
from slowfast_dist.data.listing.video_table import VideoRecord, VideoTable
from slowfast_dist.data.sampler import ClipKey, DistributedBatchSampler, ViewKey
from slowfast_dist.data.samples.batch import Batch, Sample, collate
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.video import guarded_reader as guard
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames
from slowfast_dist.video.views import evaluation_view
from slowfast_dist.video.writer import write_video
from tests.helpers.clip_times import decoded_times, nearest_frames
from tests.helpers.video_kinds import picture, read_number
from tests.helpers.video_tables import table_of

DATA = DataConfig(num_frames=8, sampling_rate=2, short_side=(36, 48), crop_size=32)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[VideoRecord]:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 3, seed=0, size=48, frames=24, classes=("moves up", "moves down"))
    return list(list_videos(root, "data.root").videos)


def training_clips(records: list[VideoRecord]) -> TrainingClips:
    return TrainingClips(table(records), DATA, seed=3)


def table(records: list[VideoRecord]) -> VideoTable:
    return table_of(records, [probe_file(record.path) for record in records])


def batches(records: list[VideoRecord], workers: int, epoch: int) -> list[Batch]:
    sampler = DistributedBatchSampler(len(records), 4, 2, seed=3)
    sampler.set_epoch(epoch)
    return list(
        DataLoader(
            training_clips(records), batch_sampler=sampler, num_workers=workers, collate_fn=collate
        )
    )


def test_workers_do_not_change_the_clips(records: list[VideoRecord]) -> None:
    alone = batches(records, 0, epoch=1)
    for other in (batches(records, 1, epoch=1), batches(records, 3, epoch=1)):
        for first, second in zip(alone, other, strict=True):
            assert torch.equal(first.frames, second.frames)
            assert torch.equal(first.samples, second.samples)
    assert alone[0].frames.shape == (2, 8, 3, 32, 32)
    assert alone[0].frames.dtype == torch.uint8


def test_another_epoch_gives_another_clip_of_the_same_video(records: list[VideoRecord]) -> None:
    clips = training_clips(records)
    first, again, other = (clips[ClipKey(epoch, 2)].frames for epoch in (0, 0, 1))
    assert first is not None and again is not None and other is not None
    assert torch.equal(first, again) and not torch.equal(first, other)


def break_file(path: Path) -> None:
    """As on a disk that lost a file's content after the probe."""
    path.write_bytes(b"\0" * path.stat().st_size)


@pytest.fixture
def damaged(records: list[VideoRecord], tmp_path: Path) -> tuple[TrainingClips, EvaluationClips]:
    """Two datasets of the same videos, the first of which is damaged after the probe."""
    videos = table(copied(records, tmp_path))
    break_file(videos.path(0))
    return TrainingClips(videos, DATA, 3), EvaluationClips(videos, DATA, 2, 3)


def copied(records: list[VideoRecord], root: Path) -> list[VideoRecord]:
    """The same videos in another folder."""
    for record in records:
        (root / record.name).parent.mkdir(exist_ok=True)
        shutil.copy(record.path, root / record.name)
    return [replace(record, path=root / record.name) for record in records]


def test_training_replaces_what_it_cannot_read(
    damaged: tuple[TrainingClips, EvaluationClips],
) -> None:
    clips = damaged[0]
    sample, again = clips[ClipKey(0, 0)], clips[ClipKey(0, 0)]
    assert sample.sample == 0 and sample.video == again.video != 0
    assert sample.label == clips.videos[sample.video].label
    assert [failure.video for failure in sample.failures] == [0] * len(sample.failures) != []
    batch = collate([sample, clips[ClipKey(0, 1)]])
    assert batch.samples.tolist() == [0, 1] and len(batch.failures) == len(sample.failures)


def test_evaluation_reports_what_it_cannot_read(
    damaged: tuple[TrainingClips, EvaluationClips],
) -> None:
    clips = damaged[1]
    batch = collate([clips[ViewKey(0, 0)], clips[ViewKey(1, 5)]])
    assert batch.videos.tolist() == [1] and batch.views.tolist() == [5]
    assert [failure.video for failure in batch.failures] == [0]


needs_guard = pytest.mark.skipif(sys.platform != "linux", reason="the guard is for Linux alone")


@pytest.fixture
def tried() -> list[Path]:
    """Which videos this process began to read, as they came."""
    return []


@pytest.fixture
def hanging(
    records: list[VideoRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tried: list[Path],
) -> VideoTable:
    """The videos; the first hangs every reader, being a FIFO since the probe."""
    ask = guard.GuardedReader.read_views

    def soon_given_up(reader: guard.GuardedReader, path: Path, *others: Any) -> Any:
        reader.seconds = 1.0 if path.is_fifo() else None  # for the others a machine may be busy
        tried.append(path)
        return ask(reader, path, *others)

    monkeypatch.setattr(guard.GuardedReader, "read_views", soon_given_up)
    (tmp_path / "hanging").mkdir()
    videos = table(copied(records, tmp_path / "hanging"))
    videos.path(0).unlink()
    os.mkfifo(videos.path(0))
    return videos


@needs_guard
def test_a_video_that_hangs_is_replaced_alike_whether_it_was_met_before(
    hanging: VideoTable, damaged: tuple[TrainingClips, object], tried: list[Path]
) -> None:
    """As one that is damaged is; and only the first meeting costs time."""
    clips, told = (TrainingClips(hanging, DATA, 3) for _ in range(2))
    told.give_up([0])
    expected = damaged[0][ClipKey(0, 0)]
    tried.clear()
    for dataset, attempts, reason in (
        (clips, 1, "hangs the decoder: given up after 1 s"),
        (clips, 0, guard.GIVEN_UP),
        (told, 0, guard.GIVEN_UP),
    ):
        sample = dataset[ClipKey(0, 0)]
        assert tried.count(hanging.path(0)) == attempts and len(tried) == attempts + 1
        tried.clear()
        assert sample.video == expected.video and sample.frames is not None
        assert torch.equal(sample.frames, expected.frames)  # type: ignore[arg-type]
        assert sample.failures[0].reason == reason and guard.is_fatal(reason)
        assert {failure.video for failure in sample.failures} == {0}


@needs_guard
def test_what_one_worker_met_no_worker_meets_again(hanging: VideoTable) -> None:
    clips = TrainingClips(hanging, DATA, seed=3)
    sampler = DistributedBatchSampler(len(hanging), 4, 2, seed=3)
    for workers, reason in ((2, "hangs the decoder: given up after 1 s"), (1, guard.GIVEN_UP)):
        found: list[Batch] = list(
            DataLoader(
                clips, batch_sampler=sampler, num_workers=workers, collate_fn=collate, timeout=300,
                multiprocessing_context="fork",  # they inherit this test's time limit
            )
        )
        assert sum(len(batch) for batch in found) == len(hanging)
        failures = [failure for batch in found for failure in batch.failures]
        assert failures[0].reason == reason and {failure.video for failure in failures} == {0}
    assert clips[ClipKey(0, 0)].failures[0].reason == guard.GIVEN_UP


@needs_guard
def test_all_views_of_a_video_that_hangs_cost_one_time_limit(
    hanging: VideoTable, tried: list[Path]
) -> None:
    clips = EvaluationClips(hanging, DATA, 2, 3)
    samples = [clips[ViewKey(0, view)] for view in range(6)]
    assert tried == [hanging.path(0)]
    assert all(sample.frames is None and len(sample.failures) == 1 for sample in samples)
    assert clips[ViewKey(1, 0)].frames is not None


@needs_guard
def test_all_parts_of_a_file_that_hangs_cost_one_time_limit(
    hanging: VideoTable, tried: list[Path]
) -> None:
    """And what replaces one of them is of another file, though most rows are of this one."""
    rows = [0] * 30 + list(range(1, len(hanging)))
    spans = np.tile(np.array([[0, 20]], np.int32), (len(rows), 1))
    bounds = np.tile([0.0, 0.5], (len(rows), 1))
    parts = replace(
        hanging.select(rows), segments=Segments(np.array(rows, np.int32), bounds, spans=spans)
    )
    clips = TrainingClips(parts, DATA, seed=3)
    samples = clips.__getitems__([ClipKey(0, row) for row in range(30)])
    assert tried.count(hanging.path(0)) == 1
    assert all(sample.frames is not None and sample.video >= 30 for sample in samples)
    assert {len(sample.failures) for sample in samples} == {1}
    views = EvaluationClips(parts, DATA)
    views.give_up([7])
    assert all(views[ViewKey(row, 0)].frames is None for row in range(30))
    assert tried.count(hanging.path(0)) == 1 and views[ViewKey(30, 0)].frames is not None


@needs_guard
def test_parts_of_one_file_alone_that_hangs_leave_no_clip(
    hanging: VideoTable, tried: list[Path]
) -> None:
    files, spans = np.zeros(3, np.int32), np.tile(np.array([[0, 20]], np.int32), (3, 1))
    bounds = np.tile([0.0, 0.5], (3, 1))
    parts = replace(hanging.select([0, 0, 0]), segments=Segments(files, bounds, spans=spans))
    sample = TrainingClips(parts, DATA, seed=3)[ClipKey(0, 1)]
    assert sample.frames is None and len(sample.failures) == 11 and len(tried) == 1


def test_views_are_different_parts_of_the_video(records: list[VideoRecord]) -> None:
    videos = table(records)
    clips = EvaluationClips(videos, DATA, temporal_views=3, spatial_crops=1)
    assert clips.views == 3 and len(clips) == 3 * len(records)
    frames = [clips[ViewKey(0, view)].frames for view in range(3)]
    centre = EvaluationClips(videos, DATA)[ViewKey(0, 0)].frames
    assert all(frame is not None for frame in frames) and centre is not None
    assert torch.equal(frames[1], centre)  # type: ignore[arg-type]
    assert not torch.equal(frames[0], frames[2])  # type: ignore[arg-type]


def numbers(sample: Sample) -> list[int]:
    """Of the pictures of a clip."""
    return [read_number(frame) for frame in pixels(sample)]


def pixels(sample: Sample) -> NDArray[np.uint8]:
    """(T, H, W, 3)."""
    assert sample.frames is not None
    return np.asarray(sample.frames.permute(0, 2, 3, 1).numpy(), np.uint8)


def write_numbered(path: Path, pictures: list[int], rate: int) -> VideoRecord:
    """A video of pictures that carry their numbers, ``rate`` a second."""
    images = (picture(number, 64, 64) for number in pictures)
    write_video(path, images, rate, {"preset": "veryfast", "qp": "10"})
    return VideoRecord(path, path.name, 0, path.name)


def test_twins_of_15_30_and_60_frames_a_second_give_the_same_clips(tmp_path: Path) -> None:
    """Each shows a picture for a 15th of a second: with a frame rate no clip tells which it is."""
    twins = [
        write_numbered(tmp_path / f"{rate}.mp4", [n // (rate // 15) for n in range(3 * rate)], rate)
        for rate in (15, 30, 60)
    ]
    by_time = replace(DATA, frame_rate=30.0, short_side=(64, 64), crop_size=64, flip=False)
    for temporal_views in (1, 3):
        clips = EvaluationClips(table(twins), by_time, temporal_views, 1)
        for view in range(temporal_views):
            samples = clips.__getitems__([ViewKey(video, view) for video in range(3)])
            shown = [numbers(sample) for sample in samples]
            assert shown[0] == shown[1] == shown[2]
            first = shown[0][0]
            assert shown[0] == list(range(first, first + 8))
    shown = [
        numbers(TrainingClips(table([twin]), by_time, seed=3)[ClipKey(epoch=2, sample=0)])
        for twin in twins
    ]
    assert shown[0] == shown[1] == shown[2] and len(set(shown[0])) == 8
    counted = EvaluationClips(table(twins), replace(by_time, frame_rate="video"))
    slow, _, fast = (numbers(counted[ViewKey(video, 0)]) for video in range(3))
    assert slow[-1] - slow[0] == 14 and fast[-1] - fast[0] in (3, 4)


def test_an_uneven_video_gives_the_frames_nearest_in_time(videos: Any, tmp_path: Path) -> None:
    path = tmp_path / "uneven.mp4"
    videos.write(path, replace(videos.kinds["H.264 variable frame rate"], frames=120))
    times = decoded_times(path)
    data = replace(DATA, frame_rate=20.0, short_side=(64, 64), crop_size=64, flip=False)
    clips = EvaluationClips(table([VideoRecord(path, path.name, 0, "")]), data, 5, 1)
    for sample in clips.__getitems__([ViewKey(0, view) for view in range(5)]):
        # The crop shows the middle half of the picture, so half of the number: what is shown is
        # compared with the frames themselves.
        info = clips.videos.info(0)
        first = clip_indices(info, data, sample.view / 4)[0]
        wanted = nearest_frames(times, int(first), 8, Fraction(2, 20))
        view = evaluation_view(info.height, info.width, data, 0, 1)
        expected = read_frames(path, np.array(wanted), info, "pyav", view)
        assert np.array_equal(pixels(sample), expected)
