"""What the processes of a run tell each other is believed with the run's secret alone.

The secret never travels: it lies in a file that the user alone can read, in a folder that all
processes see, or in SLOWFAST_DIST_SECRET. So who reaches the run's store can write into it, but
nothing that a process believes.
"""

import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.system import messages

VARIABLE = "SLOWFAST_DIST_SECRET"
"""The environment's own secret, where hosts share no folder."""

WAYS = f"a file that all processes see and this user alone reads, or {VARIABLE}"
"""How processes share a secret, in an error's words."""

LEAST_CHARACTERS = 16
"""Characters that VARIABLE must have: fewer could be guessed."""

SECRET_BYTES = 32
"""Bytes of a secret that is made here, as many as those of the code's hash."""

DIGEST_BYTES = hashlib.sha256().digest_size
"""Bytes of a message's code, in front of it."""


class SealedStore:
    """A store of torch's that all processes reach, and others may; what it gives back was set by
    one that knows the secret."""

    def __init__(self, store: Any, secret: bytes) -> None:
        self.store, self._secret = store, secret

    def set(self, name: str, value: object) -> None:
        """``value``: what `messages.encode` takes. Each name is set once."""
        content = messages.encode(value)
        self.store.set(name, self._code(name, content) + content)

    def token(self, name: str) -> bytes:
        """64 bytes that all who know the secret can tell, and nobody else; they are not sent."""
        return hmac.digest(self._secret, b"token\0" + name.encode(), "sha256").hex().encode()

    def has(self, name: str) -> bool:
        """Whether there is such a value; never waits for one."""
        return self._content(name) is not None

    def get(self, name: str) -> Any:
        """The value of a ``name`` that there is."""
        content = self._content(name)
        if content is None:
            raise KeyError(name)
        return messages.decode(content)

    def _content(self, name: str) -> bytes | None:
        if not self.store.check([name]):
            return None
        said = bytes(self.store.get(name))
        code, content = said[:DIGEST_BYTES], said[DIGEST_BYTES:]
        return content if hmac.compare_digest(code, self._code(name, content)) else None

    def _code(self, name: str, content: bytes) -> bytes:
        return hmac.digest(self._secret, name.encode() + b"\0" + content, "sha256")


def offer_secret(store: Any, folder: Path) -> tuple[SealedStore, Path | None]:
    """On process 0: make a secret and tell the others its place in ``folder``, which they see. The
    file, which there is none of where the environment has the secret, is to be removed when all
    have read it."""
    if (secret := from_environment()) is not None:
        return SealedStore(store, secret), None
    path = write_secret(folder)
    secret = read_secret(path)
    assert secret is not None
    store.set("secret", os.fsencode(path))
    return SealedStore(store, secret), path


def take_secret(store: Any) -> SealedStore | None:
    """On another process; None where process 0's is not there, or not seen, yet."""
    secret = from_environment()
    if secret is None and store.check(["secret"]):
        secret = read_secret(Path(os.fsdecode(store.get("secret"))))
    return None if secret is None else SealedStore(store, secret)


def from_environment() -> bytes | None:
    """VARIABLE's secret, or None where it is not set. Raises UserError for one that is short."""
    text = os.environ.get(VARIABLE)
    if text is not None and len(text) < LEAST_CHARACTERS:
        raise UserError(
            f"{VARIABLE} has {len(text)} characters, which could be guessed: give at least "
            f"{LEAST_CHARACTERS} random ones, the same for all processes"
        )
    return None if text is None else text.encode()


def write_secret(folder: Path) -> Path:
    """A new file in ``folder`` with a secret that this user alone can read."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=".slowfast_dist-secret-", dir=folder)
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
    except OSError as error:
        raise RunError(
            f"{folder}: the run's secret cannot be written there ({error.strerror}): set "
            f"{VARIABLE} to the same random text for all processes"
        ) from None
    path = Path(os.path.abspath(name))
    if read_secret(path) is None:  # a drive that gives files to another user, or to all
        with suppress(OSError):
            path.unlink()
        raise RunError(
            f"{folder}: files there cannot be kept from other users: set {VARIABLE} to the same "
            "random text for all processes"
        )
    return path


def read_secret(path: Path) -> bytes | None:
    """The secret of a file, or None where there is none that this user alone can read and write:
    a path from the store may be anybody's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not is_private(status):
            return None
        content = os.read(descriptor, SECRET_BYTES + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return content if len(content) == SECRET_BYTES else None


def is_private(status: os.stat_result) -> bool:
    """Whether a file or folder is this user's, and no other one may do anything with it."""
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
