"""What the files about a video are called, so that no video's replace another's."""

import contextlib
import hashlib
import os
from itertools import chain, count
from pathlib import Path

from slowfast_dist.annotations.formats.writers import WRITERS
from slowfast_dist.config.errors import UserError
from slowfast_dist.system.files import reason_of

SUFFIXES = (
    ".segments.json", ".segments.csv", ".timeline.png", ".annotated.mp4",
    *(suffix for suffix, _ in WRITERS.values()),
)  # fmt: skip
EXPLAINED = (".explained.mp4", ".explained.png")
"""Of what --explain writes about a clip."""

CLAIM = ".source"
"""Ending of the hidden file that says which video the files of a name are about."""

MAX_NAME_BYTES = 150
"""Bytes of a video's name that are used: a file's name has at most 255, and suffixes and temporary
names need some."""


def claim_name(folder: Path, path: Path, part: str = "") -> str:
    """What the files about a video are called in ``folder``: its stem, or stem-2 and so on where
    that is another video's, or a file of such a name was there before; of a ``part`` of it, as
    "@3.2-5", that behind the stem.

    A hidden file beside them keeps it: the same for the same video ever after, also when several
    processes work in one folder. Raises UserError where it cannot be made.
    """
    stem, digest = _own_name(path, part)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = chain([stem], (f"{stem}-{number}" for number in count(2)))
        return next(name for name in names if _is_claimed(folder, name, digest))
    except OSError as error:
        reason = reason_of(error, folder)
        raise UserError(
            f"--output {folder}: cannot be written ({reason}): give a folder that can"
        ) from error


def claimed_name(folder: Path, path: Path, part: str = "") -> str | None:
    """What `claim_name` called them before; None where it did not."""
    stem, digest = _own_name(path, part)
    for name in chain([stem], (f"{stem}-{number}" for number in count(2))):
        claim = folder / f".{name}{CLAIM}"
        if not claim.is_file():
            return None
        if claim.read_bytes() == digest:
            return name
    return None


def _own_name(path: Path, part: str) -> tuple[str, bytes]:
    """The stem, and what tells whose it is."""
    digest = hashlib.sha256(os.fsencode(path.resolve()) + part.encode()).hexdigest().encode()
    stem = os.fsdecode(os.fsencode(path.stem)[: MAX_NAME_BYTES - len(part)]) + part
    return stem.encode("utf-8", "replace").decode(), digest


def _is_claimed(folder: Path, name: str, digest: bytes) -> bool:
    claim = folder / f".{name}{CLAIM}"
    if not claim.exists():
        if any((folder / (name + suffix)).exists() for suffix in (*SUFFIXES, *EXPLAINED)):
            return False
        with contextlib.suppress(FileExistsError), open(claim, "xb") as file:
            file.write(digest)  # another process that comes in between takes another name
    return claim.is_file() and claim.read_bytes() == digest
