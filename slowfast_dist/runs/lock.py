"""One run at a time in a folder: a lock that goes when its process dies, however it dies.

The lock is the hidden file ``.lock`` under a POSIX record lock, which loader workers do not
inherit, which works between hosts on NFS, and which the kernel drops with its process. Some file
systems have no such locks, or only for one host. There a sign of life decides: the holder touches
the file every second, and a lock that stays untouched for `WATCH_SECONDS` was left by a dead one.

Two hosts that start in the same millisecond on a file system without common locks are told apart
only where no lock was left before; nothing here can stop a run that was suspended for seconds, and
taken for dead, from going on.
"""

import errno
import json
import math
import os
import platform
import struct
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import psutil

from slowfast_dist.config.errors import UserError
from slowfast_dist.system.parsing import parse_json

if sys.platform != "win32":
    import fcntl

NAME = ".lock"
"""Of the lock's file in the run's folder."""
TOUCH_SECONDS = 1.0
"""Seconds from one sign of life of a holder to the next: a write of an inode costs a server little.
"""
WATCH_SECONDS = 4.0
"""Seconds for which a lock of another host must show no sign of life to be taken for a dead run's:
four times as long as a living one leaves it."""
POLL_SECONDS = 0.2
"""Seconds from one poll of such a lock to the next."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""What a file system answers that has no record locks."""

