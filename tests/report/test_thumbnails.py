"""Which frames of a video a report shows: those that the run's validation looked at."""

import pytest

from slowfast_dist.report.thumbnails import FRAMES, _indices
from slowfast_dist.video.reader import VideoInfo

INFO = VideoInfo(5, 25.0, 64, 64, 0, "h264", True)
"""Of five frames, so shorter than a clip of eight."""


@pytest.mark.parametrize(
    ("settings", "span", "expected"),
    [
        ({}, None, [0, 2, 4, 4]),
        ({"data.short-videos": "repeat-last"}, None, [0, 2, 4, 4]),
        ({"data.short-videos": "loop"}, None, [0, 2, 4, 2]),
        ({"data.short-videos": "loop", "data.sampling": "uniform"}, None, [0, 2, 4, 2]),
        ({"data.short-videos": "odd"}, None, [0, 2, 4, 4]),
        ({}, (2, 4), [2, 3, 3, 3]),
        ({"data.short-videos": "loop"}, (2, 4), [2, 2, 2, 3]),
        ({"data.short-segments": "context"}, (2, 4), [0, 2, 4, 4]),
    ],
)
def test_stills_of_a_short_video_are_frames_that_the_network_saw(
    settings: dict[str, str], span: tuple[int, int] | None, expected: list[int]
) -> None:
    clip = {"data.num-frames": "8", "data.sampling-rate": "1"}
    found = _indices(clip | settings, INFO, span)
    assert len(found) == FRAMES and found.tolist() == expected
