"""What many files hold: found out once, in processes of their own, and remembered."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.data.columns import InfoColumns
from slowfast_dist.data.probe_cache import ProbeCache
from slowfast_dist.data.video_table import VideoRecord, VideoTable
from slowfast_dist.system import signals
from slowfast_dist.system.pool import map_in_children
from slowfast_dist.system.progress import over_files
from slowfast_dist.video.probe import probe_or_reason
from slowfast_dist.video.reader import VideoInfo

TIME_LIMIT = 20.0
"""Seconds that the probe of a file may take, beside those for its size."""

BYTES_PER_SECOND = 1e6
"""Bytes of a file for which it may take a second longer: slower than any disk, and than decoding a
file whose frames must be counted."""

FILES_WORTH_A_WORKER = 20
"""Files that are probed in the time in which a process starts."""


class Probed(Sequence[VideoInfo | str]):
    """What each of (N,) files holds, or why it cannot be read, in the order of the files.

    ``infos`` (N,) in columns, of no meaning where ``readable`` (N,) is False; ``reasons``: why, by
    the file's place.
    """

    def __init__(
        self, infos: InfoColumns, readable: NDArray[np.bool_], reasons: dict[int, str]
    ) -> None:
        self.infos, self.readable, self.reasons = infos, readable, reasons

    def __len__(self) -> int:
        return len(self.readable)

    @overload
    def __getitem__(self, index: int) -> VideoInfo | str: ...
    @overload
    def __getitem__(self, index: slice) -> list[VideoInfo | str]: ...
    def __getitem__(self, index: int | slice) -> VideoInfo | str | list[VideoInfo | str]:
        rows = range(len(self))[index]
        return [self._at(row) for row in rows] if isinstance(rows, range) else self._at(rows)

    def _at(self, row: int) -> VideoInfo | str:
        return self.infos[row] if self.readable[row] else self.reasons[row]


def probe_videos(
    videos: Sequence[VideoRecord], workers: int, cache: Path | None, show_progress: bool
) -> Probed:
    """What each file holds, or why it was rejected; a file that the ``cache`` knows is not read.

    Runs up to ``workers`` processes; a file that hangs or crashes one costs only itself. The cache,
    a folder, holds what could be read; that it cannot be written costs a warning on standard error.
    Progress is shown on standard error: a bar on a terminal, elsewhere a line every 30 s.
    """
    table = VideoTable.of(videos)
    stamps = _stamps(table) if table.stamps is None else table.stamps
    reasons: dict[int, str] = {}
    for row in np.flatnonzero(stamps[:, 0] < 0).tolist():
        reasons[row] = _why_missing(table.path(row))
    infos = InfoColumns.empty(len(table))
    memory = ProbeCache(cache, table.root, table.names, stamps, infos)
    todo = np.flatnonzero((stamps[:, 0] >= 0) & ~memory.known)
    asked: dict[Path, list[int]] = {}  # those that a process has at the moment

    def paths() -> Iterator[Path]:
        for row in todo:
            path = table.path(int(row))
            asked.setdefault(path, []).append(int(row))
            yield path

    def limit(path: Path) -> float:
        return TIME_LIMIT + int(stamps[asked[path][0], 0]) / BYTES_PER_SECOND

    workers = min(workers, 1 + len(todo) // FILES_WORTH_A_WORKER)
    answers = map_in_children(probe_or_reason, paths(), workers, limit)
    try:
        with contextlib.closing(answers):
            title = "checking the videos"
            shown = over_files(answers, len(todo), title) if show_progress else answers
            for path, answer in shown:
                row = asked[path].pop()
                if not asked[path]:
                    del asked[path]
                if not isinstance(answer, str):
                    try:
                        infos.set(row, answer)
                    except ValueError as error:  # numbers that no video can have
                        answer = str(error)
                if isinstance(answer, str):
                    reasons[row] = answer
                else:
                    memory.add(row)
                signals.raise_if_received()
    finally:  # what an interrupted probe found is not lost
        memory.save()
    memory.merge()
    return Probed(infos, memory.known, reasons)


def _stamps(table: VideoTable) -> NDArray[np.int64]:
    """(N, 2): size and mtime_ns of each file, -1 where there is none."""
    stamps = np.full((len(table), 2), -1, np.int64)
    for row in range(len(table)):
        with contextlib.suppress(OSError):
            status = table.path(row).stat()
            stamps[row] = status.st_size, status.st_mtime_ns
    return stamps


def _why_missing(path: Path) -> str:
    try:
        path.stat()
    except OSError as error:
        return error.strerror or str(error)
    return "it was not there when the videos were listed"
