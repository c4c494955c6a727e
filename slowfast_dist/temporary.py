"""Where temporary files may lie."""

import os
import sys
import tempfile
from multiprocessing import util

from slowfast_dist.config import UserError

LONGEST = 107 - len("/pymp-00000000/listener-00000000")
"""Bytes of a folder's name in which multiprocessing can make sockets: see unix(7)."""


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