_held: set[Path] = set()
"""Locks of this process: the kernel would grant them again, and closing the second descriptor
would drop the first one's lock."""
_guard = threading.Lock()


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as the file says: ``machine`` is the host and its current boot."""

    host: str
    machine: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"{self.host} (process {self.pid}, since {self.since})"


def _this_process() -> Holder:
    host, boot = platform.node(), Path("/proc/sys/kernel/random/boot_id")
    # Containers and cloned machines share names, containers also boots; both only on one kernel.
    machine = f"{host} {boot.read_text().strip()}" if boot.exists() else host
    since = datetime.fromtimestamp(psutil.Process().create_time()).astimezone()
    return Holder(host, machine, os.getpid(), since.isoformat(" ", "seconds"))


def _parsed(content: bytes) -> Holder | None:
    """None where a process died before it had written all."""
    try:
        values = parse_json(content)
        return Holder(values["host"], values["machine"], values["pid"], values["since"])
    except (ValueError, KeyError, TypeError):
        return None


class RunLock:
    """The lock of a run's folder, held from the construction on to `release`.

    ``output_dir`` is the folder in the user's words. ``message`` says whose lock was taken over,
    if one was left by a dead process. Raises UserError where another run, also one of this
    process, uses the folder, and OSError where the file cannot be written.
    """

    def __init__(self, folder: Path, output_dir: Path) -> None:
        self.path = folder.resolve() / NAME
        self.output_dir = output_dir
        self.message: str | None = None
        self._own = _this_process()
        with _guard:
            if self.path in _held:
                raise _in_use(self.output_dir, self._own)
            _held.add(self.path)
        try:
            self._descriptor = self._take()
        except BaseException:
            _held.discard(self.path)
            raise
        self._released = threading.Event()
        # A daemon: it never holds up the end of a process.
        threading.Thread(target=self._show_life, name="run lock", daemon=True).start()

    def release(self) -> None:
        """Let another run have the folder, and leave no file. May be called again."""
        if self._released.is_set():
            return
        self._released.set()
        if sys.platform == "win32":  # which removes no open file
            os.close(self._descriptor)
            with suppress(OSError):
                self.path.unlink()
        else:  # in this order: none may take the file and then lose it
            with suppress(OSError):
                self.path.unlink()
            os.close(self._descriptor)
        _held.discard(self.path)

    def _show_life(self) -> None:
        while not self._released.wait(TOUCH_SECONDS):
            with suppress(OSError):
                os.utime(self.path)  # not by opening it: closing it would drop the lock

    def _take(self) -> int:
        """Open, lock and sign the file; returns its descriptor."""
        dead: bytes | None = None
        while True:
            descriptor, created = _open(self.path)
            try:
                kernel = self._lock(descriptor)
                if not _is_at(descriptor, self.path):  # its holder ended meanwhile
                    os.close(descriptor)
                    continue
                left = _read(descriptor)
                holder = _parsed(left)
                here = kernel and holder is not None and holder.machine == self._own.machine
                if created or here or left == dead:
                    _write(descriptor, json.dumps(asdict(self._own)).encode())
                    if not created:
                        self.message = self._taken_over(holder)
                    if not created and not here:
                        self._settle(descriptor)
                    return descriptor
            except BaseException as error:
                if created and isinstance(error, OSError):  # a full disk, say
                    self.path.unlink(missing_ok=True)
                os.close(descriptor)
                raise
            os.close(descriptor)
            dead = self._watch(left)

    def _lock(self, descriptor: int) -> bool:
        """Lock for this process; False where the file system has no locks. Raises UserError."""
        for _ in range(20):
            try:
                return _lock_in_kernel(descriptor)
            except (BlockingIOError, PermissionError):
                left = _read(descriptor)
            holder = _parsed(left)
            if holder is not None and holder.machine != self._own.machine:
                # A file server may keep the lock of a host that died; a new file has none.
                if self._watch(left) == left:
                    self.path.unlink(missing_ok=True)
                return True
            if left:
                raise _in_use(self.output_dir, holder)
            time.sleep(0.05)  # another one is just starting: it signs, or leaves it to us
        raise _in_use(self.output_dir, None)

    def _watch(self, left: bytes) -> bytes:
        """Wait for a sign of life; returns what a dead process left. Raises UserError.

        Opens the file anew each time, as only that asks an NFS server, and holds no lock. Polls are
        counted, not time: this process may pause for seconds, and the holder with it.
        """
        first = None
        for _ in range(math.ceil(WATCH_SECONDS / POLL_SECONDS) + 1):
            time.sleep(POLL_SECONDS)
            try:
                descriptor = os.open(self.path, os.O_RDWR)
            except FileNotFoundError:  # its holder ended, cleanly
                return left
            try:
                state = _read(descriptor), os.fstat(descriptor).st_mtime_ns
            finally:
                os.close(descriptor)
            first = first or state
            if state != first or state[0] != left:
                raise _in_use(self.output_dir, _parsed(state[0]))
        return left

    def _settle(self, descriptor: int) -> None:
        """Where others may take the same dead lock over unseen: the last to sign has it."""
        time.sleep(2 * POLL_SECONDS)
        second = os.open(self.path, os.O_RDWR)
        try:
            now = _parsed(_read(second))
        finally:
            os.close(second)
        if now != self._own:
            raise _in_use(self.output_dir, now)
        self._lock(descriptor)  # again: closing the second descriptor dropped it

    def _taken_over(self, holder: Holder | None) -> str:
        who = "a process that died as it started" if holder is None else f"a run on {holder}"
        return f"{self.output_dir} was locked by {who}, which is dead: taking over"


def refuse_if_held(output_dir: Path) -> None:
    """Raise UserError where another process holds the lock and the kernel knows; takes nothing.

    For the first moment of a run, on Linux: `RunLock` says the same, seconds of imports later.
    """
    path = output_dir.resolve() / NAME
    with _guard:
        if sys.platform != "linux" or path in _held:  # closing it here would drop our own lock
            return
        with suppress(OSError), open(path, "rb") as file:
            asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # a struct flock
            answer = fcntl.fcntl(file, fcntl.F_GETLK, asked)
            if struct.unpack("hhqqi", answer)[0] != fcntl.F_UNLCK:
                raise _in_use(output_dir, _parsed(file.read()))


def _in_use(output_dir: Path, holder: Holder | None) -> UserError:
    return UserError(
        f"--output-dir {output_dir} is in use by "
        f"{'another run' if holder is None else f'a run on {holder}'}: stop it, or give a new "
        "--output-dir"
    )


def _open(path: Path) -> tuple[int, bool]:
    """The lock file, open, and whether this call made it."""
    while True:
        with suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644), True
        with suppress(FileNotFoundError):  # removed between the two
            return os.open(path, os.O_RDWR), False


def _lock_in_kernel(descriptor: int) -> bool:
    """False where there are no such locks. Raises BlockingIOError or PermissionError if taken."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 4096)


def _write(descriptor: int, content: bytes) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, content)
    os.fsync(descriptor)
