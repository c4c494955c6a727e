"""What many files hold: found out once, in processes of their own, and remembered."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.data.listing.columns import InfoColumns
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.probe_cache import ProbeCache, Segment
from slowfast_dist.system import signals
from slowfast_dist.system.progress import over_files
from slowfast_dist.system.workers.pool import map_in_children
from slowfast_dist.video.images.listing import stamp_of, stamps_at_rate
from slowfast_dist.video.probe import probe_or_reason
from slowfast_dist.video.reader import VideoInfo

TIME_LIMIT = 20.0
"""Seconds that the probe of a file may take, beside those for its size."""

BYTES_PER_SECOND = 2e5
"""Bytes of a file for which it may take a second longer: slower than any disk, and than decoding a
file whose frames must be counted, or their order compared, even a recording of a still screen."""

FILES_WORTH_A_WORKER = 20
"""Files that are probed in the time in which a process starts."""


@dataclass(frozen=True)
class Probed:
    """What each of (N,) files holds, or why it cannot be read, in the order of the files.

    ``infos`` (N,) in columns, of no meaning where ``readable`` (N,) is False; ``reasons``: why, by
    the file's place.
    """

    infos: InfoColumns
    readable: NDArray[np.bool_]
    reasons: dict[int, str]

    def __iter__(self) -> Iterator[VideoInfo | str]:
        for row in range(len(self.readable)):
            yield self.infos[row] if self.readable[row] else self.reasons[row]

    def of_rows(self, places: NDArray[np.int64]) -> "Probed":
        """The same of rows (N,) of which each is the file at one of the ``places``."""
        rows = np.flatnonzero(~self.readable[places]).tolist()
        reasons = {row: self.reasons[int(places[row])] for row in rows}
        return Probed(self.infos.take(places), self.readable[places], reasons)


def probe_videos(
    table: VideoTable, workers: int, cache: Path | None, show_progress: bool,
    image_fps: float | None = None,
) -> Probed:  # fmt: skip
    """What each file, or folder of images, holds, or why it was rejected; what the ``cache`` knows
    is not read, and what several rows name is read once. ``image_fps`` as `probe_file` takes it.

    Runs up to ``workers`` processes; a file that hangs or crashes one costs only itself. The cache,
    a folder, holds what could be read; that it cannot be written costs a warning on standard error.
    Progress is shown on standard error: a bar on a terminal, elsewhere a line every 30 s.
    """
    if table.segments is not None:
        _, places = table.file_rows()
        files = _probe_files(table.per_file(), workers, cache, show_progress, image_fps)
        return files.of_rows(places)
    return _probe_files(table, workers, cache, show_progress, image_fps)


def _probe_files(
    table: VideoTable, workers: int, cache: Path | None, show_progress: bool,
    image_fps: float | None,
) -> Probed:  # fmt: skip
    """As `probe_videos`, where each row is a file of its own."""
    stamps = _stamps(table) if table.stamps is None else table.stamps
    stamps = stamps_at_rate(stamps, image_fps)
    reasons: dict[int, str] = {}
    for row in np.flatnonzero(stamps[:, 0] < 0).tolist():
        reasons[row] = _why_missing(table.path(row))
    infos = InfoColumns.empty(len(table))
    memory = ProbeCache(cache, table.root, Segment(table.names, stamps, infos))
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
    rate: dict[str, Any] = {} if image_fps is None else {"image_fps": image_fps}
    answers = map_in_children(probe_or_reason, paths(), workers, limit, **rate)
    try:
        with contextlib.closing(answers):
            shown = over_files(answers, len(todo), "checking the videos")
            for path, answer in shown if show_progress else answers:
                row = asked[path].pop()
                if not asked[path]:
                    del asked[path]
                if isinstance(answer, str):
                    reasons[row] = answer
                else:
                    try:
                        infos.set(row, answer)
                    except ValueError as error:  # numbers that no video can have
                        reasons[row] = str(error)
                    else:
                        memory.add(row)
                signals.raise_if_received()
    finally:  # what an interrupted probe found is not lost
        memory.save()
    memory.merge()
    return Probed(infos, memory.known, reasons)


def _stamps(table: VideoTable) -> NDArray[np.int64]:
    """(N, 2): the Stamp of each file, -1 where there is none."""
    stamps = np.full((len(table), 2), -1, np.int64)
    for row in range(len(table)):
        with contextlib.suppress(OSError):
            stamps[row] = stamp_of(table.path(row)) or (-1, -1)
    return stamps


def _why_missing(path: Path) -> str:
    try:
        path.stat()
    except OSError as error:
        return error.strerror or str(error)
    return "it was not there when the videos were listed"
