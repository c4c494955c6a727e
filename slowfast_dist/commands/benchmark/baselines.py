"""The plain way to read clips, which scripts take: all frames at full size, then float32 in torch.

To measure ours against: nothing reads clips through this.
"""

import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from slowfast_dist.commands.benchmark.output import Laps
from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.clips import clip_indices
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.model.description import MEAN, STD
from slowfast_dist.video.container import DecodeError, open_video
from slowfast_dist.video.conversion.converter import ViewConverter
from slowfast_dist.video.packets import SKIPPABLE, index_packets
from slowfast_dist.video.reader import VideoInfo, read_frames
from slowfast_dist.video.views import SpatialView, resize_region, training_view

SEED = 0
"""From which all ways to read draw their clips."""

STAGES = ("open", "seek", "decode", "scale", "crop")
"""open the file; seek to the keyframe and read the packets; decode; YUV to RGB; crop and resize."""

Times = NDArray[np.int64]


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
    info: VideoInfo, data: DataConfig, key: ClipKey
) -> tuple[NDArray[np.int64], SpatialView]:
    """The frames (T,) and the region that ``TrainingClips`` draws for the key from SEED."""
    rng = np.random.default_rng([SEED, key.epoch, key.sample])
    position = float(rng.random())
    view = training_view(info.height, info.width, data, rng, info.pixel_aspect)
    return clip_indices(info, data, position), view


def _read_decord(path: Path, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    import decord

    try:
        decord.logging.set_level(decord.logging.QUIET)
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        return reader.get_batch(indices.tolist()).asnumpy()
    except Exception as error:  # its own error is nothing narrower
        raise DecodeError(path, f"Decord: {type(error).__name__}") from error


class PlainClips(Dataset[Tensor]):
    """The clips that ``TrainingClips`` draws from SEED, read the plain way: open, one batch of all
    frames at full size, float32, normalise, scale the short side with F.interpolate, crop. One
    decoder thread. The region is the view's, up to whole pixels."""

    def __init__(self, videos: VideoTable, data: DataConfig) -> None:
        self.videos, self.data = videos, data

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: ClipKey) -> Tensor:
        """float32 (3, T, size, size). Raises DecodeError."""
        path, info = self.videos.path(key.sample), self.videos.info(key.sample)
        indices, view = drawn_clip(info, self.data, key)
        if plain_reader(path, info) == "pyav":
            frames = read_frames(path, indices, info, "pyav", None)
        else:
            frames = _read_decord(path, indices)
        x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
        x = (x - MEAN) / STD
        down, across = view.size / view.height, view.size / view.width
        height = max(view.size, round(info.height * down))
        width = max(view.size, round(info.width * across))
        x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
        top = min(round(view.top * down), height - view.size)
        left = min(round(view.left * across), width - view.size)
        x = x[:, :, top : top + view.size, left : left + view.size]
        return (x.flip(-1) if view.flip else x).permute(1, 0, 2, 3)


# --- the decoding that a clip cannot do without, and the reader's steps one by one ---------------


@cache
def frame_times(path: Path, info: VideoInfo) -> Times | None:
    """Presentation times (frames,), sorted; None where the packets' times are no frames' times.

    Raises DecodeError.
    """
    with open_video(path) as (container, stream):
        times = np.sort(index_packets(path, container, stream).times)
    return times if len(times) == info.frames else None


def decode_bare(path: Path, times: Times, first: int, last: int) -> int:
    """With PyAV and one thread: open, seek to the keyframe before frame ``first``, decode until
    frame ``last``. Nothing is left out, converted or kept; returns how many frames were decoded.

    Raises DecodeError.
    """
    with open_video(path, strict=False) as (container, stream):
        container.seek(int(times[first]), stream=stream)
        for decoded, frame in enumerate(container.decode(stream), 1):
            if frame.pts is not None and frame.pts >= times[last]:
                return decoded
    raise DecodeError(path, f"it ends before frame {last + 1}")


def stage_seconds(
    path: Path, info: VideoInfo, times: Times, indices: NDArray[np.int64], view: SpatialView
) -> dict[str, float]:
    """CPU seconds of each of STAGES for a clip of upright H.264 or the like, with the library calls
    that the reader makes: frames that no other one needs are skipped, unless they are wanted, and
    only the region that is shown is converted. Raises DecodeError.
    """
    wanted = {int(times[index]) for index in indices}
    lap = Laps(time.process_time)
    with open_video(path, known=True) as (container, stream):
        context = stream.codec_context
        context.reorder_depth = info.reorder_depth
        lap("open")
        container.seek(min(wanted), stream=stream)
        packets, missing = [], set(wanted)
        for read in container.demux(stream):
            packets.append(read)
            missing.discard(read.pts)
            if not missing:
                break
        lap("seek")
        frames, may_skip = [], context.codec.canonical_name in SKIPPABLE
        for packet in [*packets, None]:
            if packet is not None:
                skip = may_skip and packet.pts not in wanted
                context.skip_frame = "NONREF" if skip else "DEFAULT"
            frames += [frame for frame in context.decode(packet) if frame.pts in wanted]
        if len(frames) != len(wanted):
            raise DecodeError(path, "frames are missing")
        lap("decode")
        converter = ViewConverter(context.height, context.width, 0, view)
        out = np.empty((view.size, view.size, 3), np.uint8)
        for frame in frames:
            region = converter.region_of(frame)
            lap("scale")
            resize_region(region, view, out)
            lap("crop")
        del packets, frames
    lap("open")  # and close
    return lap.parts
