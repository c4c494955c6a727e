"""A video file opened through PyAV, strict about damage, or the reason why it cannot be."""

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

av.logging.set_level(None)  # errors come as exceptions; FFmpeg's own lines would flood the log

MAX_PIXELS = 8192 * 4608
"""Pixels of the largest picture that is read: 8K in all its shapes (7680 x 4320, 8192 x 4320,
8192 x 4608). A file of kilobytes that claims more would take gigabytes: the decoder keeps up to 17
such pictures."""

_INDIRECT_FORMATS = frozenset({
    "avisynth", "concat", "dash", "hls", "image2", "imf", "lavfi", "rtp", "rtsp", "sdp",
    "vapoursynth", "webm_dash_manifest",
})  # fmt: skip
"""Formats of lists, scripts and descriptions, by which a file makes FFmpeg read other files, or the
network. Whatever its name is, it may come from a stranger."""

ENDINGS = {
    "mov,mp4,m4a,3gp,3g2,mj2":
        "mp4 m4v mov 3gp 3g2 3gpp 3gp2 f4v qt mj2 mjp2 mp4v mpg4 ismv insv lrv 360 mqv",
    "matroska,webm": "mkv webm mk3d",
    "avi": "avi divx xvid amv",
    "mpeg": "mpg mpeg mpe m2p vob vro mod evo",
    "mpegts": "ts m2ts mts m2t trp tp tod",
    "asf": "wmv asf wm dvr-ms",
    "flv": "flv",
    "swf": "swf",
    "ogg": "ogv ogm",
    "rm": "rm rmvb",
    "mxf": "mxf",
    "gxf": "gxf",
    "nut": "nut",
    "nuv": "nuv",
    "nsv": "nsv",
    "wtv": "wtv",
    "gif": "gif",
    "apng": "apng",
    "bink": "bik",
    "smk": "smk",
    "flic": "flc fli",
    "vivo": "viv",
    "dhav": "dav",
    "cine": "cine",
    "ivf": "ivf",
    "yuv4mpegpipe": "y4m",
    "dv": "dv dif",
    "h264": "h264 264 avc h26l",
    "hevc": "hevc h265 265",
    "vvc": "vvc h266 266",
    "obu": "obu",
    "mpegvideo": "m2v m1v mpv mp2v mpv2",
    "h263": "h263",
    "h261": "h261",
    "mjpeg": "mjpeg mjpg",
    "dirac": "drc",
}  # fmt: skip
"""Endings of the files that are taken for videos, by the name of FFmpeg's demuxer that reads them.

Left out: what mostly is something else (dat, bin, img, ogg, m4a, avif, heic, webp), raw
pictures that do not tell their size (yuv, rgb), lists, and what this FFmpeg does not decode."""

NO_OTHER_FILES = {
    "format_whitelist": ",".join(sorted(av.formats_available - _INDIRECT_FORMATS)),
    "protocol_whitelist": "file",
}
"""Options for opening a file so that FFmpeg reads nothing else; they cost no measurable time."""

FAULTS = (av.FFmpegError, OSError, ValueError, RuntimeError, MemoryError, IndexError)
"""What a broken file makes PyAV raise; IndexError for a packet of a stream that came up only while
the file was read."""


