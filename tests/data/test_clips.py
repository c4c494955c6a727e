"""Which frames make a clip, against references written out plainly."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.clips import (
    TimedClips,
    clip_indices,
    clip_offsets,
    dense_clips,
    dense_indices,
    uniform_indices,
)
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.seeking import pack_uneven_times, rate_of_times
from tests.helpers.clip_times import nearest_frames


def test_a_dense_clip_is_evenly_spaced_and_repeats_the_last_frame_beyond_the_end() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        n, t, rate = (int(v) for v in rng.integers(1, [400, 64, 9]))
        position = float(rng.random())
        clip = dense_indices(n, t, rate, position).tolist()
        start = clip[0]
        assert clip == [min(start + i * rate, n - 1) for i in range(t)]
        span = (t - 1) * rate + 1
        assert 0 <= start <= max(0, n - span)  # a video that is long enough repeats nothing
        if span <= n:
            assert len(set(clip)) == t


def test_every_dense_start_is_equally_likely() -> None:
    n, t, rate = 20, 4, 3  # starts 0 to 10
    starts = [dense_indices(n, t, rate, position)[0] for position in np.linspace(0, 1, 11 * 40)]
    assert np.bincount(starts, minlength=11).tolist() == pytest.approx([40] * 11, abs=1)
    assert starts[0] == 0 and starts[-1] == n - 10


@pytest.mark.parametrize(("n", "t", "rate"), [(100, 32, 2), (101, 32, 2), (64, 32, 2), (7, 3, 1)])
def test_half_way_is_the_centre(n: int, t: int, rate: int) -> None:
    clip = dense_indices(n, t, rate, 0.5)
    before, after = clip[0], n - 1 - clip[-1]
    assert abs(int(before) - int(after)) <= 1


def test_uniform_is_the_original_scripts_and_a_short_video_is_padded_with_its_last_frame() -> None:
    for n in range(1, 200):
        for t in (1, 2, 8, 32):
            clip = uniform_indices(n, t).tolist()
            if n >= t:
                assert clip == [int(v) for v in np.linspace(0, n - 1, t)]
                assert len(set(clip)) == t
            else:
                assert clip == list(range(n)) + [n - 1] * (t - n)


def test_a_loop_goes_on_with_the_first_frame_as_mmaction2_does() -> None:
    """Its SampleFrames takes the remainder of the numbers by the length of the video."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, t, rate = (int(v) for v in rng.integers(1, [200, 64, 9]))
        clip = dense_indices(n, t, rate, float(rng.random()), loop=True)
        assert clip.tolist() == [(int(clip[0]) + i * rate) % n for i in range(t)]
        if n < t:
            assert uniform_indices(n, t, loop=True).tolist() == [i % n for i in range(t)]
        looped = DataConfig(num_frames=t, sampling_rate=rate, short_videos="loop")
        assert clip_indices(video(n, 30.0), looped, 0.0).tolist() == [
            i * rate % n for i in range(t)
        ]


def test_a_loop_by_time_is_that_of_numbers_where_times_are_even() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        n, t, rate = (int(v) for v in rng.integers([2, 1, 1], [60, 40, 6]))
        offsets = rate * np.arange(t)
        timed = TimedClips(np.arange(n) / 25, offsets / 25, loop=True)
        even = dense_indices(n, t, rate, 0.0, loop=True)
        assert timed.starting_at(0).tolist() == even.tolist()


# --- by time -------------------------------------------------------------------------------------


def video(frames: int, fps: float, ticks: list[int] | None = None) -> VideoInfo:
    """A video of even times, or of those at ``ticks`` of a millisecond."""
    uneven = pack_uneven_times(ticks, Fraction(1, 1000), fps) if ticks else ""
    return VideoInfo(frames, fps, 64, 64, 0, "h264", True, uneven_times=uneven,
                     uneven_rate=rate_of_times(uneven))  # fmt: skip


def by_time(frames: int = 8, rate: int = 2, frame_rate: float = 30.0) -> DataConfig:
    return DataConfig(num_frames=frames, sampling_rate=rate, frame_rate=frame_rate)


