"""Folders that a user may not enter, also where root runs the tests."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def closed_folder(*names: str) -> Iterator[Path]:
    """A folder with empty files of these names that only root may enter, in one that all may."""
    with tempfile.TemporaryDirectory() as above:
        os.chmod(above, 0o755)
        closed = Path(above) / "closed"
        closed.mkdir()
        for name in names:
            (closed / name).touch()
        os.chmod(closed, 0)
        try:
            yield closed
        finally:
            os.chmod(closed, 0o755)


def as_ordinary_user(work: Callable[[], str]) -> str:
    """What ``work`` returns where permissions count, also in tests that root runs."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text
