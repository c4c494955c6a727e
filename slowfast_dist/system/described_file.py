"""A file, as of weights, and the description beside it, which names the file's SHA-256.

Two files cannot be replaced at once. The described one comes first, and until the new description
is there, the file that the old one is of stays beside it under a hidden name: at any moment, also
after a kill between the two, a reader finds the file of the description that it has read.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.system.files import atomic_write, file_sha256

RETRY_SECONDS = 1.0
"""Seconds that a reader waits for the description of a file that is of no other one: a writer makes
it within a moment. Only file systems without hard links (FAT, some network ones) need that."""


class ReplacedMeanwhile(RunError):
    """The description that was read is there no more: a training has gone on to the next."""


def previous_of(path: Path) -> Path:
    """Where the content lies that ``path`` had before, until the new one is described."""
    return path.with_name(f".{path.stem}.previous{path.suffix}")


@contextmanager
def replace_described(path: Path) -> Iterator["HashingWriter"]:
    """As `atomic_write`, of bytes, with their SHA-256 computed on the way. What ``path`` had before
    stays until `forget_previous`."""
    with atomic_write(path) as file:
        hashing = HashingWriter(file)
        yield hashing
        with suppress(OSError):  # there is none yet, or the file system has no links
            previous_of(path).unlink(missing_ok=True)
            os.link(path, previous_of(path))


def forget_previous(path: Path) -> None:
    """Once the new content is described."""
    previous_of(path).unlink(missing_ok=True)


def settle(path: Path, sha256: str | None) -> None:
    """After a kill: make ``path`` again what the description, which names ``sha256``, is of. One
    of an older version names none (None): as long as it is there it is of the previous file."""
    previous = previous_of(path)
    if not previous.exists():
        return
    if sha256 is None or file_sha256(previous) == sha256:
        os.replace(previous, path)  # where they are one file already this removes the other name
    previous.unlink(missing_ok=True)


T = TypeVar("T")


def find_described(
    path: Path, description: str, sha256: str | None, described: Callable[[], str | None],
    read: Callable[[Path], object],
) -> Path:  # fmt: skip
    """``path`` or its previous file, whichever has this SHA-256; of an older version's description,
    which names none (None), the previous one where there is one.

    ``description``: the name of the file beside it, of which ``described`` reads the SHA-256 anew;
    ``read`` raises UserError for a damaged file. Raises UserError for a file that is of another
    description, and ReplacedMeanwhile where that is of another file by now.
    """
    return _find(path, description, sha256, described, read)[0]


def read_described(
    path: Path, description: str, sha256: str | None, described: Callable[[], str | None],
    read: Callable[[Path], T],
) -> T:  # fmt: skip
    """What ``read`` makes of the file that `find_described` finds, also where that is replaced
    while it is read. Raises as both do."""
    while True:
        found, before = _find(path, description, sha256, described, read)
        try:
            content = read(found)
        except UserError:
            if _version(found) == before:
                raise
            continue  # it is another file by now, or gone
        if _version(found) == before:
            if sha256 is None and described() is not None:
                raise _replaced(path)
            return content


_Version = tuple[int, int, int]


def _find(
    path: Path, description: str, sha256: str | None, described: Callable[[], str | None],
    read: Callable[[Path], object],
) -> tuple[Path, _Version | None]:  # fmt: skip
    """And which version of that file was found; None where it is not there."""
    until = time.monotonic() + RETRY_SECONDS
    while sha256 is not None and path.exists():
        for candidate in (path, previous_of(path)):
            with suppress(OSError):
                version = _version(candidate)
                if file_sha256(candidate) == sha256:
                    return candidate, version
        if described() != sha256:
            raise _replaced(path)
        if time.monotonic() > until:
            read(path)  # what is wrong with the file itself is said first
            raise UserError(
                f"RUN {path}: is not the file that {description} beside it describes (its "
                "SHA-256 is another): take both from one run, or, where you changed the weights, "
                "delete weights_sha256 there"
            )
        time.sleep(RETRY_SECONDS / 10)
    if sha256 is None and (version := _version(previous_of(path))) is not None:
        return previous_of(path), version
    return path, _version(path)


def _replaced(path: Path) -> ReplacedMeanwhile:
    return ReplacedMeanwhile(
        f"{path.parent}: a training wrote a new best model meanwhile: start again"
    )


def _version(path: Path) -> _Version | None:
    """Which file has this name: another one, or one written since, has others. None: none."""
    with suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size
    return None


class HashingWriter:
    """A file whose SHA-256 is computed while it is written: it is not read for it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of what was written so far, in hexadecimal digits."""
        return self.digest.hexdigest()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()
