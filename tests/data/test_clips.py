"""Which frames make a clip, against references written out plainly."""

import numpy as np
import pytest

from slowfast_dist.data.clips import dense_indices, uniform_indices


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
