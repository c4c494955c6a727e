"""What the page plays of each sample: the file itself, or a copy that is made when it is asked for.

Files are looked at, and copied, in processes of their own: one that hangs or crashes costs its
video. Copies have no name on the disk, and are gone with this process.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowfast_dist.system.workers.pool import map_in_children
from slowfast_dist.video.ordered_reader import ASSUMED_FPS, frame_times
from slowfast_dist.video.playback.browser import playable_or_reason
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.web.temporary import TemporaryVideo

AT_ONCE = 2
"""Copies that are made at one time: that of the video that is looked at, and of the next one."""

KEPT = 16
"""Videos whose copies, some MB each, are kept for those who go back."""

LOOK_SECONDS = 120.0
"""Seconds that looking at a file, and copying up to 90 s of it, may take: on a busy CPU of a
laptop, 90 s of HEVC at 1080p take half of that."""


@dataclass(frozen=True)
class Playable:
    """``path`` of what is played, as ``type``; it begins with frame ``first`` of the video and ends
    before ``behind``."""

    info: VideoInfo
    path: Path
    type: str
    first: int
    behind: int
    copy: TemporaryVideo | None = None

    @property
    def begin(self) -> float:
        """Seconds from the video's first frame to what is played."""
        return float(frame_times(self.info).starts[self.first])

    def facts(self) -> dict[str, Any]:
        """As the page needs them."""
        info, times = self.info, frame_times(self.info)
        behind = times.end if self.behind == info.frames else float(times.starts[self.behind])
        facts: dict[str, Any] = {
            "frames": info.frames, "duration": round(times.end, 6), "copy": self.copy is not None,
            "from": round(self.begin, 6), "to": round(behind, 6),
            "width": info.shown_width, "height": info.height,
        }  # fmt: skip
        if info.uneven_times:
            return {**facts, "times": [round(time, 6) for time in times.starts.tolist()]}
        # Without times or a rate nobody can say which frames a segment has: see data.locating.
        return {**facts, "fps": info.fps or ASSUMED_FPS, "untimed": not info.fps}


class Media:
    """The playable form of files; all methods from any thread."""

    def __init__(self, image_fps: float | None) -> None:
        self._image_fps = image_fps
        self._guard = threading.Lock()
        self._found: OrderedDict[Hashable, Future[Playable | str]] = OrderedDict()
        self._executor = ThreadPoolExecutor(AT_ONCE, "copying")

    def find(
        self, path: Path, start: float | None, end: float | None, as_it_is: bool
    ) -> "Future[Playable | str]":
        """Of the file's part, in seconds; a reason (a str) where it cannot be read. ``as_it_is``:
        whether the browser may get the file itself."""
        key = path, start, end, as_it_is
        with self._guard:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
            future = self._found[key] = self._executor.submit(self._make, *key)
            while len(self._found) > KEPT:
                _, old = self._found.popitem(last=False)
                old.add_done_callback(_close)
            return future

    def close(self) -> None:
        """Delete all copies."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        with self._guard:
            for future in self._found.values():
                if future.done():
                    _close(future)

    def _make(
        self, path: Path, start: float | None, end: float | None, as_it_is: bool
    ) -> Playable | str:
        try:
            copy = TemporaryVideo()
        except OSError as error:
            return f"no copy that a browser plays can be made ({error.strerror})"
        more: dict[str, Any] = {} if self._image_fps is None else {"image_fps": self._image_fps}
        answers = map_in_children(
            playable_or_reason, [path], 1, lambda _: LOOK_SECONDS, target=str(copy.path),
            start=start, end=end, as_it_is=as_it_is, **more,
        )  # fmt: skip
        [(_, answer)] = answers
        if isinstance(answer, str):
            copy.close()
            return answer
        info = VideoInfo(**answer["info"])
        if "type" in answer:
            copy.close()
            return Playable(info, path, answer["type"], 0, info.frames)
        return Playable(info, copy.path, "video/mp4", answer["first"], answer["behind"], copy)


def _close(future: "Future[Playable | str]") -> None:
    if future.cancelled() or future.exception() is not None:
        return
    found = future.result()
    if isinstance(found, Playable) and found.copy is not None:
        found.copy.close()
