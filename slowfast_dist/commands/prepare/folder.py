"""A folder of prepared videos: what each is called, and the record of what it was made of."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.data.listing.scan import VIDEO_SUFFIXES, path_below
from slowfast_dist.runs.lock import RunLock
from slowfast_dist.system.files import append, reason_of
from slowfast_dist.system.parsing import parse_json

RECORD = "prepared.jsonl"
"""Name of the record in the folder: a JSON object a line, as Prepared; of several lines for a path
the last one counts."""

PARTS = ".parts"
"""The folder below it of videos that are not finished."""


@dataclass(frozen=True)
class Prepared:
    """One prepared video. Paths are POSIX: below the folder, and ``source`` below the originals."""

    path: str
    source: str
    source_size: int
    source_mtime_ns: int
    source_sha256: str
    frames: int
    short_side: int
    key_interval: int
    version: int
    """Of the program's way to prepare."""
    size: int
    """Bytes of the prepared file."""
    pixel_aspect: str = "stored"
    """square: its pixels are; stored: they have the shape of the source's. Version 1 knew but the
    latter, and let the shape be forgotten."""


def _is_below(name: str) -> bool:
    """Whether a path of a record, which may be another's, stays in its folder."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not {"/", "//", ".."} & set(parts) and "\0" not in name


def target_names(sources: Sequence[str]) -> dict[str, str]:
    """The prepared video's name for each source's: the ending becomes .mp4.

    Where two would have one name, those that had it not get .mp4 behind the whole of theirs: a.avi
    beside a.mp4 becomes a.avi.mp4. What a CSV names by an absolute path, /store/a.avi, becomes
    store/a.mp4.
    """
    names = {
        source: source
        for source in sources
        if PurePosixPath(source).suffix == ".mp4" and not os.path.isabs(source)
    }
    taken = set(names)
    for source in sorted(set(sources) - taken):
        whole = path_below(source)
        path = PurePosixPath(whole)
        known = path.suffix.lower() in VIDEO_SUFFIXES  # a CSV may name files of any ending
        name = str(path.with_suffix(".mp4")) if known else f"{whole}.mp4"
        if name in taken:
            name = f"{whole}.mp4"
        while name in taken:
            name += ".mp4"
        names[source] = name
        taken.add(name)
    return names


class PreparedFolder:
    """OUT: the prepared videos that it holds, by their path below it (``entries``).

    All raise OSError, with a path, where something cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts = path / PARTS
        self.entries: dict[str, Prepared] = {}
        file = path / RECORD
        content = file.read_bytes() if file.exists() else b""
        self._torn = content != b"" and not content.endswith(b"\n")  # by a kill
        for line in content.splitlines():
            with suppress(ValueError, TypeError):
                entry = Prepared(**parse_json(line))
                types = (type(getattr(entry, field.name)) is field.type for field in fields(entry))
                if all(types) and _is_below(entry.path):
                    self.entries[entry.path] = entry
        self._write()  # from the start on it is known as a folder of prepared videos

    def holds(self, entry: Prepared) -> bool:
        """Whether the video is there, as large as it was written."""
        try:
            return (self.path / entry.path).stat().st_size == entry.size
        except FileNotFoundError:
            return False

    def publish(self, part: str, entry: Prepared) -> None:
        """The file ``part`` of the parts, which is whole, becomes the video of ``entry``.

        Recorded first: a stop in between leaves a line without its video, which is made again,
        and never a video that the record does not know, which would be made for nothing.
        """
        target = self._own(entry.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.holds(entry):  # as large, of an earlier source: the line must not hold for it
            target.unlink()
        self.note(entry)
        os.replace(self.parts / part, target)

    def note(self, entry: Prepared) -> None:
        """Add a line for a video that is there, or will be."""
        self._write(entry)
        self.entries[entry.path] = entry

    def remove(self, path: str) -> None:
        """Delete a prepared video whose source is no longer what it was made of."""
        if self.entries.pop(path, None) is not None:
            self._own(path).unlink(missing_ok=True)

    def without_source(self, sources: Iterable[str], base: Path) -> list[str]:
        """Sources of videos here that are neither among ``sources`` nor still below ``base``."""
        listed = set(sources)
        return sorted(
            entry.source
            for entry in self.entries.values()
            if entry.source not in listed and not (base / entry.source).exists()
        )

    def _own(self, path: str) -> Path:
        target = self.path / path
        if not target.parent.resolve().is_relative_to(self.path.resolve()):  # to originals?
            raise RunError(f"{target.parent}: a link leads out of {self.path}; remove it")
        return target

    def _write(self, entry: Prepared | None = None) -> None:
        with append(self.path / RECORD) as file:
            if self._torn:
                file.write("\n")
                self._torn = False
            if entry is not None:
                file.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")


@contextmanager
def open_folder(path: Path) -> Iterator[PreparedFolder]:
    """The folder, made or found as an earlier start left it, for this process alone.

    Raises UserError for one that holds something else or is in use. OSErrors of the block become
    RunErrors.
    """
    lock = None
    try:
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: is a file; give a folder for the prepared videos")
        if path.is_dir() and not (path / RECORD).exists() and any(path.iterdir()):
            raise UserError(f"{path}: holds other files; give a new folder as OUT")
        path.mkdir(parents=True, exist_ok=True)
        try:
            lock = RunLock(path, path)
        except UserError:
            what = "another prepare works there; wait for it, or give another OUT"
            raise UserError(f"{path}: {what}") from None
        folder = PreparedFolder(path)
        shutil.rmtree(folder.parts, ignore_errors=True)  # of a process that was killed
        folder.parts.mkdir()
        yield folder
    except OSError as error:
        if isinstance(error, BrokenPipeError) and error.filename is None:
            raise  # of standard output: nobody reads it any more
        what = f"{error.filename or path}: {reason_of(error, path)}"
        raise RunError(f"{what}; the same command goes on once that is mended") from error
    finally:
        if lock is not None:
            shutil.rmtree(path / PARTS, ignore_errors=True)
            lock.release()
