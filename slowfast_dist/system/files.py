"""Files that are whole or absent: written under a temporary name, fsynced, then renamed."""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import util
from pathlib import Path
from typing import IO, Any

from slowfast_dist.config.errors import UserError


@contextmanager
def atomic_write(path: Path, mode: str = "wb", errors: str = "strict") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` and rename it to ``path`` when the block succeeds.

    After a crash ``path`` holds the old content or the new, never a part; a failed block leaves
    no temporary file. Text is UTF-8, with ``errors`` as for ``open``. Raises OSError with the path
    in it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "", "errors": errors}
    try:
        with open(temporary, mode, **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise with_path(error, path) from error
        raise


@contextmanager
def append(path: Path, errors: str = "strict") -> Iterator[IO[str]]:
    """Open ``path`` to append UTF-8 text, its folder made. Raises OSError with the path in it.
    ``errors``: what happens to what UTF-8 has not, as for ``open``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8", errors=errors, newline="") as file:
            yield file
    except OSError as error:
        raise with_path(error, path) from error


def with_path(error: OSError, path: Path) -> OSError:
    """The same, naming ``path``: an error of writing, as of a full disk, names no file."""
    return OSError(error.errno, error.strerror or str(error), str(path))


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """SHA-256 of the content, in hexadecimal digits. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented UTF-8 JSON, atomically."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


# --- where temporary files may lie --------------------------------------------------------------

LONGEST = 107 - len("/pymp-00000000/listener-00000000")
"""Bytes of the longest folder name in which multiprocessing can make sockets: see unix(7)."""


def share_socket_folder() -> None:
    """Give this process and those that it will start one folder for multiprocessing's sockets.

    Through these a loader's processes hand over clips. Else each makes a folder of its own, which
    stays where the process is killed; this one is removed at the end of the process that made it.
    It lies in /tmp where the name of the usual place is too long for sockets: torch would wait for
    ever for a process that could not make one. Raises UserError where it cannot be made.
    """
    usual = tempfile.gettempdir()
    long = sys.platform != "win32" and len(os.fsencode(usual)) > LONGEST
    try:
        tempfile.tempdir = "/tmp" if long else usual
        util.get_temp_dir()
    except OSError as error:
        what = f"too long for sockets ({LONGEST} bytes at most), and /tmp cannot be used"
        raise UserError(
            f"TMPDIR {usual}: {what if long else 'cannot be used'} ({error.strerror}): set another"
        ) from None
    finally:
        tempfile.tempdir = usual
