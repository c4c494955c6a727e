"""Processes that transcode files, or hash them, for `probe_pool.ask_apart`."""

import hashlib
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slowfast_dist import signals
from slowfast_dist.data.opening import DecodeError
from slowfast_dist.data.probe_pool import serve
from slowfast_dist.data.transcode import WriteError, transcode

_ROOM = "slowfast_dist.data.transcode_apart"

WORKER = (sys.executable, "-c", f"from {_ROOM} import serve_transcode; serve_transcode()")
"""A transcoding process; its arguments: a folder for what it writes, and the short side."""

HASHER = (sys.executable, "-c", f"from {_ROOM} import serve_hash; serve_hash()")
"""A process that answers with [the sha256 of a file]."""


def part_name(source: Path) -> str:
    """Under which a transcoding process leaves the result for ``source`` in its folder."""
    return hashlib.sha256(os.fsencode(source)).hexdigest() + ".mp4"


def file_hash(path: Path) -> str:
    """SHA-256 of the content, in hexadecimal. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def serve_transcode() -> None:
    """What a transcoding process runs.

    It answers with Transcoded's fields and the source's sha256, with the reason why the source
    cannot be read (a str), or with {"write_error": reason}.
    """
    signals.leave_to_parent()
    folder, short_side = Path(sys.argv[1]), int(sys.argv[2])

    def answer(path: Path) -> dict[str, Any] | str:
        part = folder / part_name(path)
        try:
            before = path.stat()
            digest = file_hash(path)
            result = transcode(path, part, short_side)
            after = path.stat()
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise DecodeError(path, "it changed while it was read")
            return {**asdict(result), "sha256": digest}
        except WriteError as error:
            part.unlink(missing_ok=True)
            return {"write_error": str(error)}
        except DecodeError as error:
            part.unlink(missing_ok=True)
            return error.reason
        except OSError as error:
            part.unlink(missing_ok=True)
            return error.strerror or str(error)

    serve(answer)


def serve_hash() -> None:
    """What a process runs that answers with the sha256 of files, "" where one cannot be read."""
    signals.leave_to_parent()

    def answer(path: Path) -> list[str]:
        try:
            return [file_hash(path)]
        except OSError:
            return [""]

    serve(answer)
