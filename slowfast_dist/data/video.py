"""Frames of one video file: the right ones, or a DecodeError that says why not.

Decord reads the files in which it finds the right frames (``VideoInfo.decord_exact``); PyAV reads
the others by their packets.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

from slowfast_dist.data.packets import (
    DecodeError,
    decode_all,
    decode_frames,
    index_packets,
    open_video,
)
from slowfast_dist.data.transforms import SpatialView, apply_view

__all__ = ["DecodeError", "VideoInfo", "read_frames"]

CHUNK = 4
"""Frames that Decord decodes at once: at 1080p this peaks at a third of a whole clip's memory."""

_DECORD_PLACE = re.compile(r"\[\d+:\d+:\d+\] \S+:\d+: |Check failed: ")
"""Time and place in Decord's source, with which its messages begin."""

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds, as the probe found it."""

    frames: int
    """Frames that a decode from the beginning to the end gives."""
    fps: float
    """Average frames per second; 0 where the file does not say."""
    width: int
    """Pixels, as displayed: after the rotation."""
    height: int
    rotation: int
    """Degrees anticlockwise from the stored to the displayed frame: 0, 90, 180 or 270."""
    codec: str
    """FFmpeg's name, as h264, hevc or av1."""
    decord_exact: bool
    """Whether Decord returns the frames that it is asked for."""
    by_packets: bool = True
    """Whether the times of the packets are those of the frames; else frames are counted."""


def read_frames(
    path: Path,
    indices: NDArray[np.int64],
    info: VideoInfo,
    decoder: Literal["auto", "decord", "pyav"],
    view: SpatialView | None,
) -> Frames:
    """The frames at ``indices`` (T,), as displayed: uint8 RGB (T, H, W, 3), (T, size, size, 3)
    with a view.

    A repeated index is decoded once. Raises DecodeError for whatever is wrong with the file.
    """
    wanted, inverse = np.unique(indices, return_inverse=True)
    assert len(wanted) and wanted[0] >= 0 and wanted[-1] < info.frames, (path, indices, info)
    size = (info.height, info.width) if view is None else (view.size, view.size)
    frames = np.empty((len(wanted), *size, 3), np.uint8)
    if decoder == "decord":
        _refuse_endless(path, info)
        _read_decord(path, wanted, info, view, frames)
    elif decoder == "pyav" or not info.decord_exact:
        _read_pyav(path, wanted, info, view, frames)
    else:
        try:
            _read_decord(path, wanted, info, view, frames)
        except DecodeError:  # Decord cannot, say, frames under 32 pixels or WebM without a duration
            _read_pyav(path, wanted, info, view, frames)
    same = len(wanted) == len(indices) and bool((inverse == np.arange(len(indices))).all())
    return frames if same else frames[inverse]


def _place(frames: Frames, view: SpatialView | None) -> Frames:
    return frames if view is None else apply_view(frames, view)


def _read_pyav(
    path: Path, wanted: NDArray[np.int64], info: VideoInfo, view: SpatialView | None, out: Frames
) -> None:
    slots = {int(number): slot for slot, number in enumerate(wanted)}
    with open_video(path) as (container, stream):
        index = index_packets(path, container, stream, keep=True)
        decoded: Iterator[tuple[int, av.VideoFrame]]
        if not info.by_packets:
            decoded = enumerate(decode_all(path, index))
        elif len(index.order) == info.frames:
            decoded = decode_frames(path, stream.codec_context, index, list(slots))
        else:
            raise DecodeError(path, f"{len(index.order)} frames, {info.frames} when it was probed")
        for number, frame in decoded:
            if number in slots:
                out[slots.pop(number)] = _place(to_rgb(frame, info)[None], view)[0]
            if not slots:
                return
        raise DecodeError(path, f"frame {min(slots) + 1} of {info.frames} is gone since the probe")


def _read_decord(
    path: Path, wanted: NDArray[np.int64], info: VideoInfo, view: SpatialView | None, out: Frames
) -> None:
    size = (info.height, info.width)
    first = 0
    for chunk in _decord_chunks(path, wanted, info):
        if chunk.shape[1:3] != size:
            raise DecodeError(path, f"Decord: frames of {chunk.shape[1:3]} in place of {size} px")
        out[first : first + len(chunk)] = _place(chunk, view)
        first += len(chunk)


def _decord_chunks(path: Path, wanted: NDArray[np.int64], info: VideoInfo) -> Iterator[Frames]:
    try:
        import decord  # there is none for some platforms, where PyAV reads everything

        decord.logging.set_level(decord.logging.QUIET)
        # Opened here and let go at the end: an idle reader goes on decoding into memory, and one
        # that a loader's process inherits does not work.
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        if info.decord_exact and len(reader) != info.frames:
            raise ValueError(f"{len(reader)} frames in place of {info.frames}")
        for first in range(0, len(wanted), CHUNK):
            yield reader.get_batch(wanted[first : first + CHUNK].tolist()).asnumpy()
    except ImportError as error:
        raise DecodeError(path, "Decord is not installed: use --data.decoder auto") from error
    except Exception as error:  # its own error is nothing narrower, and it asserts
        line = _DECORD_PLACE.sub("", str(error).partition("\n")[0])
        raise DecodeError(path, f"Decord: {line or type(error).__name__}") from error


def _refuse_endless(path: Path, info: VideoInfo) -> None:
    """Decord never comes back from an MPEG transport stream, whatever it is named."""
    if not info.decord_exact:
        with open_video(path) as (container, _):
            if "mpegts" in container.format.name:
                raise DecodeError(path, "MPEG-TS, on which Decord hangs: use --data.decoder auto")


def to_rgb(frame: av.VideoFrame, info: VideoInfo) -> Frames:
    """uint8 (H, W, 3) as displayed; a frame of another size than the first is scaled to it."""
    turned = info.rotation in (90, 270)
    width, height = (info.height, info.width) if turned else (info.width, info.height)
    # More threads than one only take the CPU from the loader's other processes.
    rgb = frame.reformat(width=width, height=height, format="rgb24", threads=1).to_ndarray()
    return np.rot90(rgb, info.rotation // 90)
