"""A file from the network: bounded while it arrives, and fetched by one process of a machine."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import Request, urlopen

from tqdm import tqdm

from slowfast_dist.system.progress import is_terminal

if sys.platform != "win32":
    import fcntl

TIMEOUT = 30.0
"""Seconds without a byte after which a download is given up; torch.hub itself waits for ever."""

PART = 1 << 18
"""Bytes that are read at once: a second has some of these parts even on a slow line."""


def download(
    url: str, path: Path, most: int, check: Callable[[Path], None] | None = None
) -> None:
    """Fetch at most ``most`` bytes to a temporary file, which takes its name once ``check`` found
    nothing wrong with it. Where another process has put the file there meanwhile, that is it.

    Raises OSError or HTTPException where it cannot be had, and what ``check`` raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(path):
        if path.is_file():
            return
        arrived = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            _fetch(url, arrived, most)
            if check:
                check(arrived)
            os.replace(arrived, path)
        finally:
            arrived.unlink(missing_ok=True)


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Others that want the same file wait here, as the processes of one launcher do."""
    place = path.with_name(f".{path.name}.lock")
    with open(place, "w") as lock:
        with suppress(OSError):  # without locks, as on some network disks, each fetches its own
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:  # who waits for it finds the file; who comes later, too
            place.unlink(missing_ok=True)


def _fetch(url: str, path: Path, most: int) -> None:
    request = Request(url, headers={"User-Agent": "torch.hub"})
    with urlopen(request, timeout=TIMEOUT) as answer, open(path, "wb") as file:
        told = answer.headers.get("Content-Length") or ""
        total = int(told) if told.isdecimal() and len(told) < 20 else None
        done = 0
        with tqdm(
            desc=path.name.split(".")[1], total=total, unit="B", unit_scale=True, leave=False,
            disable=not is_terminal(sys.stderr),
        ) as bar:  # fmt: skip
            while done <= most and (total or 0) <= most and (part := answer.read(PART)):
                file.write(part)
                done += len(part)
                bar.update(len(part))
    if max(done, total or 0) > most:
        raise OSError(f"it gives more than {most:,} bytes")
    if total is not None and done < total:
        raise OSError(f"it ended after {done:,} of {total:,} bytes")
