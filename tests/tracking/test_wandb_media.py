"""Excerpts of videos: the right frames, small, upright, in a form that browsers play."""

from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest

from slowfast_dist.tracking.wandb_media import LONG_SIDE, RATE, SECONDS, excerpt, excerpt_frames
from slowfast_dist.video.guarded_reader import GuardedReader
from slowfast_dist.video.probe import probe_file


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
