"""An uploaded video on its way to a temporary file: bounded in size and time, never left behind."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request

from slowfast_dist.web.temporary import TemporaryVideo

SILENCE_SECONDS = 15.0
"""Seconds without a byte after which an upload is given up: longer than a phone takes to change
from one network to another."""

MIN_BYTES_PER_SECOND = 32_000
"""Average rate below which an upload is given up, as each one occupies a place in the queue: a
quarter of what the slowest of today's mobile networks give."""

HEAD_BYTES = 4096
"""Length of a file's beginning in which its format is looked for; the signatures of `_BOXES` and
others lie within 200 bytes."""


class Upload:
    """A temporary file for one video, gone with `close` or with this process, however that ends;
    the processes that decode it open it through this one. Raises HTTPException (507) where no file
    can be made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.size = 0
        with _disk_errors():
            self._kept = TemporaryVideo()
        self.path = self._kept.path

    def write(self, data: bytes) -> None:
        with _disk_errors():
            self._kept.file.write(data)
        self.size += len(data)

    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def finish(self) -> bytes:
        """What was written is in the file from now on; returns its first HEAD_BYTES."""
        with _disk_errors():
            self._kept.file.flush()
            with open(self.path, "rb", buffering=0) as file:
                return file.read(HEAD_BYTES)

    def close(self) -> None:
        """Delete it; a second time does nothing."""
        self._kept.close()


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        text = f"the server cannot keep the video: {error.strerror}"
        raise HTTPException(507, text) from error


def check_headers(headers: Mapping[str, str], max_bytes: int) -> None:
    """Raise HTTPException (413, 415) for an upload whose headers already tell that it will not be
    taken."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise HTTPException(
            415, "a form: send the video itself as the body, as curl --data-binary @FILE "
            "-H 'Content-Type: application/octet-stream' does",
        )  # fmt: skip
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "a body that is compressed: send the video as it is")
    if int(headers.get("content-length", "0")) > max_bytes:  # digits: the HTTP parser saw to it
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> HTTPException:
    text = f"larger than the {max_bytes / 1e6:g} MB taken here: give a smaller video"
    return HTTPException(413, text)


async def receive_upload(request: Request, upload: Upload, max_bytes: int) -> None:
    """Stream the body of a request into ``upload``, and see that it may be a video.

    The size is counted here, whatever the headers promised: Starlette's own limit (max_body_size of
    1.10) answers in plain text. Raises HTTPException for a body that is too large (413), too slow
    (408), empty (400), or no video (415); ClientDisconnect where it breaks off.
    """
    clock = asyncio.get_running_loop().time
    start, too_slow = clock(), False
    try:
        async with asyncio.timeout(SILENCE_SECONDS) as timeout:
            async for data in request.stream():
                if too_slow and data:  # not where only the end was still to come
                    text = f"slower than {MIN_BYTES_PER_SECOND / 1000:g} kB/s: given up"
                    raise HTTPException(408, text)
                if upload.size + len(data) > max_bytes:
                    raise _too_large(max_bytes)
                upload.write(data)
                seconds = clock() - start
                slow = upload.size < seconds * MIN_BYTES_PER_SECOND
                too_slow = seconds > SILENCE_SECONDS and slow
                timeout.reschedule(clock() + SILENCE_SECONDS)
    except TimeoutError:
        text = f"nothing came for {SILENCE_SECONDS:g} s: the upload was given up"
        raise HTTPException(408, text) from None
    if not upload.size:
        raise HTTPException(400, "the file is empty: choose a video")
    if not is_video_format(upload.finish()):
        raise HTTPException(
            415, "not a video: give one as mp4, mov, mkv, webm, avi, MPEG, flv, wmv, mxf, ogv or "
            "gif",
        )


_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"sidx"}
_BEGINNINGS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\x00\x00\x01",  # MPEG program and elementary streams
    b"\x00\x00\x00\x01",  # H.264 and HEVC streams
    b"FLV\x01", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"OggS", b"GIF8", b"DKIF",
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02",  # MXF
    b"\xb7\xd8\x00\x20\x37\x49\xda\x11",  # WTV
    b"\x00\x00\x00\x00\x01\xbc",  # GXF
    b"\x1f\x07\x00", b"\x12\x00\x0a",  # DV, AV1
    b".RMF", b"nut/multimedia container", b"YUV4MPEG2 ", b"BBCD", b"DHAV", b"DAHUA", b"NSVf",
    b"NSVs", b"NuppelVideo", b"MythTVVideo", b"BIK", b"SMK2", b"SMK4",
)  # fmt: skip


def is_video_format(head: bytes) -> bool:
    """Whether a file that begins so is in one of the formats that hold videos.

    This comes before FFmpeg sees the file: among what it opens besides are playlists and session
    descriptions, which would make it read other files, or the network, at a stranger's wish.
    """
    if head[4:8] in _BOXES or head.startswith(_BEGINNINGS):
        return True
    if head.startswith(b"RIFF") and head[8:11] in (b"AVI", b"AMV"):
        return True
    # MPEG-TS: packets of 188 bytes, or 192 with a time before each
    return head[:1] + head[188:189] == b"GG" or head[4:5] + head[196:197] == b"GG"
