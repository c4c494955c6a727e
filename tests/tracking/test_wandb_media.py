"""Excerpts of videos: the right frames, small, upright, in a form that browsers play."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest

from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.listing.segments import Segments
from slowfast_dist.data.listing.video_table import VideoRecord
from slowfast_dist.tracking.wandb_media import (
    LONG_SIDE,
    RATE,
    SECONDS,
    _excerpt,
    excerpt,
    excerpt_frames,
)
from slowfast_dist.video.guarded_reader import GuardedReader
from slowfast_dist.video.probe import probe_file
from tests.helpers.video_tables import table_of


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("frames", "fps"), [(1, 30), (2, 0), (30, 30), (185, 30), (1394, 29.97), (300, 1), (9, 1e6)]
)
def test_frames_are_in_order_around_the_middle_and_play_in_time(
    frames: int, fps: float, whole: bool
) -> None:
    indices, rate = excerpt_frames(frames, fps, whole)
    assert indices[0] >= 0 and indices[-1] < frames and (np.diff(indices) > 0).all()
    assert abs(indices[0] + indices[-1] - (frames - 1)) <= 2
    assert 1 <= len(indices) <= SECONDS * RATE
    assert len(indices) / rate <= SECONDS + 1
    if whole and frames > 2:
        assert indices[-1] - indices[0] >= (frames - 1) / 2


def write(path: Path, width: int, height: int, count: int = 24) -> None:
    """Frames ever brighter, the left half black."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(count):
            image = np.full((height, width, 3), 10 * number, np.uint8)
            image[:, : width // 2] = 0
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("size", "shown"),
    [((640, 362), (LONG_SIDE, 144)), ((64, 48), (64, 48)), ((48, 600), (20, LONG_SIDE))],
)
def test_the_picture_keeps_its_shape_and_its_moments(
    tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    path = tmp_path / "a.mp4"
    write(path, *size)
    info, reader = probe_file(path), GuardedReader()
    content = excerpt(path, info, "auto", False, reader)
    reader.close()
    with av.open(BytesIO(content), "r") as container:
        assert container.streams.video[0].codec_context.codec.name == "h264"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    indices, _ = excerpt_frames(info.frames, info.fps, False)
    assert len(frames) == len(indices) == RATE  # of one second
    for frame, index in zip(frames, indices, strict=True):
        assert frame.shape == (shown[1], shown[0], 3)
        assert frame[:, : shown[0] // 2 - 2].mean() < 4
        assert abs(frame[:, shown[0] // 2 + 2 :].mean() - 10 * index) < 5


def test_a_region_of_interest_is_all_that_is_shown(tmp_path: Path) -> None:
    path, nan, reader = tmp_path / "a.mp4", float("nan"), GuardedReader()
    write(path, 128, 96)
    boxes = [(0.0, 0.0, 60.0, 48.0), (68.0, 48.0, 60.0, 48.0), (nan,) * 4]
    parts = Segments(np.zeros(3, np.int32), np.full((3, 2), nan), boxes=np.array(boxes))
    whole = table_of([VideoRecord(path, "a.mp4", 0, "a.mp4")] * 3, [probe_file(path)] * 3)
    videos = replace(whole, segments=parts)
    shapes, means = [], []
    for row in range(3):
        content = _excerpt(videos, row, DataConfig(crop_box=(0.75, 0.0, 0.25, 1.0)), reader)
        assert content is not None
        with av.open(BytesIO(content), "r") as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        shapes.append(frames[0].shape)
        means.append(float(np.mean(frames)))
    reader.close()
    assert shapes == [(48, 60, 3), (48, 60, 3), (96, 32, 3)]  # of the last --data.crop-box
    assert means[0] < 4 and abs(means[1] - means[2]) < 3 and means[1] > 80
