"""Frames of a camera or of a live address as they come, by a process that may hang.

A name server, a protocol that knows no time limit, a driver: what waits in FFmpeg for ever ends
with its process, which the one that asked for it ends once it has been silent for too long.
"""

import errno
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.system.child import Channel, Ended, Message, StreamProcess
from slowfast_dist.video.container import FAULTS, MAX_PIXELS, message
from slowfast_dist.video.conversion.converter import ViewConverter
from slowfast_dist.video.pictures import picture_facts
from slowfast_dist.video.reader import Frames
from slowfast_dist.video.views import evaluation_view, region_of, used_aspect

LATE_SECONDS = 1.0
"""A source that is read so far behind its own pace is caught up with: until the lateness is half of
that, only keyframes are decoded."""

END = "end"


def live_frames(
    address: str, data: DataConfig, crops: int, timeout: float,
    deliver: Callable[[Message | Ended], None],
) -> StreamProcess:  # fmt: skip
    """Start a process that sends the frames of a camera (its number) or an address.

    Messages: {"ready": true} before anything is opened; {"pictures": the fields of `picture_facts`}
    before the first frame; for each frame {"time": seconds by the
    source's own clock, "arrived": of time.monotonic, "late": seconds by which it is read behind the
    source's pace, "skipped": frames left undecoded so far}, with its views uint8 (crops, size,
    size, 3); at last {"end": true}, or {"failed": reason}, "" where it took longer than
    ``timeout`` seconds.
    Raises UserError for a camera that is not there.
    """
    if address.isdecimal():
        how = _camera(int(address))
    else:
        options = {"fpsprobesize": "0"}  # twenty frames would be waited for to tell the rate
        if address.lower().startswith(("rtsp:", "rtsps:")):
            options["rtsp_flags"] = "prefer_tcp"  # over UDP pictures get lost, or none come through
        how = {"file": address, "format": None, "options": options}
    names = ("resize", "short_side", "crop_size", "pixel_aspect", "crop_box")
    shown = {name: getattr(data, name) for name in names}
    request = {**how, "timeout": timeout, "crops": crops, "data": shown}
    return StreamProcess(send_live, request, deliver)


def _camera(number: int) -> dict[str, Any]:
    """How the camera of that number is opened. Raises UserError where there is none."""
    if sys.platform == "darwin":
        options = {"framerate": "30", "pixel_format": "uyvy422"}  # it has no defaults
        return {"file": str(number), "format": "avfoundation", "options": options}
    if sys.platform == "win32":
        return {"file": str(number), "format": "vfwcap", "options": {}}
    device = f"/dev/video{number}"
    if not os.path.exists(device):
        there = sorted(name for name in os.listdir("/dev") if name.startswith("video"))
        found = f"there are {', '.join(there)}" if there else "this machine has no camera"
        raise UserError(f"INPUT {number}: there is no camera {device}: {found}")
    return {"file": device, "format": "v4l2", "options": {}}


# --- in the process ------------------------------------------------------------------------------


def send_live(channel: Channel, request: dict[str, Any]) -> None:
    """What the process of `live_frames` runs."""
    channel.send({"ready": True})
    frames, heard = 0, time.monotonic()
    try:
        _find_host(request["file"])
        with av.open(
            request["file"], format=request["format"], timeout=request["timeout"],
            options={**request["options"], "max_pixels": str(MAX_PIXELS)},
            metadata_errors="replace",
        ) as container:  # fmt: skip
            data = DataConfig(**request["data"])
            for header, views in _frames(container, data, request["crops"]):
                channel.send(header, views)
                frames, heard = frames + (views is not None), time.monotonic()
    except FAULTS as error:
        if isinstance(error, BrokenPipeError) and not isinstance(error, av.FFmpegError):
            raise  # nobody listens any more
        late = time.monotonic() - heard > 0.9 * request["timeout"]  # whatever FFmpeg calls it
        if late or isinstance(error, av.ExitError):
            channel.send({"failed": ""})
            return
        # How FFmpeg says that a server which did not announce a length has closed the connection;
        # or that an mp4 has its index at its end, on a server that sends from the beginning only.
        broken = isinstance(error, OSError) and error.errno == errno.EIO
        if not (frames and broken):
            hint = ""
            if broken and request["file"].startswith("http"):
                hint = " (a video file on a server? download it, and give the file)"
            channel.send({"failed": message(error) + hint})
            return
    channel.send({END: True})


