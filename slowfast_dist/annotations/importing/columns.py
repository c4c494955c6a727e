"""Segments in columns while they are imported: a million take about 60 bytes each."""

from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.importing.rows import Segment, Where

NONE = float("nan")


class Words:
    """Texts by number, each kept once; 0 is the empty one."""

    def __init__(self) -> None:
        self.texts = [""]
        self._codes = {"": 0}

    def code(self, text: str) -> int:
        code = self._codes.get(text)
        if code is None:
            code = self._codes[text] = len(self.texts)
            self.texts.append(text)
        return code

    def __len__(self) -> int:
        return len(self.texts)


class Columns:
    """(N,) segments whose videos are found; ``videos`` are paths below the root."""

    def __init__(self) -> None:
        self.files, self.videos, self.labels = Words(), Words(), Words()
        self.subjects, self.splits, self.groups = Words(), Words(), Words()
        self.seen_labels: set[str] = set()
        """All classes of the files, also those of rows that were left out."""
        self._ints = {name: array("i") for name in (
            "file", "video", "label", "subject", "split", "group")}  # fmt: skip
        self._start, self._end, self._frames = array("d"), array("d"), array("b")
        self._length = array("f")
        self._where = array("q")
        self._places = Words()
        """Places in words: numbers below 0 in ``_where`` stand for them."""

    def __len__(self) -> int:
        return len(self._start)

    def add(self, segment: Segment, file: str, video: str, label: str) -> None:
        ints = self._ints
        ints["file"].append(self.files.code(file))
        ints["video"].append(self.videos.code(video))
        ints["label"].append(self.labels.code(label))
        ints["subject"].append(self.subjects.code(segment.subject))
        ints["split"].append(self.splits.code(segment.split))
        ints["group"].append(self.groups.code(segment.group))
        self._start.append(NONE if segment.start is None else segment.start)
        self._end.append(NONE if segment.end is None else segment.end)
        self._frames.append(segment.frames)
        self._length.append(segment.length)
        where = segment.where
        self._where.append(where if isinstance(where, int) else -self._places.code(where))

    def where(self, row: int) -> Where:
        number = self._where[row]
        return number if number >= 0 else self._places.texts[-number]

    def codes(self, name: str) -> NDArray[np.int32]:
        """(N,) of video, label, subject, split, group or file: places in the texts."""
        return np.frombuffer(self._ints[name], np.int32) if len(self) else np.zeros(0, np.int32)

    def lengths(self) -> NDArray[np.float32]:
        """(N,) seconds that the files say their videos have, 0 where they do not."""
        return np.array(self._length, np.float32)

    def times(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Starts and ends (N,), NaN for none, to be changed; and whether they are frames."""
        def copied(column: Sequence[float]) -> NDArray[np.float64]:
            return np.array(column, np.float64)

        return copied(self._start), copied(self._end), np.array(self._frames, np.bool_)


def rows_of(codes: NDArray[np.int32], rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Those of ``rows`` that have the same code, a group after another."""
    order = rows[np.argsort(codes[rows], kind="stable")]
    bounds = np.flatnonzero(np.diff(codes[order])) + 1
    yield from (part for part in np.split(order, bounds) if len(part))
