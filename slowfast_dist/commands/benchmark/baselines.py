"""The plain way to read clips, which scripts take: all frames at full size, then float32 in torch.

To measure ours against: nothing reads clips through this.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from slowfast_dist.config.training import DataConfig
from slowfast_dist.data.clips import dense_indices
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.model.inputs import MEAN, STD
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.packets import SKIPPABLE
from slowfast_dist.video.reader import VideoInfo, read_frames
from slowfast_dist.video.views import SpatialView, ViewConverter, resize_region, training_view


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


# --- the decoding that a clip cannot do without, and the reader's steps one by one ---------------

Times = NDArray[np.int64]

STAGES = ("open", "seek", "decode", "scale", "crop")
"""open the file; seek to the keyframe and read the packets; decode; YUV to RGB; crop and resize."""


def frame_times(path: Path) -> Times | None:
    """Presentation times (frames,) of all packets, sorted; None where they are no frames' times.

    Raises DecodeError.
    """
    with _opened(path) as (container, stream):
        times = [packet.pts for packet in container.demux(stream) if packet.size]
    known = [time for time in times if time is not None]
    return np.array(sorted(known)) if known and len(set(known)) == len(times) else None


def decode_bare(path: Path, times: Times, first: int, last: int) -> int:
    """With PyAV and one thread: open, seek to the keyframe before frame ``first``, decode until
    frame ``last``. Nothing is left out, converted or kept; returns how many frames were decoded.

    Raises DecodeError.
    """
    decoded = 0
    with _opened(path) as (container, stream):
        container.seek(int(times[first]), stream=stream)
        for frame in container.decode(stream):
            decoded += 1
            if frame.pts is not None and frame.pts >= times[last]:
                return decoded
    raise DecodeError(path, f"it ends before frame {last + 1}")


def stage_seconds(
    path: Path, times: Times, indices: NDArray[np.int64], view: SpatialView
) -> dict[str, float]:
    """CPU seconds of each of STAGES for a clip of upright H.264 or the like, with the library calls
    that the reader makes: frames that no other one needs are skipped, unless they are wanted, and
    only the region that is shown is converted. Raises DecodeError.
    """
    wanted = {int(times[index]) for index in indices}
    clock = _Clock()
    with _opened(path, {"skip_frame": "all"}) as (container, stream):
        clock.lap("open")
        packets = _read_packets(container, stream, wanted)
        clock.lap("seek")
        frames = _decode(stream, packets, wanted)
        clock.lap("decode")
        context = stream.codec_context
        converter = ViewConverter(context.height, context.width, 0, view)
        out = np.empty((view.size, view.size, 3), np.uint8)
        for frame in frames:
            region = converter.region_of(frame)
            clock.lap("scale")
            resize_region(region, view, out)
            clock.lap("crop")
        del packets, frames
    clock.lap("open")  # and close
    return clock.seconds


class _Clock:
    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._last = time.process_time()

    def lap(self, stage: str) -> None:
        """What passed since the last lap was ``stage``."""
        now = time.process_time()
        self.seconds[stage] += now - self._last
        self._last = now


@contextmanager
def _opened(
    path: Path, options: dict[str, str] | None = None
) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        with av.open(str(path), options=options or {}) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            yield container, stream
    except (av.FFmpegError, IndexError, OSError, ValueError) as error:
        raise DecodeError(path, str(error)) from error


def _read_packets(
    container: InputContainer, stream: VideoStream, wanted: set[int]
) -> list[av.Packet]:
    """From the keyframe before the first of the ``wanted`` times on, until all are there."""
    container.seek(min(wanted), stream=stream)
    packets, missing = [], set(wanted)
    for packet in container.demux(stream):
        packets.append(packet)
        missing.discard(packet.pts)
        if not missing:
            break
    return packets


def _decode(stream: VideoStream, packets: list[av.Packet], wanted: set[int]) -> list[VideoFrame]:
    context, frames = stream.codec_context, []
    may_skip = context.codec.canonical_name in SKIPPABLE
    for packet in [*packets, None]:
        if packet is not None:
            skip = may_skip and packet.pts not in wanted
            context.skip_frame = "NONREF" if skip else "DEFAULT"
        frames += [frame for frame in context.decode(packet) if frame.pts in wanted]
    if len(frames) != len(wanted):
        raise DecodeError(Path(stream.container.name), "frames are missing")
    return frames
