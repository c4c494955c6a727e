"""The newest window of a live source: which frames it holds, and what counts as dropped."""

import time

import numpy as np
import pytest

from slowfast_dist.commands.predict.frame_buffer import DENSITY, FrameBuffer, Window
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
