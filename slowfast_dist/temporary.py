"""Where temporary files may lie."""

import os
import sys

from slowfast_dist.config import UserError

LONGEST = 107 - len("/pymp-00000000/listener-00000000")
"""Bytes of a folder's name in which multiprocessing can make sockets: see unix(7)."""


def keep_sockets_short() -> None:
    """Where the temporary folder's name is too long for them, multiprocessing's sockets go to /tmp.

    Through these a loader's processes hand over clips; torch waits for ever for one that could not
    make its socket. Processes started later inherit it. Raises UserError where /tmp cannot be used.
    """
    given = (os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP"))
    if sys.platform == "win32" or max(len(os.fsencode(name)) for name in given) <= LONGEST:
        return
    import tempfile
    from multiprocessing import util

    usual = tempfile.gettempdir()
    if len(os.fsencode(usual)) <= LONGEST:
        return
    tempfile.tempdir = "/tmp"
    try:
        util.get_temp_dir()  # made once for a process and those that it starts
    except OSError as error:
        raise UserError(
            f"TMPDIR {usual}: too long for the sockets between processes, and /tmp cannot be used "
            f"({error.strerror}): set one of {LONGEST} bytes at most"
        ) from None
    finally:
        tempfile.tempdir = usual
