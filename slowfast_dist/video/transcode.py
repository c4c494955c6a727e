"""One video rewritten for fast loading: small, in H.264, a few frames from keyframe to keyframe.

Frame i of the result is frame i of the source, as the probe counts the frames and training reads
them: upright, at its own time, in its own colours, only smaller.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from slowfast_dist.system import signals
from slowfast_dist.system.workers import serve
from slowfast_dist.video.container import DecodeError, open_video
from slowfast_dist.video.packets import PacketIndex, decode_all, decode_frames, index_packets
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import VideoInfo, read_frames
from slowfast_dist.video.writer import WriteError, _Disk, _Writer

KEY_INTERVAL = 16
"""Frames from one keyframe to the next. Short side 320, a clip of 32 frames at rate 2, intervals of
4, 8, 12, 16, 24 and 32: 40, 39, 35, 33, 35 and 34 ms of CPU time (give or take 2), 1.7, 1.1, 1.0,
.83, .75 and .67 MB for 10 s. Clips that are spread over the whole video want few."""

ENCODER: Mapping[str, str] = MappingProxyType(
    {
        "preset": "veryfast",
        "tune": "fastdecode",
        "crf": "23",
        "x264-params": "bframes=3:b-adapt=0:b-pyramid=0",
    }
)
"""Options of x264. fastdecode (no CABAC, no deblocking) nearly halves the time to read a clip, from
63 ms to 36. Of 3 B-frames to which nothing refers, those that a clip leaves out are not decoded: 33
ms; without B-frames 38. crf 23 takes .7 of the disk of crf 20 for 1.2 to 2 dB; the preset medium
takes half as much time again to encode, up to twice, for .7 to 1.2 dB."""

VERSION = 1
"""Of what is made of a file: raise it with any change to the pixels or the keyframes."""

CHUNK = 64
"""Frames that are decoded from one start of the decoder on, at least: it starts at keyframes, as
reading does, and what comes out of order waits no longer than that."""


@dataclass(frozen=True)
class Transcoded:
    """What was written: ``size`` in bytes, the rest as in VideoInfo."""

    frames: int
    width: int
    height: int
    size: int


def transcode(
    source: Path,
    target: Path,
    short_side: int,
    key_interval: int = KEY_INTERVAL,
    encoder: Mapping[str, str] = ENCODER,
) -> Transcoded:
    """Write all frames of ``source`` to ``target``, an mp4 without sound, and read it again.

    The result has closed groups of ``key_interval`` frames, yuv420p, the time stamps of the source
    from 0 on, its colour matrix in limited range. ``target`` is on the disk on return; after an
    error it holds anything. Raises DecodeError for a source that does not decode from its first
    frame to the last, WriteError where the result cannot be written.
    """
    info = probe_file(source)
    size = prepared_size(info.width, info.height, short_side)
    written = 0
    options = {
        "g": str(key_interval),
        "keyint_min": str(key_interval),
        "sc_threshold": "0",  # no keyframes beside these
        "forced-idr": "1",
        **encoder,
    }
    with _Disk(target) as disk, open_video(source) as (container, stream):
        index = index_packets(source, container, stream, keep=True)
        try:
            with _Writer(disk, stream, info, size, options) as writer:
                for frame in _frames(source, stream, index, info):
                    writer.write(frame)
                    written += 1
        except av.FFmpegError as error:
            what = f"cannot be written as H.264 of {size[0]} x {size[1]} pixels"
            raise DecodeError(source, f"{what} ({error.strerror})") from error
        disk.sync()
    if written != info.frames:
        raise DecodeError(source, f"{written} frames decode, the probe found {info.frames}")
    result = probe_file(target)
    if (result.frames, result.width, result.height) != (written, *size):
        raise DecodeError(source, f"its copy holds {result.frames} frames in place of {written}")
    read_frames(target, np.array([0, written - 1]), result, "pyav", None)
    return Transcoded(written, *size, target.stat().st_size)


def prepared_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height of the result: never larger than the source, but for what follows.

    4:2:0 has a colour for every 2 x 2 pixels, so both become the nearest even numbers, of two
    equally near the larger: the whole picture is stretched by less than a pixel, nothing is cut.
    """
    scale = min(1.0, short_side / min(width, height))
    return _even(width * scale), _even(height * scale)


def _even(length: float) -> int:
    return max(2, 2 * int(length / 2 + 0.5))


def _frames(
    path: Path, stream: VideoStream, index: PacketIndex, info: VideoInfo
) -> Iterator[VideoFrame]:
    """All frames in their order, decoded as those of a clip are."""
    if not info.by_packets:
        yield from decode_all(path, index)
        return
    for first, end in _chunks(index):
        waiting: dict[int, VideoFrame] = {}
        for number, frame in decode_frames(path, stream.codec_context, index, range(first, end)):
            waiting[number] = frame
            while first in waiting:
                yield waiting.pop(first)
                first += 1


def _chunks(index: PacketIndex) -> Iterator[tuple[int, int]]:
    """Frames (first, end) of runs that begin at keyframes, CHUNK frames or more each."""
    first = 0
    for start in np.flatnonzero(np.isin(index.order, index.keys)).tolist():
        if start - first >= CHUNK:
            yield first, start
            first = start
    yield first, len(index.order)


# Processes that transcode files, or hash them, for `probe_pool.ask_apart`.


_ROOM = "slowfast_dist.video.transcode"

WORKER = (sys.executable, "-c", f"from {_ROOM} import serve_transcode; serve_transcode()")
"""A transcoding process; its arguments: a folder for what it writes, and the short side."""

HASHER = (sys.executable, "-c", f"from {_ROOM} import serve_hash; serve_hash()")
"""A process that answers with [the sha256 of a file]."""


def part_name(source: Path) -> str:
    """Under which a transcoding process leaves the result for ``source`` in its folder."""
    return hashlib.sha256(os.fsencode(source)).hexdigest() + ".mp4"


def file_hash(path: Path) -> str:
    """SHA-256 of the content, in hexadecimal. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def serve_transcode() -> None:
    """What a transcoding process runs.

    It answers with Transcoded's fields and the source's sha256, with the reason why the source
    cannot be read (a str), or with {"write_error": reason}.
    """
    signals.leave_to_parent()
    folder, short_side = Path(sys.argv[1]), int(sys.argv[2])

    def answer(path: Path) -> dict[str, Any] | str:
        part = folder / part_name(path)
        try:
            before = path.stat()
            digest = file_hash(path)
            result = transcode(path, part, short_side)
            after = path.stat()
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise DecodeError(path, "it changed while it was read")
            return {**asdict(result), "sha256": digest}
        except WriteError as error:
            part.unlink(missing_ok=True)
            return {"write_error": str(error)}
        except DecodeError as error:
            part.unlink(missing_ok=True)
            return error.reason
        except OSError as error:
            part.unlink(missing_ok=True)
            return error.strerror or str(error)

    serve(answer)


def serve_hash() -> None:
    """What a process runs that answers with the sha256 of files, "" where one cannot be read."""
    signals.leave_to_parent()

    def answer(path: Path) -> list[str]:
        try:
            return [file_hash(path)]
        except OSError:
            return [""]

    serve(answer)