def test_at_the_videos_own_rate_the_clips_are_those_that_are_counted() -> None:
    """So a training on such videos is the same to the bit."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        n, t, rate = (int(v) for v in rng.integers(1, [400, 64, 9]))
        fps = float(rng.choice([30, 15, 10, 29.97, 30000 / 1001, 60000 / 1001, 23.976, 12.5, 240]))
        position = float(rng.random())
        for info in (video(n, fps), video(n, 30.0)):
            clip = clip_indices(info, by_time(t, rate, info.fps), position)
            assert clip.tolist() == dense_indices(n, t, rate, position).tolist()


@pytest.mark.parametrize(
    ("fps", "offsets"),
    [
        (15, [0, 1, 2, 3, 4, 5, 6, 7]),
        (30, [0, 2, 4, 6, 8, 10, 12, 14]),
        (60, [0, 4, 8, 12, 16, 20, 24, 28]),
        (60000 / 1001, [0, 4, 8, 12, 16, 20, 24, 28]),
        (10, [0, 1, 1, 2, 3, 3, 4, 5]),  # .67 frames apart: some are taken twice
        (25, [0, 2, 3, 5, 7, 8, 10, 12]),
        (7.5, [0, 0, 1, 1, 2, 2, 3, 3]),  # half way the earlier one
        (24, [0, 2, 3, 5, 6, 8, 10, 11]),
    ],
)
def test_a_clip_takes_the_nearest_frames_at_any_rate(fps: float, offsets: list[int]) -> None:
    clip = clip_indices(video(100, fps), by_time(), 0.5)
    assert (clip - clip[0]).tolist() == offsets


def test_a_clip_lasts_equally_long_at_any_rate() -> None:
    for fps in (15.0, 23.976, 25.0, 30.0, 50.0, 59.94, 120.0):
        clip = clip_indices(video(1000, fps), by_time(32), 0.5)
        assert (clip[-1] - clip[0]) / fps == pytest.approx(62 / 30, abs=0.5 / fps)


def test_twins_of_another_rate_show_the_same_moments() -> None:
    """60 frames a second, each picture four times, as a screen recorder makes it of 15."""
    rng = np.random.default_rng(2)
    for _ in range(100):
        n, position = int(rng.integers(1, 60)), float(rng.random())
        slow = clip_indices(video(n, 15.0), by_time(), position)
        fast = clip_indices(video(4 * n, 60.0), by_time(), position)
        assert (fast // 4).tolist() == slow.tolist()


def test_uneven_times_are_searched_for_the_nearest_frame() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        n, t, rate = (int(v) for v in rng.integers([2, 1, 1], [150, 24, 5]))
        ticks = np.cumsum(rng.integers(1, 120, n)).tolist()
        frame_rate = float(rng.choice([30, 25, 10, 60]))
        info, data = video(n, 20.0, ticks), by_time(t, rate, frame_rate)
        clip = clip_indices(info, data, float(rng.random())).tolist()
        times = [Fraction(tick - ticks[0], 1000) for tick in ticks]
        assert clip == nearest_frames(times, clip[0], t, rate / Fraction(frame_rate))
        span = (t - 1) * rate / Fraction(frame_rate)
        if clip[0]:  # a video that is long enough repeats its last frame at most by rounding
            half = Fraction(float(np.median(np.diff(ticks)))) / 2000
            assert times[clip[0]] + span <= times[-1] + half


def test_even_times_give_one_answer_however_they_are_told() -> None:
    rng = np.random.default_rng(4)
    for fps in (10.0, 12.5, 25.0, 29.97, 30.0, 50.0, 59.94):
        for _ in range(30):
            n, t = (int(v) for v in rng.integers([2, 1], [200, 40]))
            offsets = clip_offsets(None, by_time(t))
            assert offsets is not None
            timed, even = TimedClips(np.arange(n) / fps, offsets), dense_clips(
                video(n, fps), by_time(t)
            )
            assert (timed.latest, timed.fit) == (even.latest, even.fit)
            for position in (0.0, *rng.random(3), 1.0):
                assert timed.at(position).tolist() == even.at(position).tolist()


def test_uneven_starts_are_as_likely_as_they_are_shown_long() -> None:
    ticks = [0, 100, 200, 1100, *range(1200, 4000, 100)]  # frame 2 is shown for .9 s
    info, data = video(len(ticks), 10.0, ticks), by_time(4, 3, 30.0)
    starts = [clip_indices(info, data, p)[0] for p in np.linspace(0, 1, 40_000, endpoint=False)]
    shares = np.bincount(starts) / len(starts)
    assert shares[2] == pytest.approx(9 * shares[1], rel=0.01)
    assert shares[0] == pytest.approx(shares[10], rel=0.01)


def test_a_video_shorter_than_a_clip_repeats_its_last_frame() -> None:
    for info in (video(3, 15.0), video(3, 20.0, [0, 50, 190])):
        clip = clip_indices(info, by_time(), 0.7).tolist()
        assert clip[0] == 0 and clip[-4:] == [2] * 4 and not dense_clips(info, by_time()).fit


def test_without_times_and_rate_frames_are_counted() -> None:
    assert clip_indices(video(100, 0.0), by_time(), 0.0).tolist() == list(range(0, 16, 2))


def test_uniform_clips_do_not_ask_for_times() -> None:
    data = DataConfig(num_frames=8, sampling="uniform", frame_rate=30.0)
    assert clip_indices(video(40, 10.0), data, 0.5).tolist() == uniform_indices(40, 8).tolist()


def test_the_time_between_frames_is_sought_once_for_all_clips_of_a_video(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """6 ms of an hour's video, of which each clip is told anew by a table."""
    calls = list[int]()
    median = np.median

    def counted(values: Any) -> Any:
        calls.append(1)
        return median(values)

    monkeypatch.setattr(np, "median", counted)
    ticks = [0, 37, *range(100, 5100, 40)]
    for position in (0.0, 0.3, 1.0):
        found = clip_indices(video(len(ticks), 25.0, ticks), by_time(), position)
    assert len(calls) == 1
    assert found[-1] == len(ticks) - 1
