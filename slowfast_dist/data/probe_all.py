"""What many files hold: found out once, in processes of their own, and remembered."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from slowfast_dist import signals
from slowfast_dist.data.probe import WORKER
from slowfast_dist.data.probe_cache import ProbeCache
from slowfast_dist.data.probe_pool import ask_apart
from slowfast_dist.data.video import VideoInfo
from slowfast_dist.progress import LINE_SECONDS, is_terminal

TIME_LIMIT = 20.0
"""Seconds that the probe of a file may take, beside those for its size."""

BYTES_PER_SECOND = 1e6
"""Slower than any disk, and than the decoding of a file whose frames must be counted."""

FILES_WORTH_A_WORKER = 20
"""Files that are probed in the time in which a process starts."""

_Answer = tuple[Path, Any]


def probe_videos(
    paths: Sequence[Path], workers: int, cache: Path | None, show_progress: bool
) -> dict[Path, VideoInfo | str]:
    """What each file holds, or why it was rejected; a file that the ``cache`` knows is not read.

    Runs up to ``workers`` processes; a file that hangs or crashes one costs only itself. The cache
    holds what could be read; that it cannot be written costs a warning on standard error. Progress
    is shown on standard error: a bar on a terminal, elsewhere a line every 30 s.
    """
    results: dict[Path, VideoInfo | str] = {}
    stamps: dict[Path, tuple[int, int]] = {}
    for path in dict.fromkeys(paths):
        try:
            status = path.stat()
        except OSError as error:
            results[path] = error.strerror or str(error)
        else:
            stamps[path] = (status.st_size, status.st_mtime_ns)
    memory = ProbeCache(cache)
    for path, stamp in stamps.items():
        info = memory.get(path, stamp)
        if info is not None:
            results[path] = info
    todo = [path for path in stamps if path not in results]
    workers = min(workers, 1 + len(todo) // FILES_WORTH_A_WORKER)
    answers = ask_apart(
        WORKER, todo, workers, lambda path: TIME_LIMIT + stamps[path][0] / BYTES_PER_SECOND
    )
    try:
        with contextlib.closing(answers):
            for path, answer in _shown(answers, len(todo)) if show_progress else answers:
                results[path] = answer if isinstance(answer, str) else VideoInfo(**answer)
                if not isinstance(answer, str):
                    memory.add(path, stamps[path], answer)
                signals.raise_if_received()
    finally:  # what an interrupted probe found is not lost
        memory.save()
    return {path: results[path] for path in paths}


def _shown(answers: Iterator[_Answer], total: int) -> Iterator[_Answer]:
    title = "checking the videos"
    if is_terminal(sys.stderr):
        yield from tqdm(answers, title, total, unit="video", dynamic_ncols=True, leave=False)
        return
    said = time.monotonic()
    for done, answer in enumerate(answers, 1):
        if time.monotonic() - said >= LINE_SECONDS:
            said = time.monotonic()
            print(f"{title}: {done} of {total}", file=sys.stderr, flush=True)
        yield answer
