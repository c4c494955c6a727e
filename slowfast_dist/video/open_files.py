"""Files that stay open from one clip to the next: to open one of hours costs as much as a clip.

An mp4 lists each of its frames; for two hours FFmpeg takes 26 ms of CPU time to read that list.
"""

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from av.container import InputContainer
from av.video.stream import VideoStream

from slowfast_dist.video.container import FAULTS, DecodeError, message, open_video

WORTH_KEEPING = 3_000
"""Frames of a file from which on it stays open: of fewer, to open it costs less than a
millisecond, where a clip takes fifty."""

MOST_FILES = 16
"""Files that are open at once: each takes a handle and a decoder of its own."""

MOST_FRAMES = 1_000_000
"""Frames of all open files together: their lists take some 50 bytes a frame, so 50 MB."""

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
        while len(self._open) > MOST_FILES or self._frames() > MOST_FRAMES:
            _, oldest = self._open.popitem(last=False)
            oldest.stack.close()

    def _frames(self) -> int:
        return sum(file.frames for file in self._open.values())

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
