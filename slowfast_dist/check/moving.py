"""Moving the videos that cannot be read out of a dataset: never over another file."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from slowfast_dist.config import UserError
from slowfast_dist.files import sync_folder


def require_place(folder: Path, roots: Iterable[Path]) -> None:
    """Raise UserError where ``folder`` is no place for the bad videos of ``roots``."""
    target = folder.resolve()
    for root in roots:
        base = root.resolve() if root.is_dir() else root.resolve().parent
        if root.is_dir() and target.is_relative_to(base):
            raise UserError(
                f"--move-bad {folder}: is in {root} itself, where it would be taken for a class; "
                "give a folder outside"
            )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--move-bad {folder}: is a file; give a folder")


def move(source: Path, target: Path) -> str | None:
    """Move a file, or a link itself; returns why it was not moved, None where it was.

    Whatever is interrupted leaves the file in one place at least, and ``target`` whole or absent.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            # A relative link would point elsewhere from there.
            os.symlink(os.path.join(os.path.abspath(source.parent), os.readlink(source)), target)
        elif not _linked(source, target):
            _copy(source, target)
        sync_folder(target.parent)
    except FileExistsError:
        return f"{target}: something is there already"
    except OSError as error:
        return f"{error.filename or target}: {error.strerror or error}"
    try:
        source.unlink()
    except OSError as error:  # a folder from which nothing may be taken
        target.unlink(missing_ok=True)
        return f"{error.filename or source}: {error.strerror or error}"
    return None


def _linked(source: Path, target: Path) -> bool:
    """Whether ``target`` is now a second name of the file, which is no overwriting and at once."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without links
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(source, "rb") as reader, open(temporary, "xb") as writer:
            shutil.copyfileobj(reader, writer, 1024**2)
            writer.flush()
            os.fsync(writer.fileno())
        shutil.copystat(source, temporary)
        if not _linked(temporary, target):  # a file system without links: nobody else writes here
            if os.path.lexists(target):
                raise FileExistsError
            os.rename(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
