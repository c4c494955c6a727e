"""Views: which process reads which, that sharing a decoding changes no pixel, and that 10 x 3 of
them give what a plain loop over the frames of the whole file gives."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from slowfast_dist.commands.evaluate.command import run_evaluation
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.loaders import make_evaluation_loader
from slowfast_dist.data.sampler import EvaluationSampler, ViewKey
from slowfast_dist.data.samples.batch import Sample
from slowfast_dist.data.samples.evaluation import LONGEST_RUN, EvaluationClips
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.workers import end_workers
from slowfast_dist.runs.predictions import read_predictions
from slowfast_dist.video.probe import probe_file
from tests.helpers.small_model import write_model
from tests.helpers.video_tables import table_of

CLASSES = ("moves left", "moves right")
DATA = DataConfig(num_frames=8, sampling_rate=4, short_side=(40, 40), crop_size=32)
"""Clips of 29 frames."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos shorter than a clip, two in which ten clips overlap, two in which they do not."""
    root = tmp_path_factory.mktemp("videos") / "all"
    for frames, classes in ((16, CLASSES), (50, CLASSES), (300, CLASSES)):
        make_videos(root / f"{frames}", 1, seed=frames, size=48, frames=frames, classes=classes)
        for name in classes:
            (root / name).mkdir(exist_ok=True)
            (root / f"{frames}" / name / "clip_000.mp4").rename(root / name / f"{frames}.mp4")
        shutil.rmtree(root / f"{frames}")
    return root


def table(root: Path) -> VideoTable:
    records = list(list_videos(root, "data").videos)
    return table_of(records, [probe_file(record.path) for record in records])


