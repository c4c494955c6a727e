"""Clips by time, written out plainly: what any faster way must equal."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av


def decoded_times(path: Path) -> list[Fraction]:
    """Seconds from the first frame to each, as a decode from the beginning gives them."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        assert stream is not None
        ticks = [frame.pts or 0 for frame in container.decode(stream)]
        base = Fraction(stream.time_base or 0)
    return [(tick - ticks[0]) * base for tick in ticks]


def nearest_frames(
    times: Sequence[Fraction], first: int, num_frames: int, step: Fraction
) -> list[int]:
    """The frames nearest to every ``step`` seconds from frame ``first`` on; of two the earlier."""
    clip = []
    for k in range(num_frames):
        wanted = times[first] + k * step
        clip.append(min(range(len(times)), key=lambda n: (abs(times[n] - wanted), n)))
    return clip
