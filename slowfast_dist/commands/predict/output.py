"""How predictions are printed: a table for people, JSON lines for programs. No torch.

Results go to standard output, all else to standard error.
"""

import json
import os
import sys
import unicodedata
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.cells import SEPARATOR
from slowfast_dist.metrics.unknown import UNKNOWN, label_of
from slowfast_dist.system.progress import is_terminal, note
from slowfast_dist.system.text import clean
from slowfast_dist.video.reader import VideoInfo

MIN_OTHERS_COLUMNS = 20
"""Columns that must be left beside the first class for the others to be written there, not below:
room for one short name with its percentage."""

NONE_SAID = "(none)"
"""Stands for the class of a video of which every class is below its threshold."""

Ranked = list[tuple[str, float]]


def top(probabilities: NDArray[np.float64], classes: Sequence[str], k: int) -> Ranked:
    """The ``k`` most probable classes, or all if there are fewer, with their probabilities (K,);
    of equal ones the first comes first."""
    order = np.argsort(-probabilities, kind="stable")[:k]
    return [(classes[place], float(probabilities[place])) for place in order]


def seconds_of(info: VideoInfo) -> float | None:
    """The playing time of a video; None where its frame rate is unknown."""
    seconds = info.frames / info.fps if info.fps > 0 else 0.0
    return seconds if seconds > 0 and isfinite(seconds) else None


def as_json(ranked: Ranked, digits: int | None = None) -> list[dict[str, Any]]:
    """In JSON's types; ``digits`` of the probabilities, None: all."""
    return [{"class": name, "probability": value if digits is None else round(value, digits)}
            for name, value in ranked]  # fmt: skip


class JsonLines:
    """Prints one object a line: path, prediction, confidence, top, seconds; or path and error. Of
    several labels a video predictions are in place of prediction and confidence."""

    def __init__(self, min_confidence: float = 0.0) -> None:
        """Below it the prediction is `unknown`."""
        self.min_confidence = min_confidence

    def prediction(
        self, path: Path, ranked: Ranked, info: VideoInfo, more: dict[str, Any],
        said: Ranked | None = None,
    ) -> None:  # fmt: skip
        """``more``: the "segments" and "files" of a long video, or nothing; ``said``: of several
        labels those that are said to be there, else None."""
        name, confidence = ranked[0]
        label = label_of(name, confidence, self.min_confidence)
        told = {"prediction": label, "confidence": confidence}
        self._print({
            "path": str(path), **(told if said is None else {"predictions": as_json(said)}),
            "top": as_json(ranked), "seconds": seconds_of(info), **more,
        })  # fmt: skip

    def failure(self, path: Path, reason: str) -> None:
        self._print({"path": str(path), "error": reason})

    def _print(self, content: dict[str, Any]) -> None:
        # In ASCII: a path may hold any bytes, and standard output may have any encoding.
        print(json.dumps(content, allow_nan=False), flush=True)


class Table:
    """Prints path, class, probability in percent, then the other classes; nothing is cut off."""

    def __init__(
        self, paths: Sequence[Path], classes: Sequence[str], columns: int | None,
        min_confidence: float = 0.0,
    ) -> None:  # fmt: skip
        """``columns`` of the terminal; None: no terminal, and one line a video. A class less
        probable than ``min_confidence`` stands among the others, behind `unknown`."""
        self.columns, self.min_confidence = columns, min_confidence
        classes = (*classes, UNKNOWN) if min_confidence else classes
        files = [width(clean(str(path))) for path in paths]
        names = [width(clean(name)) for name in classes]
        self.for_path = _widest(files, columns and columns // 2)
        self.for_class = _widest(names, columns and columns // 4)
        self.before = self.for_path + self.for_class + len(f"    {percent(1)}  ")
        self.beside = columns is None or columns - self.before > max(
            MIN_OTHERS_COLUMNS, *(name + len(" 100.0") for name in names)
        )
        """Whether the other classes are written beside the first, or below."""

    def prediction(
        self, path: Path, ranked: Ranked, info: VideoInfo, more: dict[str, Any],
        said: Ranked | None = None,
    ) -> None:  # fmt: skip
        """As `JsonLines.prediction`. Several labels are one class here, waving|walking, as sure as
        the least sure of them; the others are those below their thresholds."""
        if said is not None:
            names, values = [name for name, _ in said], [value for _, value in said]
            others = [one for one in ranked if one[0] not in names]
            first = (SEPARATOR.join(names), values[-1]) if said else (NONE_SAID, 0.0)
            ranked = [first, *others]
        print(*self.lines(path, ranked), sep="\n", flush=True)
        for segment in more.get("segments", []):
            span = f"{segment['start']:9.2f} to {segment['end']:9.2f} s"
            label = padded(clean(segment["class"]), self.for_class)
            print(f"{span}  {label}  {percent(segment['confidence'])}", flush=True)
        for file in more.get("files", []):
            print(f"  {clean(str(file))}", flush=True)

    def failure(self, path: Path, reason: str) -> None:
        note(f"error: {path}: {reason}")

    def lines(self, path: Path, ranked: Ranked) -> list[str]:
        """The lines of one video. A path has one of its own where it is too long for its column,
        or the class for the one beside."""
        (name, confidence), *others = [(clean(name), value) for name, value in ranked]
        if (said := label_of(name, confidence, self.min_confidence)) != name:
            name, others = said, [(name, confidence), *others]
        words = [f"{name} {100 * value:.1f}" for name, value in others]
        file, columns = clean(str(path)), self.columns
        short = width(name) <= self.for_class
        alone = not short or width(file) > self.for_path
        line = padded("" if alone else file, self.for_path if short else 0)
        sure = percent(confidence) if name != NONE_SAID else " " * len(percent(confidence))
        line += f"  {padded(name, self.for_class)}  {sure}"
        before = [file] if alone else []
        if not words:
            return [*before, line]
        if columns is None:
            return [*before, f"{line}  {', '.join(words)}"]
        if self.beside and short:
            first, *rest = wrapped(words, columns - self.before)
            return [*before, f"{line}  {first}", *(" " * self.before + text for text in rest)]
        return [*before, line, *(f"      {text}" for text in wrapped(words, columns - 6))]


def _widest(widths: Sequence[int], limit: int | None) -> int:
    """Of those within the limit: one name that is longer does not spread the others apart."""
    return max((one for one in widths if limit is None or one <= limit), default=0)


def terminal_columns() -> int | None:
    """Of standard output; None where that is no terminal."""
    return os.get_terminal_size(sys.stdout.fileno()).columns if is_terminal(sys.stdout) else None


def percent(value: float) -> str:
    return f"{100 * value:5.1f} %"


def wrapped(words: Sequence[str], columns: int) -> list[str]:
    """The words with commas between them, in lines of that width."""
    lines = [words[0]]
    for word in words[1:]:
        longer = f"{lines[-1]}, {word}"
        if width(longer) < columns:  # another comma may follow
            lines[-1] = longer
        else:
            lines[-1] += ","
            lines.append(word)
    return lines


def width(text: str) -> int:
    """Columns that it takes on a terminal, in any script."""
    drawn = [sign for sign in text if unicodedata.category(sign) not in ("Mn", "Me", "Cf")]
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in drawn)


def padded(text: str, columns: int) -> str:
    return text + " " * (columns - width(text))
