"""Files that are whole or absent: written under a temporary name, fsynced, then renamed."""

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import util
from pathlib import Path
from typing import IO, Any

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.system.text import size


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


def check_output(
    output: Path, endings: Sequence[str], overwrite: bool, beside: Sequence[Path] = ()
) -> None:
    """Make the folder of an --output, a file that is to end in one of ``endings``. Raises UserError
    where it, or one of those that are written ``beside`` it, cannot be written or, without
    ``overwrite``, is there already."""
    if output.suffix.lower() not in endings:
        raise UserError(f"--output {output}: give a name that ends in {', '.join(endings)}")
    for path in (output, *beside):
        which = f"--output {output}:" if path == output else f"--output {output}: {path}"
        if path.is_dir():
            raise UserError(f"{which} is a folder; give another name")
        if path.exists() and not overwrite:
            raise UserError(
                f"{which} is there already: give another name, or add --overwrite"
            )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--output {output}: cannot create its folder ({error.strerror}): give another"
        ) from None


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
    return OSError(error.errno, reason_of(error, path.parent), str(path))


# --- a full disk --------------------------------------------------------------------------------

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of a disk, or of a user's share of it, with no space left."""


def reason_of(error: OSError, folder: Path | None = None, needed: int | None = None) -> str:
    """What the disk said; where it is full also how much is free in ``folder``, by default that of
    the file, and how much was ``needed``, in bytes."""
    said = str(error.strerror or error)
    if error.errno not in FULL or DISK_FULL in said:
        return said
    if folder is None and error.filename:
        folder = Path(os.fsdecode(error.filename)).parent
    return f"{said}: {disk_full(folder, needed)}"


DISK_FULL = "disk full"


def disk_full(folder: Path | None, needed: int | None = None) -> str:
    """As "disk full, 0.1 MB are free in runs/a and 10.2 MB needed"."""
    free = None if folder is None else free_space(folder)
    where = "" if free is None else f", {size(free)} are free in {folder}"
    return f"{DISK_FULL}{where}" + (f" and {size(needed)} needed" if needed is not None else "")


def free_space(folder: Path) -> int | None:
    """Bytes that this user may still write there, or where it would be made; None: not known."""
    place = next((one for one in (folder, *folder.absolute().parents) if one.exists()), folder)
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


@contextmanager
def disk_faults_as_run_errors() -> Iterator[None]:
    """What the disk refuses is no bug of ours: RunError in place of OSError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, BrokenPipeError) and error.filename is None:
            raise  # of standard output: nobody reads it any more
        raise RunError(f"{error.filename or 'a file'}: {reason_of(error)}") from error


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make what was appended to the file survive a power cut, where there is one."""
    if not path.exists():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


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
