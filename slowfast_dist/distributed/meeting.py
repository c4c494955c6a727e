"""Where the processes of a run on one host meet: a folder that no other user can look into.

It holds the file of their store and their secret, so nothing listens on a port for it. A link by
the name of the launch leads to it until all have come.
"""

import atexit
import os
import shutil
import stat
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.distributed.secret import is_private

if sys.platform != "win32":
    import fcntl

OLD_SECONDS = 60.0
"""Age from which on a folder without a lock is one whose process died: it is locked milliseconds
after it is made."""


def user_folder() -> Path:
    """The folder of this user's runs on this host. Raises RunError where there can be none."""
    folder = Path(tempfile.gettempdir()) / f"slowfast_dist-{os.geteuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise RunError(f"{folder}: {error.strerror}: set TMPDIR to a folder of yours") from None
    if not stat.S_ISDIR(status.st_mode) or not is_private(status):
        raise RunError(
            f"{folder} is not yours alone, so others could change the run: remove it, or set "
            "TMPDIR to a folder of yours"
        )
    return folder


def open_meeting(launch: str) -> Path:
    """On process 0: a new folder, which the others find by the ``launch``'s name, until
    `close_meeting`. It is removed when this process ends.

    Raises UserError where another run is at this point of the same launch.
    """
    root = user_folder()
    _remove_old(root)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=root))
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # until this process ends
    atexit.register(_remove_own, folder, os.getpid())
    link = root / launch
    while True:
        try:
            link.symlink_to(folder)
            return folder
        except FileExistsError:
            if find_meeting(launch) is not None:
                raise UserError(
                    f"MASTER_PORT {launch.split('-')[0]}: another run of yours is starting with "
                    "it: give another one"
                ) from None
            link.unlink(missing_ok=True)


def close_meeting(launch: str) -> None:
    """On process 0: all have come, and the next run may use the launch's name."""
    (user_folder() / launch).unlink(missing_ok=True)


def find_meeting(launch: str) -> Path | None:
    """The folder of a process 0 that lives, if it has made one."""
    try:
        folder = (user_folder() / launch).readlink()
    except OSError:
        return None
    return folder if _is_held(folder) else None


def _is_held(folder: Path) -> bool:
    """Whether the process that made the folder lives."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _remove_old(root: Path) -> None:
    """What processes left that were killed."""
    for folder in root.glob("run-*"):
        with suppress(OSError):
            if time.time() - folder.lstat().st_mtime > OLD_SECONDS and not _is_held(folder):
                shutil.rmtree(folder, ignore_errors=True)
    for link in root.iterdir():
        if link.is_symlink() and not link.exists():
            link.unlink(missing_ok=True)


def _remove_own(folder: Path, process: int) -> None:
    if os.getpid() == process:  # and not one that was forked from it
        shutil.rmtree(folder, ignore_errors=True)
