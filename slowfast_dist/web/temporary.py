"""A temporary file that other processes can open, and that no end of this process leaves behind."""

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import IO


class TemporaryVideo:
    """A file for one video, gone with `close` or with this process, however that ends.

    On Linux it has no name from the start, so that not even ``kill -9`` leaves it; other processes
    open it through this process's descriptor, which must stay open meanwhile. Elsewhere it has a
    name in the temporary folder, and ``kill -9`` leaves it there. Raises OSError where no file can
    be made.
    """

    def __init__(self) -> None:
        self._named: Path | None = None
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.path = Path(f"/proc/{os.getpid()}/fd/{self.file.fileno()}")
        if sys.platform != "linux" or not os.access(self.path, os.R_OK):
            self.file.close()
            handle, name = tempfile.mkstemp(prefix="slowfast_dist-")
            self.file, self.path = os.fdopen(handle, "wb"), Path(name)
            self._named = self.path

    def close(self) -> None:
        """Delete it; a second time does nothing."""
        with contextlib.suppress(OSError):  # what was not written yet does not fit on the disk
            self.file.close()
        if self._named is not None:
            self._named.unlink(missing_ok=True)