# The sampler


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 8, 30, 100])
@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (1, 3), (4, 1), (10, 3)])
def test_every_view_is_sampled_once_and_clips_stay_whole(
    world_size: int, batch_size: int, clips: int, crops: int
) -> None:
    seen, shares = [], []
    for rank in range(world_size):
        sampler = EvaluationSampler(5, clips * crops, batch_size, rank, world_size, crops)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert all(0 < len(keys) <= batch_size for keys in batches)
        if batch_size >= crops:  # each clip's crops are neighbours in one batch
            for keys in batches:
                assert [key.view % crops for key in keys] == [*range(crops)] * (len(keys) // crops)
        own = [(key.video, key.view) for keys in batches for key in keys]
        assert own == sorted(own)
        shares.append(len(own))
        seen += own
    assert sorted(seen) == [(video, view) for video in range(5) for view in range(clips * crops)]
    assert max(shares) - min(shares) <= max(batch_size, crops)  # one block


def test_neighbouring_clips_go_to_one_process() -> None:
    """Or nothing could be shared where there are several."""
    batches = list(EvaluationSampler(2, 30, batch_size=17, rank=1, world_size=2, crops=3))
    clips = [sorted({(key.video, key.view // 3) for key in keys}) for keys in batches]
    assert clips == [[(video, clip) for clip in range(5, 10)] for video in (0, 1)]


# The dataset


def frames_of(samples: Sequence[Sample]) -> list[torch.Tensor]:
    assert all(sample.frames is not None for sample in samples)
    return [sample.frames for sample in samples if sample.frames is not None]


@pytest.mark.parametrize("sampling", ["dense", "uniform"])
def test_views_read_together_are_those_read_alone(videos: Path, sampling: str) -> None:
    data = DataConfig(
        num_frames=8, sampling_rate=4, sampling=sampling, short_side=(40, 40), crop_size=32  # type: ignore[arg-type]
    )
    clips = EvaluationClips(table(videos), data, 10 if sampling == "dense" else 1, 3)
    for keys in EvaluationSampler(len(clips.videos), clips.views, 48, crops=3):
        together, alone = clips.__getitems__(keys), [clips[key] for key in keys]
        for key, one, other in zip(keys, together, alone, strict=True):
            assert (one.video, one.view, one.label) == (key.video, key.view, other.label)
        for first, second in zip(frames_of(together), frames_of(alone), strict=True):
            assert torch.equal(first, second) and first.shape == (8, 3, 32, 32)


def test_what_is_read_at_once_is_a_part_of_one_video(videos: Path) -> None:
    """At most twice a clip: all must be read within the time limit of one clip."""
    clips = EvaluationClips(table(videos), DATA, 10, 3)
    keys = [ViewKey(video, view) for video in range(6) for view in range(30)]
    runs = list(clips._runs(keys))
    assert [key for run in runs for key in run] == keys
    sizes: dict[int, list[int]] = {}
    for run in runs:
        [video] = {key.video for key in run}
        sizes.setdefault(clips.videos.info(video).frames, []).append(len(run))
        numbers = np.concatenate([clips._clip(key) for key in run])
        assert numbers.max() - numbers.min() < LONGEST_RUN * 29
    assert sizes == {16: [30, 30], 50: [30, 30], 300: [3] * 20}


def test_a_video_that_cannot_be_read_fails_in_each_of_its_views_and_in_no_other(
    videos: Path, tmp_path: Path
) -> None:
    root = tmp_path / "videos"
    shutil.copytree(videos, root)
    clips = EvaluationClips(table(root), DATA, 10, 3)
    bad = clips.videos.path(1)
    bad.write_bytes(b"\0" * bad.stat().st_size)
    keys = [ViewKey(video, view) for video in (0, 1, 2) for view in (3, 4, 9)]
    samples = clips.__getitems__(keys)
    assert [sample.frames is None for sample in samples] == [False] * 3 + [True] * 3 + [False] * 3
    assert all([f.video for f in sample.failures] == [1] for sample in samples[3:6])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_any_size_and_workers_hold_the_same_views(videos: Path, workers: int) -> None:
    clips = EvaluationClips(table(videos), DATA, 4, 3)
    keys = [ViewKey(video, view) for video in range(6) for view in range(12)]
    expected = {key: clips[key].frames for key in keys}
    for batch_size in (2, 8) if workers else (1, 2, 12, 40):
        loader = make_evaluation_loader(clips, batch_size, workers, 0, 1, pin=False)
        seen = []
        for batch in loader:
            assert 0 < len(batch) <= batch_size
            for frames, video, view in zip(batch.frames, batch.videos, batch.views, strict=True):
                key = ViewKey(int(video), int(view))
                seen.append(key)
                assert torch.equal(frames, expected[key])  # type: ignore[arg-type]
        assert sorted(seen, key=lambda key: (key.video, key.view)) == list(expected)
        end_workers(loader)


# 10 x 3 views against a loop of their own


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A best model as a training leaves it, with weights of chance that tell videos apart."""
    return write_model(tmp_path / "models", CLASSES, head=4, data=DATA)


def whole_video(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def views_in_a_loop(network: torch.nn.Module, path: Path) -> np.ndarray:
    """Mean probabilities (K,) of 10 clips of 8 frames at rate 4, evenly from the first possible
    start to the last, x 3 crops of 32 px of the short side 40 along the longer side."""
    frames = whole_video(path)
    height, width = frames[0].shape[:2]
    side = round(32 * min(height, width) / 40)
    total = torch.zeros(len(CLASSES), dtype=torch.float64)
    for clip in range(10):
        latest = max(0, len(frames) - 1 - 7 * 4)
        start = min(int(clip / 9 * (latest + 1)), latest)
        chosen = [frames[min(start + 4 * index, len(frames) - 1)] for index in range(8)]
        for crop in range(3):
            top, left = int(0.5 * (height - side + 1)), int(0.5 * (width - side + 1))
            if height > width:
                top = (0, top, height - side)[crop]
            else:
                left = (0, left, width - side)[crop]
            small = [
                cv2.resize(frame[top : top + side, left : left + side], (32, 32))
                for frame in chosen
            ]
            fast = torch.from_numpy(np.stack(small)).permute(3, 0, 1, 2)[None].float()
            fast = (fast / 255 - 0.45) / 0.225
            x = [fast[:, :, torch.linspace(0, 7, 2).long()], fast]
            with torch.no_grad():
                for block in network.blocks:  # type: ignore[union-attr]
                    x = block(x)
            total += torch.nn.functional.softmax(x[0].double(), dim=0)
    return (total / 30).numpy()


def real_clips(root: Path) -> None:
    """Two clips of each of two classes, of different sizes, under this model's names."""
    folder = os.environ.get("SLOWFAST_DIST_TEST_DATA")
    if not folder:
        pytest.skip("SLOWFAST_DIST_TEST_DATA is not set: no real videos to test with")
    kinds = sorted(path for path in (Path(folder) / "ut_interaction").iterdir() if path.is_dir())
    for name, kind in zip(CLASSES, kinds, strict=False):
        (root / name).mkdir(parents=True)
        for path in sorted(kind.glob("*.mp4"))[::12]:
            shutil.copy(path, root / name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["made", "real"])
def test_ten_clips_of_three_crops_equal_a_plain_loop(
    models: Path, videos: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    root = videos
    if kind == "real":
        root = tmp_path / "real"
        real_clips(root)
    command = EvaluateCommand(
        root, tmp_path / "out", "no", num_workers=0, batch_size=12, temporal_views=10,
        spatial_crops=3,
    )  # fmt: skip
    try:
        metrics = run_evaluation(models, command)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    assert (metrics["temporal_views"], metrics["spatial_crops"]) == (10, 3)
    found = read_predictions(tmp_path / "out" / "predictions.csv")
    assert len(found.names) == (6 if kind == "made" else 4)
    network = torch.load(models / "best_model_architecture.pth", weights_only=False).eval()
    expected = np.stack([views_in_a_loop(network, root / name) for name in found.names])
    np.testing.assert_allclose(found.probabilities, expected, rtol=0, atol=1e-6)
    assert np.ptp(expected[:, 0]) > 1e-3  # the videos are told apart
    loss = -np.log(expected[np.arange(len(found.names)), found.labels]).mean()
    assert metrics["loss"] == pytest.approx(loss, abs=1e-6)
