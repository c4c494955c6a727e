"""Which frames of a video make a clip: integers only, no I/O."""

import numpy as np
from numpy.typing import NDArray


def dense_indices(
    video_frames: int, num_frames: int, sampling_rate: int, position: float
) -> NDArray[np.int64]:
    """Frames ``start + i * sampling_rate``, shape (num_frames,); beyond the end, the last frame.

    ``position`` in [0, 1] places the start among the possible ones: 0 is the beginning of the
    video, 0.5 the centre, 1 the latest start whose clip fits, and a uniform draw makes every
    start equally likely.
    """
    assert video_frames > 0 and num_frames > 0 and sampling_rate > 0 and 0 <= position <= 1
    slack = max(0, video_frames - 1 - (num_frames - 1) * sampling_rate)
    start = min(int(position * (slack + 1)), slack)
    indices = start + sampling_rate * np.arange(num_frames, dtype=np.int64)
    return np.minimum(indices, video_frames - 1)


def uniform_indices(video_frames: int, num_frames: int) -> NDArray[np.int64]:
    """Frames spread evenly from the first to the last, rounded down, shape (num_frames,).

    A video shorter than the clip: each of its frames once, then its last one repeated.
    """
    assert video_frames > 0 and num_frames > 0
    if video_frames < num_frames:
        return np.minimum(np.arange(num_frames, dtype=np.int64), video_frames - 1)
    return np.linspace(0, video_frames - 1, num_frames).astype(np.int64)