def _find_host(address: str) -> None:
    """FFmpeg does not say that there is no such host. Raises ValueError."""
    try:
        host = urlsplit(address).hostname
        if host:
            socket.getaddrinfo(host, None)
    except OSError as error:
        raise ValueError(f"host {host}: {error.strerror or error}") from error


def _frames(
    container: InputContainer, data: DataConfig, crops: int
) -> Iterator[tuple[dict[str, Any], Frames | None]]:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise ValueError("it sends no pictures")
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    stream.thread_type = "SLICE"  # those by frames hold as many frames back
    converters: list[ViewConverter] = []
    out = np.empty((crops, data.crop_size, data.crop_size, 3), np.uint8)
    pace = Pace(is_file=container.duration is not None)
    for packet in container.demux(stream):
        for frame in _decoded(stream, packet, pace):
            if frame.is_corrupt:  # joined in the middle, or lost on the way
                pace.skipped += 1
                continue
            if not converters:
                facts, converters = _converters(stream, frame, data, crops)
                yield {"pictures": facts}, None
            arrived, own = time.monotonic(), frame.time
            late = pace.of(own, arrived)
            for converter, target in zip(converters, out, strict=True):
                converter.write(frame, target)
            own = arrived if own is None else float(own)
            header = {"time": own, "arrived": arrived, "late": late, "skipped": pace.skipped}
            yield header, out


def _decoded(stream: VideoStream, packet: Packet, pace: "Pace") -> Iterator[av.VideoFrame]:
    """The frames that a packet completes; none of a damaged one."""
    if pace.behind and packet.size and not packet.is_keyframe:
        pace.skipped += 1
        if packet.pts is not None and packet.time_base:
            pace.of(float(packet.pts * packet.time_base), time.monotonic())
        return
    try:
        yield from stream.codec_context.decode(packet if packet.size else None)
    except (av.InvalidDataError, av.EOFError):
        pace.skipped += 1


def _converters(
    stream: VideoStream, frame: av.VideoFrame, data: DataConfig, crops: int
) -> tuple[dict[str, Any], list[ViewConverter]]:
    """What the pictures are, by the first one, and what makes views of them."""
    turns = round(frame.rotation / 90) % 4 if abs(frame.rotation) <= 360 else 0
    height, width = frame.height, frame.width
    if turns % 2:
        height, width = width, height
    facts = picture_facts(stream, frame, 90 * turns)
    aspect = used_aspect(facts["stated_aspect"])
    region = None
    if data.crop_box is not None:
        try:
            region, _ = region_of(data.crop_box, height, width, aspect)
        except ValueError as error:
            raise ValueError(f"the region of interest (crop_box) {error}") from None
    views = [
        evaluation_view(height, width, data, crop, crops, aspect, region) for crop in range(crops)
    ]
    return facts, [ViewConverter(height, width, 90 * turns, view) for view in views]


class Pace:
    """How far behind a source it is read. ``is_file``: what knows its end is none that happens now;
    it is not read faster than it plays."""

    def __init__(self, is_file: bool) -> None:
        self.skipped = 0
        self.behind = False
        """Whether to leave out what can be left out."""
        self._is_file = is_file
        self._least: float | None = None
        self._last = 0.0

    def of(self, own: float | None, now: float) -> float:
        """Seconds by which a frame of the source's time ``own`` comes late at ``now``: later than
        the quickest one so far. Waits for a file's time to come."""
        if own is None:
            return 0.0
        if self._least is None or abs(own - self._last) > 10:  # the source's clock was set anew
            self._least = now - own
        self._last = own
        if self._is_file:
            time.sleep(max(0.0, own + self._least - now))
            now = time.monotonic()
        self._least = min(self._least, now - own)
        late = now - own - self._least
        self.behind = late > LATE_SECONDS or (self.behind and late > LATE_SECONDS / 2)
        return late
