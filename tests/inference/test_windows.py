"""Windows of a long video: the right frames at the right times, and little memory."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.data.clips import clip_indices
from slowfast_dist.inference.windows import (
    Stopped,
    default_window,
    plan_windows,
    score_windows,
)
from slowfast_dist.runs.best_model import BestModel
from slowfast_dist.system.child import CRASHES, HANGS
from slowfast_dist.system.memory import memory_now, peak_growth
from slowfast_dist.video import ordered_reader as stream
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.ordered_reader import FrameTimes, open_in_order
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import VideoInfo, read_frames
from slowfast_dist.video.views import evaluation_view
from tests.helpers.clip_times import nearest_frames
from tests.helpers.predictors import SMALL, UNIFORM, brightness, predictor
from tests.helpers.video_kinds import KINDS, write


class Recorded:
    """A network that keeps the clips that it was given."""

    def __init__(self) -> None:
        self.clips: list[NDArray[np.uint8]] = []
        self.sizes: list[int] = []

    def __call__(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.clips.extend(clips)
        self.sizes.append(len(clips))
        return brightness(clips)


def times_of(path: Path, info: VideoInfo) -> FrameTimes:
    with open_in_order(path, info) as frames:
        return frames.times


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("good") / "good.mp4", KINDS["H.264"])


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("H.264 open GOP", SMALL), ("H.264 variable frame rate", UNIFORM), ("H.264 cut", SMALL),
        ("MPEG-4 B-frames AVI", UNIFORM),
    ],
)  # fmt: skip
def test_a_window_has_the_frames_that_a_clip_of_these_has(kind, data, tmp_path):
    path = write(tmp_path / f"video{KINDS[kind].suffix}", KINDS[kind])
    info = probe_file(path)
    network = Recorded()
    window = None if data.sampling == "dense" else 0.5
    scores = score_windows(predictor(network, data, crops=3), path, info, window, 0.2, 4)
    windows = plan_windows(times_of(path, info), data, window, 0.2)
    assert len(scores.starts) == len(windows) > 2 and len(network.clips) == 3 * len(windows)
    views = [evaluation_view(info.height, info.width, data, crop, 3) for crop in range(3)]
    expected = [read_frames(path, row, info, "auto", view) for row in windows for view in views]
    np.testing.assert_array_equal(network.clips, expected)
    alone = predictor(data=data).probabilities(np.stack(network.clips))
    np.testing.assert_allclose(scores.probabilities, alone.reshape(-1, 3, 2).mean(axis=1))


@pytest.mark.parametrize("kind", ["H.264 variable frame rate", "VP8"])
def test_times_are_those_of_the_frames(kind, tmp_path):
    path = write(tmp_path / f"video{KINDS[kind].suffix}", KINDS[kind])
    info = probe_file(path)
    with av.open(str(path)) as container:
        shown = np.array([float(frame.time) for frame in container.decode(video=0)])
    shown -= shown[0]
    scores = score_windows(predictor(data=UNIFORM), path, info, 0.4, 0.2, 4)
    windows = plan_windows(times_of(path, info), UNIFORM, 0.4, 0.2)
    np.testing.assert_allclose(scores.starts, shown[windows[:, 0]], atol=1e-9)
    np.testing.assert_allclose(scores.ends[:-1], shown[windows[:-1, -1] + 1], atol=1e-3)
    assert scores.duration == scores.ends[-1] > shown[-1]


def test_windows_of_a_uniform_model_are_2_s_each_half_second_and_one_at_the_end():
    times = FrameTimes(np.arange(250) / 30, 250 / 30)
    windows = plan_windows(times, UNIFORM, None, None)
    assert windows[:, 0].tolist() == [*range(0, 190, 15), 190]
    assert windows[:, -1].tolist() == [*range(59, 249, 15), 249]
    assert (np.diff(windows[0]) >= 8).all() and (np.diff(windows[0]) <= 9).all()


def test_no_action_of_a_uniform_model_lies_between_its_windows():
    """One as long as a window, wherever it begins: some window shows seven eighths of it."""
    windows = plan_windows(FrameTimes(np.arange(300) / 30, 10.0), UNIFORM, None, None)
    for first in range(240):
        begins, ends = np.maximum(windows[:, 0], first), np.minimum(windows[:, -1], first + 59)
        assert (ends - begins + 1).max() >= 7 / 8 * 60 - 1  # whole frames


def test_windows_of_a_dense_model_are_clips_as_in_training():
    times = FrameTimes(np.arange(40) / 10, 4.0)
    windows = plan_windows(times, SMALL, None, 1.0)
    assert windows.tolist() == [list(range(first, first + 15, 2)) for first in (0, 10, 20, 25)]


@pytest.mark.parametrize("kind", ["H.264 variable frame rate", "H.264 30 fps mkv", "H.264 AVI"])
def test_windows_of_a_model_with_a_frame_rate_are_clips_by_time(kind, tmp_path):
    path = write(tmp_path / f"video{KINDS[kind].suffix}", KINDS[kind])
    info, data = probe_file(path), replace(SMALL, frame_rate=20.0)
    network = Recorded()
    scores = score_windows(predictor(network, data), path, info, None, 0.1, 4)
    times = times_of(path, info)
    windows = plan_windows(times, data, None, 0.1).tolist()
    shown = [Fraction(time).limit_denominator(1000) for time in times.starts.tolist()]
    assert len(network.clips) == len(windows) == len(scores.starts) > 2
    for row in windows:
        assert row == nearest_frames(shown, row[0], 8, Fraction(2, 20))
    assert windows[-1][-1] >= info.frames - 2  # the last one ends with the video
    assert clip_indices(info, data, 0.0).tolist() == windows[0]
    assert clip_indices(info, data, 1.0).tolist() == windows[-1]
    view = evaluation_view(info.height, info.width, data, 0, 1)
    expected = [read_frames(path, np.array(row), info, "auto", view) for row in windows]
    np.testing.assert_array_equal(network.clips, expected)
    seconds = scores.ends - scores.starts
    assert seconds == pytest.approx(0.7 + times.end / info.frames, abs=0.1)


def test_a_file_that_tells_no_times_is_counted(good):
    info, network = replace(probe_file(good), fps=0.0), Recorded()
    score_windows(predictor(network, replace(SMALL, frame_rate=5.0)), good, info, None, 10.0, 4)
    counted = Recorded()
    score_windows(predictor(counted, SMALL), good, info, None, 10.0, 4)
    np.testing.assert_array_equal(network.clips, counted.clips)


@pytest.mark.parametrize("data", [SMALL, UNIFORM], ids=["dense", "uniform"])
@pytest.mark.parametrize("count", [1, 5])
def test_a_video_shorter_than_a_window_is_one_that_repeats_its_last_frame(data, count):
    windows = plan_windows(FrameTimes(np.arange(count) / 25, count / 25), data, None, None)
    assert len(windows) == 1 and windows[0, -1] == count - 1
    assert set(windows[0]) == set(range(0, count, 1 if data.sampling == "uniform" else 2))


def test_a_stride_below_a_frame_makes_no_window_twice():
    windows = plan_windows(FrameTimes(np.arange(50) / 25, 2.0), UNIFORM, 0.4, 1e-9)
    assert len(np.unique(windows[:, 0])) == len(windows) == 41


def test_a_gap_longer_than_a_window_shows_the_frame_before_it():
    starts = np.array([*np.arange(10) / 10, *(9 + np.arange(10) / 10)])
    windows = plan_windows(FrameTimes(starts, 10.0), UNIFORM, 0.5, 1.0)
    shown = [set(row.tolist()) for row in windows]
    assert shown == [{0, 1, 2, 3, 4}, {9}, {10, 11, 12, 13, 14}, {15, 16, 17, 18, 19}]


def test_batches_progress_and_a_stop(good, new_children):
    network = Recorded()
    fractions: list[float] = []
    scores = score_windows(
        predictor(network), good, probe_file(good), None, 0.1, 4, fractions.append
    )
    count = len(scores.starts)
    assert network.sizes == [4] * (count // 4) + [count % 4] * (count % 4 > 0)
    assert fractions == sorted(fractions) and fractions[-1] == 1
    fractions.clear()
    with pytest.raises(Stopped):
        score_windows(
            predictor(), good, probe_file(good), None, 0.1, 4, fractions.append,
            lambda: len(fractions) > 1,
        )  # fmt: skip
    assert len(fractions) == 2
    assert none_left(new_children)


def none_left(new_children: Callable[[], list[psutil.Process]]) -> bool:
    end = time.monotonic() + 60
    while (left := new_children()) and time.monotonic() < end:
        time.sleep(0.01)
    return not left


def test_a_video_that_hangs_the_decoder_is_given_up(good, tmp_path, monkeypatch, new_children):
    monkeypatch.setattr(stream, "DECODE_SECONDS", 1.0)
    path = tmp_path / "hangs.mp4"
    os.mkfifo(path)
    with pytest.raises(DecodeError, match=HANGS):
        score_windows(predictor(), path, replace(probe_file(good), file_size=0), None, None, 4)
    assert none_left(new_children)


def test_a_video_that_crashes_the_decoder_is_given_up(good, monkeypatch, new_children):
    def kill(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        for child in new_children():
            with suppress(psutil.NoSuchProcess):  # it was killed before
                child.kill()
        return brightness(clips)

    info = probe_file(good)
    # More is to come than what waits here and in the pipe, so the process is still at work.
    monkeypatch.setattr(stream, "AHEAD_BYTES", 1)
    with pytest.raises(DecodeError, match=CRASHES):
        data = replace(SMALL, crop_size=512)
        score_windows(predictor(kill, data), good, info, None, 0.04, 1)


@pytest.mark.parametrize("change", ["damage", "other frames"])
def test_what_cannot_be_read_is_said(good, tmp_path, change):
    path, info = tmp_path / "bad.mp4", probe_file(good)
    content = bytearray(good.read_bytes())
    if change == "damage":
        place = content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2
        content[place : place + 300] = os.urandom(300)
    path.write_bytes(content)
    if change == "other frames":
        info = replace(info, frames=info.frames - 1)
    with pytest.raises(DecodeError, match="decoding failed|when it was probed") as error:
        score_windows(predictor(), path, info, None, None, 4)
    assert error.value.path == path


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video(tmp_path, new_children):
    """4000 frames of 150 kB each, cut out: 600 MB, if they were kept."""
    path = tmp_path / "long.mp4"
    with av.open(str(path), "w") as container:
        out: Any = container.add_stream("libx264", rate=Fraction(25))
        out.width = out.height = 48
        out.pix_fmt, out.options = "yuv420p", {"preset": "ultrafast"}
        for number in range(4000):
            image = np.full((48, 48, 3), number % 250, np.uint8)
            container.mux(out.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(out.encode(None))
    info = probe_file(path)
    child = [0]

    def watched(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        for process in new_children():
            with suppress(psutil.NoSuchProcess):  # at the end
                child[0] = max(child[0], process.memory_info().rss)
        return brightness(clips[:, :1])

    large = predictor(watched, replace(UNIFORM, crop_size=224, short_side=(224, 224)))
    growth = peak_growth(lambda: score_windows(large, path, info, None, None, 8), memory_now())
    print(f"\nmeasured: {growth / 1e6:.0f} MB more here, {child[0] / 1e6:.0f} MB in the decoder")
    assert growth < 200e6 and child[0] < 250e6


def test_a_video_like_those_of_the_training_is_seen_whole():
    """Sampling uniform: as the model saw its training videos, of 3 s in the median."""
    best = BestModel(Path("run"), ("a",), {}, UNIFORM, EvaluationConfig(), 1, 3.0)
    assert default_window(best, None, 5.5) == 5.5
    assert default_window(best, None, 6.5) == default_window(best, None) == 3.0
    assert default_window(best, 1.5, 5.5) == 1.5
    assert default_window(replace(best, video_seconds=None), None, 5.5) is None
    assert default_window(replace(best, data=SMALL), None, 5.5) is None
