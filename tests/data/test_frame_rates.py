"""What is said of the frame rates of videos, and of which."""

import numpy as np

from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.frame_rates import group_rates, rate_notes

BY_TIME = DataConfig(num_frames=8, sampling_rate=2, frame_rate=30.0)


def notes(rates: list[float], data: DataConfig, usual: float = 15.0) -> list[str]:
    return rate_notes(np.array(rates), "v{}.mp4".format, data, [usual], "theirs", "do this")


def test_rates_that_are_alike_are_one_group_named_by_the_most_common() -> None:
    rates = np.array([30.0] * 3 + [29.97] * 5 + [60.0, 0.0] + [15.0] * 4)
    assert [(group.rate, group.videos) for group in group_rates(rates)] == [
        (29.97, 8), (15.0, 4), (60.0, 1),
    ]  # fmt: skip


def test_other_rates_are_counted_in_one_line() -> None:
    data = DataConfig()
    assert notes([15.0] * 9, data) == [] == notes([15.0, 14.2], data)
    [line] = notes([15.0] * 83 + [60.0] * 30 + [10.0] * 7, data)
    assert line == (
        "37 of 120 videos have another frame rate than theirs: 30 have 60, 7 have 10; at 60 a "
        "second a clip spans 1.1 s in place of 4.2: do this"
    )
    [line] = notes([10.0], data, usual=30.0)
    assert line == (
        "v0.mp4 has another frame rate than theirs: 10; at 10 a second a clip spans 6.3 s in "
        "place of 2.1: do this"
    )
    uniform = DataConfig(sampling="uniform")
    assert notes([15.0, 60.0], uniform) == [] == notes([15.0, 60.0], BY_TIME)
    [line] = notes([15.0, 0.0], data)
    assert line == (
        "1 of 2 videos tell neither a frame rate nor times, as v1.mp4: how long their clips last "
        "is not known"
    )


def test_what_times_cannot_make_good_is_said() -> None:
    untold, slow = notes([30.0, 0.0, 0.0, 10.0, 60.0], BY_TIME)
    assert untold.startswith("2 of 5 videos tell neither a frame rate nor times, as v1.mp4")
    assert slow.startswith("1 of 5 videos have fewer frames a second than the 15 that a clip")
