"""What probes found, remembered by path, size and time of each file."""

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from slowfast_dist.data.probe import VERSION
from slowfast_dist.data.video import VideoInfo
from slowfast_dist.files import atomic_write

SAVE_SECONDS = 60.0
"""From one save of the cache to the next while the probe runs."""

_ENTRY = ("path", "size", "mtime_ns", "version", "info")


def default_cache() -> Path | None:
    """``slowfast_dist/probe.jsonl`` in $SLOWFAST_DIST_CACHE, $XDG_CACHE_HOME or ~/.cache.

    None for a user without a home.
    """
    for name in ("SLOWFAST_DIST_CACHE", "XDG_CACHE_HOME"):
        if os.environ.get(name):
            return Path(os.environ[name], "slowfast_dist", "probe.jsonl")
    try:
        return Path.home() / ".cache" / "slowfast_dist" / "probe.jsonl"
    except RuntimeError:
        return None


class ProbeCache:
    """A file of one JSON object a line: path, size, mtime_ns, version and what the probe found.

    Rejections are not kept: a missing codec may come, a network drive recover.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._entries = self._read()
        self._new: dict[str, dict[str, Any]] = {}
        self._saved = time.monotonic()

    def get(self, path: Path, stamp: tuple[int, int]) -> VideoInfo | None:
        entry = self._entries.get(os.path.abspath(path))
        if entry is None or (entry["size"], entry["mtime_ns"]) != stamp:
            return None
        return VideoInfo(**entry["info"])

    def add(self, path: Path, stamp: tuple[int, int], info: dict[str, Any]) -> None:
        name, (size, mtime) = os.path.abspath(path), stamp
        self._new[name] = {
            "path": name,
            "size": size,
            "mtime_ns": mtime,
            "version": VERSION,
            "info": info,
        }
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Add the new entries to those that the file has by now, which another run may write."""
        self._saved = time.monotonic()
        if self._file is None or not self._new:
            return
        entries = self._read() | self._new
        try:
            with atomic_write(self._file, "w") as file:
                file.writelines(json.dumps(entry) + "\n" for entry in entries.values())
        except OSError as error:
            print(
                f"warning: {self._file}: {error.strerror or error}; the videos will be checked "
                "again next time",
                file=sys.stderr,
            )
            self._file = None
        self._new = {}

    def _read(self) -> dict[str, dict[str, Any]]:
        """The valid entries of this version; a damaged line costs only itself."""
        entries: dict[str, dict[str, Any]] = {}
        try:
            lines = self._file.read_bytes().splitlines() if self._file else []
        except OSError:
            return {}
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                if entry["version"] == VERSION and VideoInfo(**entry["info"]).frames > 0:
                    entries[entry["path"]] = {key: entry[key] for key in _ENTRY}
        return entries
