"""The plain way to read clips, which scripts take: all frames at full size, then float32 in torch.

To measure ours against: nothing reads clips through this.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from slowfast_dist.config import DataConfig
from slowfast_dist.data.clips import dense_indices
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.data.transforms import SpatialView, training_view
from slowfast_dist.data.video import DecodeError, VideoInfo, read_frames

MEAN, STD = 0.45, 0.225
"""Of SlowFast's training data; the same for red, green and blue."""


@cache
def plain_reader(path: Path, info: VideoInfo) -> str:
    """decord, or pyav where that is not installed, cannot read the file (frames of few pixels), or
    reads other frames than it is asked for."""
    if not info.decord_exact or find_spec("decord") is None:
        return "pyav"
    try:
        _read_decord(path, np.zeros(1, np.int64))
    except DecodeError:
        return "pyav"
    return "decord"


def drawn_clip(
    info: VideoInfo, data: DataConfig, seed: int, key: ClipKey
) -> tuple[NDArray[np.int64], SpatialView]:
    """The frames (T,) and the region that ``TrainingClips`` draws for the key."""
    rng = np.random.default_rng([seed, key.epoch, key.sample])
    position = float(rng.random())
    view = training_view(info.height, info.width, data, rng)
    return dense_indices(info.frames, data.num_frames, data.sampling_rate, position), view


def read_plain(
    path: Path, indices: NDArray[np.int64], info: VideoInfo, view: SpatialView
) -> Tensor:
    """The clip as float32 (3, T, size, size), normalised: open, one batch of all frames at full
    size, float32, normalise, scale the short side with F.interpolate, crop. One decoder thread.

    The region is the view's, up to whole pixels. Raises DecodeError.
    """
    x = torch.from_numpy(_full_frames(path, indices, info)).permute(0, 3, 1, 2).float() / 255
    x = (x - MEAN) / STD
    scale = view.size / view.height
    height = max(view.size, round(info.height * scale))
    width = max(view.size, round(info.width * scale))
    x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
    top = min(round(view.top * scale), height - view.size)
    left = min(round(view.left * scale), width - view.size)
    x = x[:, :, top : top + view.size, left : left + view.size]
    return (x.flip(-1) if view.flip else x).permute(1, 0, 2, 3)


def _full_frames(path: Path, indices: NDArray[np.int64], info: VideoInfo) -> NDArray[np.uint8]:
    if plain_reader(path, info) == "pyav":
        return read_frames(path, indices, info, "pyav", None)
    return _read_decord(path, indices)


def _read_decord(path: Path, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    import decord

    try:
        decord.logging.set_level(decord.logging.QUIET)
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        return reader.get_batch(indices.tolist()).asnumpy()
    except Exception as error:  # its own error is nothing narrower
        raise DecodeError(path, f"Decord: {type(error).__name__}") from error


class PlainClips(Dataset[Tensor]):
    """The clips that ``TrainingClips`` draws from the same seed, read the plain way."""

    def __init__(
        self, videos: Sequence[tuple[Path, VideoInfo]], data: DataConfig, seed: int
    ) -> None:
        self.videos, self.data, self.seed = videos, data, seed

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: ClipKey) -> Tensor:
        """float32 (3, T, size, size). Raises DecodeError."""
        path, info = self.videos[key.sample]
        indices, view = drawn_clip(info, self.data, self.seed, key)
        return read_plain(path, indices, info, view)
