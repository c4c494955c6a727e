"""The files that `predict` writes about a long video: segments, a timeline, an annotated copy."""

import contextlib
import csv
import hashlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from slowfast_dist.commands.predict.annotate import annotate
from slowfast_dist.commands.predict.segments import Segment, find_segments
from slowfast_dist.commands.predict.timeline import draw_timeline
from slowfast_dist.commands.predict.windows import score_windows
from slowfast_dist.config.commands import Predict
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.system.files import atomic_write, write_json
from slowfast_dist.system.progress import LINE_SECONDS, is_terminal
from slowfast_dist.video.reader import VideoInfo

if TYPE_CHECKING:
    from slowfast_dist.inference.predictor import Predictor

SUFFIXES = (".segments.json", ".segments.csv", ".timeline.png", ".annotated.mp4")
CLAIM = ".source"
"""Of the hidden file that says whose the names of a video are."""

LONGEST_NAME = 150
"""Bytes: a file's name has at most 255, and suffixes and temporary names need some."""


def write_long(
    predictor: "Predictor", path: Path, info: VideoInfo, command: Predict, folder: Path
) -> dict[str, Any]:
    """Do what --segments and --annotate ask for with one video.

    Files called after the video go into ``folder``; they replace those of an earlier prediction of
    the same video, never another file. Returns {"segments": [{"start", "end", "class",
    "confidence"}, ...], "files": [path, ...]}. Raises DecodeError for a video that cannot be read,
    UserError for a folder that cannot be made, RunError for what cannot be written.
    """
    with _Shown(path, 1 + command.annotate) as shown:
        scores = score_windows(
            predictor, path, info, command.window, command.stride, command.batch_size, shown
        )
        segments = find_segments(scores, predictor.classes, command.smoothing)
        rows = [_row(segment) for segment in segments]
        name = claim_name(folder, path)
        files: list[Path] = []
        try:
            if command.segments:
                files = [folder / (name + suffix) for suffix in SUFFIXES[:3]]
                about = {"video": _text(path), "duration": round(scores.duration, 3)}
                write_json(files[0], {**about, "segments": rows})
                _write_csv(files[1], rows)
                arguments = scores, segments, predictor.classes, command.smoothing
                draw_timeline(files[2], *arguments, path.name)
            if command.annotate:
                files.append(folder / (name + SUFFIXES[3]))
                shown.next()
                arguments = scores, segments, predictor.classes, command.smoothing
                silent = annotate(path, info, files[-1], *arguments, shown)
                if silent:
                    print(f"{_text(path)}: {silent}", file=sys.stderr)
        except OSError as error:
            where = error.filename or folder
            raise RunError(f"{where}: cannot be written ({error.strerror or error})") from error
    return {"segments": rows, "files": [str(file) for file in files]}


def _row(segment: Segment) -> dict[str, Any]:
    return {
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "class": segment.label,
        "confidence": round(segment.probability, 4),
    }


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with atomic_write(path, "w") as file:
        writer = csv.DictWriter(file, ["start", "end", "class", "confidence"])
        writer.writeheader()
        writer.writerows(rows)


def _text(path: Path) -> str:
    """What of its name UTF-8 does not have is written as numbers."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# --- names ---------------------------------------------------------------------------------------


def claim_name(folder: Path, path: Path) -> str:
    """What the files about a video are called in ``folder``: its stem, or stem-2 and so on where
    that is another video's, or a file of such a name was there before.

    A hidden file beside them keeps it: the same for the same video ever after, also when several
    processes work in one folder. Raises UserError where it cannot be made.
    """
    whole = os.fsencode(path.resolve())
    digest = hashlib.sha256(whole).hexdigest().encode()
    stem = os.fsdecode(os.fsencode(path.stem)[:LONGEST_NAME])
    stem = stem.encode("utf-8", "replace").decode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            name = stem if number == 1 else f"{stem}-{number}"
            if _is_claimed(folder, name, digest):
                return name
            number += 1
    except OSError as error:
        raise UserError(
            f"--output {folder}: cannot be written ({error.strerror}): give a folder that can"
        ) from error


def _is_claimed(folder: Path, name: str, digest: bytes) -> bool:
    claim = folder / f".{name}{CLAIM}"
    if not claim.exists():
        if any((folder / (name + suffix)).exists() for suffix in SUFFIXES):
            return False
        with contextlib.suppress(FileExistsError), open(claim, "xb") as file:
            file.write(digest)  # another process that comes in between takes another name
    return claim.read_bytes() == digest


class _Shown:
    """Progress of the work on one video, on standard error: a bar on a terminal, elsewhere a line
    every 30 s. Called with the fraction of each of its ``parts`` in turn."""

    def __init__(self, path: Path, parts: int) -> None:
        self._title, self._parts, self._part = _text(Path(path.name)), parts, 0
        self._said = time.monotonic()
        self._bar = tqdm(
            total=100, desc=self._title, unit="%", leave=False, dynamic_ncols=True,
            disable=not is_terminal(sys.stderr), bar_format="{l_bar}{bar}| {remaining}",
        )  # fmt: skip

    def __call__(self, fraction: float) -> None:
        percent = int(100 * (self._part + min(1.0, fraction)) / self._parts)
        self._bar.update(percent - self._bar.n)
        if self._bar.disable and time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            print(f"{self._title}: {percent} %", file=sys.stderr, flush=True)

    def next(self) -> None:
        """The next part begins."""
        self._part += 1

    def __enter__(self) -> "_Shown":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
