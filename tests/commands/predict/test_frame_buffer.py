"""The newest window of a live source: which frames it holds, and what counts as dropped."""

import time
from dataclasses import replace

import numpy as np
import pytest

from slowfast_dist.commands.predict.frame_buffer import DENSE_DENSITY, DENSITY, FrameBuffer, Window
from slowfast_dist.system.child import Message
from tests.helpers.predictors import SMALL, UNIFORM


def add(newest: FrameBuffer, number: int, at: float, skipped: int = 0) -> None:
    header = {"time": at, "arrived": at, "late": 0.0, "skipped": skipped}
    newest.add(Message(header, np.full((1, 4, 4, 3), number % 256, np.uint8)))


def taken(newest: FrameBuffer) -> Window:
    window = newest.take()
    assert window is not None
    return window


def test_a_dense_window_is_the_newest_clip_and_what_nobody_saw_is_counted():
    newest = FrameBuffer(SMALL, None)
    assert newest.take() is None
    for number in range(40):
        assert newest.full == (number >= 15)
        add(newest, number, number / 25)
    window = taken(newest)
    assert window.clips[0, :, 0, 0, 0].tolist() == list(range(25, 40, 2))
    assert window.dropped == 25 and not newest.unseen
    for number in range(40, 50):
        add(newest, number, number / 25, skipped=3)
    window = taken(newest)
    assert window.dropped == 28  # all that came since is in the window


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (30, [26, 28, 30, 32, 34, 36, 38, 40]),
        (60, [52, 56, 60, 64, 68, 72, 76, 80]),
        (15, [13, 14, 15, 16, 17, 18, 19, 20]),
        (10, [8, 9, 10, 10, 11, 12, 12, 13]),  # .83, .90, .97 s ...: frames are repeated
    ],
)
def test_a_dense_window_by_time_shows_the_same_seconds_of_any_source(rate, expected):
    newest = FrameBuffer(replace(SMALL, frame_rate=30.0), None)
    for number in range(expected[-1] + 1):
        held = (number - 1) / rate  # seconds, when half a frame's time is missing at most
        assert newest.full == (held > 14 / 30 - 0.5 / rate - 1e-9)
        add(newest, number, number / rate)
    window = taken(newest)
    assert window.clips[0, :, 0, 0, 0].tolist() == expected
    assert window.rate == pytest.approx(rate)
    assert window.last.time - window.start == pytest.approx(14 / 30, abs=0.5 / rate)


def test_a_dense_window_by_time_takes_the_nearest_frames_of_an_uneven_source():
    rng = np.random.default_rng(0)
    newest = FrameBuffer(replace(SMALL, frame_rate=30.0), None)
    times = np.cumsum(rng.uniform(0.01, 0.12, 60))
    for number, moment in enumerate(times):
        add(newest, number, moment)
        if number > 20:
            wanted = times[number] - 14 / 30 + np.arange(8) / 15
            nearest = [int(np.abs(times[: number + 1] - one).argmin()) for one in wanted]
            assert taken(newest).clips[0, :, 0, 0, 0].tolist() == nearest


def test_a_dense_window_by_time_of_a_quick_source_is_bounded():
    newest = FrameBuffer(replace(SMALL, frame_rate=30.0), None)
    for number in range(4000):
        add(newest, 0, number / 2000)
    assert len(newest._frames) <= 8 * DENSE_DENSITY * 2


def test_what_is_shorter_than_a_window_by_time_repeats_its_last_frame():
    newest = FrameBuffer(replace(SMALL, frame_rate=30.0), None)
    for number in range(4):
        add(newest, number, number / 15)
    assert not newest.full
    assert taken(newest).clips[0, :, 0, 0, 0].tolist() == [0, 1, 2, 3, 3, 3, 3, 3]


@pytest.mark.parametrize("rate", [10, 1000])
def test_a_long_window_of_a_quick_source_is_bounded_and_even(rate):
    newest = FrameBuffer(UNIFORM, 4.0)
    for number in range(10 * rate):
        add(newest, 0, number / rate)
    assert len(newest._frames) <= 2 * DENSITY * UNIFORM.num_frames + 1
    window = taken(newest)
    assert window.clips.shape == (1, 8, 4, 4, 3)
    assert window.last.time == pytest.approx(10 - 1 / rate)
    assert window.start == pytest.approx(6.0, abs=0.3)


def test_a_clock_that_is_set_anew_begins_a_new_window():
    newest = FrameBuffer(UNIFORM, 1.0)
    for number in range(40):
        add(newest, number, 100 + number / 10)
    before = newest.full
    add(newest, 200, 3.0)
    assert (before, newest.full) == (True, False)
    window = taken(newest)
    assert set(window.clips.ravel()) == {200}


def test_silence_is_counted_while_it_is_waited_for():
    """Not while this process is stopped, and what it reads waits in a pipe."""
    newest = FrameBuffer(SMALL, None)
    newest.wait(0.05)
    time.sleep(0.2)
    newest.wait(0.05)
    assert newest.silence == pytest.approx(0.1)
    add(newest, 0, 0.0)
    assert newest.silence == 0