class DecodeError(Exception):
    """A video that cannot be read: ``path`` and a ``reason`` for people."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)  # both are arguments, so that it survives pickling
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@contextmanager
def open_video(
    path: Path, strict: bool = True, known: bool = False
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The opened file and its main video stream, set to one thread and, if strict, to fail on
    damage.

    ``known``: opened without decoding its first frames; the context's ``reorder_depth`` then must
    be set to what the probe found, or FFmpeg may leave frames out.
    Raises DecodeError for a file that cannot be opened, for pictures of more than MAX_PIXELS, and
    for what PyAV raises in the block.
    """
    # Not for a file that was probed: opened again and again with it, FFmpeg holds more memory.
    limits = {} if known else {"max_pixels": str(MAX_PIXELS)}
    options, format = NO_OTHER_FILES | limits, None
    try:
        if known:
            # To decode frames for what the probe found costs 1 ms (340 x 256) to 10 (1920 x 1080).
            options["skip_frame"] = "all"
            with open(path, "rb", buffering=0) as file:
                # Told that it is an mp4, FFmpeg need not ask each of its formats; and the headers
                # of one say it all, so that no more than one packet is read.
                if file.read(8)[4:] == b"ftyp":
                    format, options["probesize"] = "mp4", "32"
        url = file_url(path)
        container = av.open(url, format=format, metadata_errors="replace", options=options)
    except FAULTS as error:
        raise DecodeError(path, _why_not_opened(path, error)) from error
    with container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            raise DecodeError(path, "no video stream (only sound, or a cover picture)")
        if stream.codec_context is None:
            raise DecodeError(path, "its video codec is unknown to this build of FFmpeg")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:  # one that grows further on is refused by the decoder
            raise DecodeError(path, f"pictures of {width} x {height}: larger than can be read")
        # Without "explode" FFmpeg hides damage: it invents the missing parts of a picture.
        stream.codec_context.options = limits | ({"err_detect": "explode"} if strict else {})
        stream.codec_context.thread_count = 1
        try:
            yield container, stream
        except FAULTS as error:
            raise DecodeError(path, message(error)) from error


def file_url(path: Path) -> str:
    """The file's name as FFmpeg takes it: ``12:30.mp4`` alone would be of the protocol ``12``."""
    return f"file:{path}"


def message(error: Exception) -> str:
    """What went wrong, in FFmpeg's or the system's words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _why_not_opened(path: Path, error: Exception) -> str:
    """What is wrong with a file that FFmpeg refuses, from its first bytes."""
    try:
        with open(path, "rb") as file:
            head = file.read(1024)
    except (OSError, ValueError) as problem:
        return message(problem)
    if not head:
        return "empty file"
    if head.startswith(b"version https://git-lfs"):
        return "Git LFS pointer, not a video: run git lfs pull"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not a video: was its download refused?"
    if not head.strip(b"\0"):
        return "filled with zeros: was its download or copy interrupted?"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return "text file, not a video"
    if head[4:8] == b"ftyp" and not _moov(path):
        return "mp4 without its index (moov): cut off while it was recorded or downloaded"
    return f"not a video that FFmpeg can open ({message(error)})"


# --- whole files that FFmpeg cannot read, and calls invalid --------------------------------------

ENCRYPTED = "encrypted (as MPEG-DASH's CENC does): it cannot be read without its key"

MOST_MOOV_BYTES = 64 * 1024**2
"""Bytes of the largest index of an mp4 that is looked into: that of some days of video."""

_FOLDERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"dinf", b"rmra", b"rmda", b"stbl"})
"""Boxes of boxes (ISO/IEC 14496-12, and QuickTime's of reference movies)."""


def obstacle(path: Path) -> str | None:
    """By its name what keeps a whole file from being read; None for any other fault."""
    try:
        with open(path, "rb") as file:
            head = file.read(32)
        if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and head[20] & 2:
            return "an animated WebP, which this build of FFmpeg cannot read: convert it to mp4"
        boxes = list(_boxes(_moov(path)))
    except (OSError, ValueError, IndexError):
        return None
    tracks = [list(_boxes(body)) for kind, body in boxes if kind == b"trak"]
    for track in tracks:
        if not any(kind == b"hdlr" and body[8:12] == b"vide" for kind, body in track):
            continue
        if any(kind == b"stsd" and body[12:16] == b"encv" for kind, body in track):
            return ENCRYPTED
        for kind, body in track:
            if kind == b"dref" and len(body) >= 20 and not body[19] & 1:  # 1: in this file
                return _reference(body[12:16], body[20:])
    for kind, body in boxes:
        if kind == b"rdrf":
            return _reference(body[4:8], body[12:])
    return None


def _reference(kind: bytes, record: bytes) -> str:
    """``kind``: of the data reference, alis (Mac OS's, a record with the file's name as a Pascal
    string behind 50 bytes) or url."""
    if kind == b"alis":
        name = record[51 : 51 + record[50]] if len(record) > 50 else b""
    else:
        name = record.split(b"\0")[0].rpartition(b"/")[2]
    text = name.decode("utf-8", "replace")
    named = f" ({text})" if text and text.isprintable() else ""
    return f"a QuickTime reference movie: its pictures are in another file{named}; use that one"


def _moov(path: Path) -> bytes:
    """What the moov box of an mp4 or QuickTime file holds; nothing where there is none."""
    with open(path, "rb") as file:
        end = file.seek(0, 2)
        place = 0
        while place + 8 <= end:
            file.seek(place)
            size, kind = int.from_bytes(file.read(4)), file.read(4)
            header = 8
            if size == 1:
                size, header = int.from_bytes(file.read(8)), 16
            size = size or end - place
            if size < header or not kind.isalnum():
                break
            if kind == b"moov":
                return file.read(min(size - header, MOST_MOOV_BYTES))
            place += size
    return b""


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes in ``content``, those inside _FOLDERS too."""
    place = 0
    while place + 8 <= len(content):
        size, kind = int.from_bytes(content[place : place + 4]), content[place + 4 : place + 8]
        if size < 8:
            break
        body = content[place + 8 : place + size]
        yield kind, body
        if kind in _FOLDERS:
            yield from _boxes(body)
        place += size


# --- files that stay open from one clip to the next ----------------------------------------------

# To open a file of hours costs half of what a clip does: an mp4 lists its frames; for two hours
# FFmpeg takes 26 ms of CPU time to read that list.

WORTH_KEEPING = 3_000
"""Frames of a file from which on it stays open: of fewer, to open it costs less than a
millisecond, where a clip takes fifty."""

MOST_FILES = 16
"""Files that are open at once: each takes a handle and a decoder of its own."""

MOST_FRAMES = 1_000_000
"""Frames of all open files together: their lists take some 50 bytes a frame, so 50 MB. One file
that has more stays open alone."""

Stamp = tuple[int, int, int, int]


@dataclass
class _Open:
    stack: ExitStack
    container: InputContainer
    stream: VideoStream
    stamp: Stamp
    frames: int


class OpenFiles:
    """The files that a process read last. It belongs to one thread."""

    def __init__(self, keep: bool = True) -> None:
        """``keep``: whether any file stays open at all."""
        self._keep = keep
        self._open: OrderedDict[Path, _Open] = OrderedDict()

    @contextmanager
    def video(
        self, path: Path, frames: int, reorder_depth: int
    ) -> Iterator[tuple[InputContainer, VideoStream]]:
        """As `open_video` of a file that was probed, which found so many ``frames``. It is closed
        where the block raises, and where the file on the disk is no longer the same."""
        file = self._open.pop(path, None)
        if file is not None and file.stamp != _stamp(path):
            file.stack.close()
            file = None
        if file is None:
            file = _opened(path, frames)
        context = file.stream.codec_context
        if context.is_open:
            context.flush_buffers()
        context.skip_frame = "DEFAULT"
        context.reorder_depth = reorder_depth
        try:
            yield file.container, file.stream
        except FAULTS as error:
            file.stack.close()
            raise DecodeError(path, message(error)) from error
        except BaseException:
            file.stack.close()
            raise
        if not self._keep or frames < WORTH_KEEPING:
            file.stack.close()
            return
        self._open[path] = file
        # The newest stays, however long: it is the one most likely to be read next.
        while len(self._open) > 1 and self._is_too_much():
            _, oldest = self._open.popitem(last=False)
            oldest.stack.close()

    def _is_too_much(self) -> bool:
        frames = sum(file.frames for file in self._open.values())
        return len(self._open) > MOST_FILES or frames > MOST_FRAMES

    def forget(self, path: Path) -> None:
        """Close a file of which a read did not find what it should."""
        if (file := self._open.pop(path, None)) is not None:
            file.stack.close()


def _opened(path: Path, frames: int) -> _Open:
    """Raises DecodeError."""
    stamp = _stamp(path)
    with ExitStack() as stack:
        container, stream = stack.enter_context(open_video(path, known=True))
        return _Open(stack.pop_all(), container, stream, stamp, frames)


def _stamp(path: Path) -> Stamp:
    """By which a file that was replaced is known; zeros where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0, 0, 0
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
