"""What is known of many videos, in a few arrays: no Python object a video.

Such arrays are pickled and written to files as they are, and processes forked from one that has
them share their memory: looking at an element changes nothing in it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Any, get_type_hints, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slowfast_dist.system.messages import sendable
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.seeking import unpack_moved_frames, unpack_uneven_times

CHUNK = 1 << 14
"""Texts that are Python objects at once, so that a million of them never are."""

Rows = NDArray[np.int64]


@sendable
class Texts(Sequence[str]):
    """Strings as one buffer of UTF-8, and of the other bytes that a file's name may have."""

    def __init__(self, data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        """Text i is ``data[offsets[i]:offsets[i + 1]]``; ``offsets`` (N + 1,)."""
        self.data, self.offsets = data, offsets

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        return cls.of_parts([text.encode("utf-8", "surrogateescape") for text in texts])

    @classmethod
    def of_parts(cls, parts: Sequence[bytes]) -> "Texts":
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=offsets[1:])
        return cls(np.frombuffer(b"".join(parts), np.uint8), offsets)

    @classmethod
    def concatenated(cls, several: Sequence["Texts"]) -> "Texts":
        lengths = [np.zeros(1, np.int64), *(np.diff(texts.offsets) for texts in several)]
        data = np.concatenate([np.empty(0, np.uint8), *(texts.data for texts in several)])
        return cls(data, np.cumsum(np.concatenate(lengths)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Texts": ...
    def __getitem__(self, index: int | slice) -> "str | Texts":
        rows = range(len(self))[index]
        if isinstance(rows, range):
            return self.take(rows)
        return _decode(self.data[self.offsets[rows] : self.offsets[rows + 1]].tobytes())

    def __iter__(self) -> Iterator[str]:
        return map(_decode, self.parts())

    def parts(self) -> Iterator[bytes]:
        """The texts as they are stored; only some of them are Python objects at a time."""
        for first in range(0, len(self), CHUNK):
            offsets = self.offsets[first : first + CHUNK + 1]
            data = self.data[offsets[0] : offsets[-1]].tobytes()
            places = (offsets - offsets[0]).tolist()
            for start, end in pairwise(places):
                yield data[start:end]

    def take(self, rows: ArrayLike | range) -> "Texts":
        """Those of ``rows``, in their order."""
        chosen = np.asarray(rows, np.int64)
        starts, lengths = self.offsets[chosen], np.diff(self.offsets)[chosen]
        offsets = np.zeros(len(chosen) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        data = np.empty(offsets[-1], np.uint8)
        for first in range(0, len(chosen), CHUNK):
            ends = offsets[first : first + CHUNK + 1]
            part = slice(first, first + CHUNK)
            # Of each byte: where it lies in the target, moved to its text's place in the source.
            places = np.arange(ends[0], ends[-1])
            places += np.repeat(starts[part] - ends[:-1], lengths[part])
            data[ends[0] : ends[-1]] = self.data[places]
        return Texts(data, offsets)

    def check(self) -> None:
        """Raise ValueError where they are not as `of` makes them, as in a damaged file."""
        right = self.data.dtype == np.uint8 and self.offsets.dtype == np.int64
        steps = np.diff(self.offsets, append=len(self.data))
        if not right or self.offsets[0] != 0 or steps.min() < 0:
            raise ValueError("texts that are none")

    def places(self, wanted: "Texts") -> Rows:
        """Of each wanted text a place among these, -1 where there is none: int64 (N wanted,)."""
        if np.array_equal(self.offsets, wanted.offsets) and np.array_equal(self.data, wanted.data):
            return np.arange(len(self))
        known = {part: place for place, part in enumerate(self.parts())}
        found = (known.get(part, -1) for part in wanted.parts())
        return np.fromiter(found, np.int64, len(wanted))


def _decode(part: bytes) -> str:
    return part.decode("utf-8", "surrogateescape")


@sendable
class Categorical:
    """(N,) strings of which many are the same: ``codes`` int32 (N,), indices into ``texts``."""

    def __init__(self, codes: NDArray[np.int32], texts: Texts) -> None:
        self.codes, self.texts = codes, texts

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Categorical":
        codes: dict[str, int] = {}
        column = np.fromiter((codes.setdefault(text, len(codes)) for text in texts), np.int32)
        return cls(column, Texts.of(codes))

    def __getitem__(self, row: int) -> str:
        return self.texts[int(self.codes[row])]

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self.codes), CHUNK):
            yield from self.texts.take(self.codes[first : first + CHUNK])

    def take(self, rows: Rows) -> "Categorical":
        """Those of ``rows``; texts that none of them has are left out."""
        used, codes = np.unique(self.codes[rows], return_inverse=True)
        return Categorical(codes.astype(np.int32), self.texts.take(used))


_TYPES: dict[str, type] = get_type_hints(VideoInfo)
_COLUMNS = {int: np.int64, float: np.float64, bool: np.bool_, str: np.int32}


@sendable
class InfoColumns:
    """(N,) VideoInfo, a column for each field; of a text the column has the index in ``texts``.

    Those in OWN_TEXTS, which hardly two videos have in common, are one buffer once `take` made it.
    """

    def __init__(self, columns: dict[str, NDArray[Any]], texts: dict[str, Sequence[str]]) -> None:
        self.columns, self.texts = columns, texts

    @classmethod
    def empty(cls, count: int) -> "InfoColumns":
        """``count`` rows to be set; until then they hold zeros."""
        columns: dict[str, NDArray[Any]] = {
            name: np.zeros(count, _COLUMNS[_TYPES[name]]) for name in FIELDS
        }
        # Of rows that were not set, as of files that cannot be read, such a text is the empty one.
        return cls(columns, {name: [""] * (name in OWN_TEXTS) for name in TEXTS})

    @classmethod
    def of(cls, infos: Sequence[VideoInfo]) -> "InfoColumns":
        columns = cls.empty(len(infos))
        for row, info in enumerate(infos):
            columns._set(row, vars(info))
        return columns

    def __len__(self) -> int:
        return len(self.columns["frames"])

    def check(self) -> None:
        """Raise ValueError where they are not as `take` makes them, as in a damaged file."""
        for name, column in self.columns.items():
            kind, texts = _TYPES[name], self.texts.get(name)
            wanted = "f" if kind is float else "b" if kind is bool else "i"
            if len(column) != len(self) or column.dtype.kind != wanted:
                raise ValueError(f"{name} of another length or type")
            if isinstance(texts, Texts):
                texts.check()
            elif kind is str and not (
                isinstance(texts, list) and all(_is_possible(name, text) for text in texts)
            ):
                raise ValueError(f"{name} that is none")
            least = 0 if kind is str else _LEAST.get(name, 0)
            low, high = (column.min(), column.max()) if len(column) else (least, least)
            # NaN is neither above nor below.
            if not (low >= least and (texts is None or high < max(1, len(texts)))):
                raise ValueError(f"{name} beyond its bounds")

    def set(self, row: int, info: Mapping[str, Any]) -> None:
        """Set a row of `empty` columns; ``info``: the fields of a VideoInfo, as a probe sent them.

        Raises ValueError, with a reason for people, for values that no video can have; the row
        then stays as it was.
        """
        for name in FIELDS:
            if not _is_possible(name, info.get(name)):
                raise ValueError(f"not a usable video: {name} {info.get(name)!a:.40}")
        self._set(row, info)

    def _set(self, row: int, info: Mapping[str, Any]) -> None:
        for name, column in self.columns.items():
            column[row] = self._code(name, info[name]) if name in self.texts else info[name]

    def __getitem__(self, row: int) -> VideoInfo:
        values = {name: column[row].item() for name, column in self.columns.items()}
        return VideoInfo(**values | {name: t[values[name]] for name, t in self.texts.items()})

    def put(self, rows: Rows, other: "InfoColumns", places: Rows) -> None:
        """Set ``rows`` of `empty` columns to the ``places`` of others."""
        for name, column in self.columns.items():
            values = other.columns[name][places]
            if name in self.texts:
                used, values = np.unique(values, return_inverse=True)
                texts = other.texts[name]
                codes = [self._code(name, texts[code]) for code in used.tolist() if texts]
                values = np.array(codes or [0], np.int32)[values]
            column[rows] = values

    def take(self, rows: Rows) -> "InfoColumns":
        """Those of ``rows``, each column of the smallest integers that hold it."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        texts: dict[str, Sequence[str]] = {
            name: list(self.texts[name]) for name in TEXTS if name not in OWN_TEXTS
        }
        for name in OWN_TEXTS:
            used = np.union1d([0], columns[name])  # 0 stays the empty text
            columns[name] = np.searchsorted(used, columns[name])
            texts[name] = Texts.of(self.texts[name][code] for code in used.tolist())
        return InfoColumns({name: _narrow(c) for name, c in columns.items()}, texts)

    def without(self, name: str, keep: NDArray[np.bool_]) -> "InfoColumns":
        """With the empty text, of those in OWN_TEXTS, in all rows but those to ``keep`` (N,)."""
        codes = np.where(keep, self.columns[name], 0)
        used = np.union1d([0], codes)
        texts = Texts.of(self.texts[name][code] for code in used.tolist())
        column = _narrow(np.searchsorted(used, codes))
        return InfoColumns({**self.columns, name: column}, {**self.texts, name: texts})

    def _code(self, name: str, text: str) -> int:
        texts = self.texts[name]
        assert isinstance(texts, list)  # of `empty` columns
        if name in OWN_TEXTS:
            if text:
                texts.append(text)
            return len(texts) - 1 if text else 0
        if text not in texts:  # of a handful: codecs
            texts.append(text)
        return texts.index(text)


FIELDS = tuple(_TYPES)
"""Names of the fields of a VideoInfo."""

TEXTS = tuple(name for name in FIELDS if _TYPES[name] is str)
"""Those that are texts."""

OWN_TEXTS: dict[str, Callable[[str], Rows | NDArray[np.float64]]] = {
    "moved_frames": unpack_moved_frames, "uneven_times": unpack_uneven_times,
}  # fmt: skip
"""Those of them that hardly two videos have in common, and what unpacks them; most videos have the
empty text."""

_LEAST = {"frames": 1, "width": 1, "height": 1, "first_time": -(1 << 63)}
"""Least value of a field that holds a number; of those that are not named here it is 0."""


def _is_possible(name: str, value: object) -> bool:
    kind = _TYPES[name]
    if isinstance(value, str) and name in OWN_TEXTS:
        return not value or _unpacks(OWN_TEXTS[name], value)
    if isinstance(value, str):
        # Names of codecs: FFmpeg's own have fewer than 20 characters.
        return kind is str and len(value) <= 64 and value.isprintable()
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if isinstance(value, int):
        return kind is not str and _LEAST.get(name, 0) <= value < 1 << 63
    return isinstance(value, float) and kind is float and isfinite(value) and value >= 0


def _unpacks(unpack: Callable[[str], Rows | NDArray[np.float64]], text: str) -> bool:
    try:
        return len(unpack(text)) > 1
    except ValueError:
        return False


def _narrow(column: NDArray[Any]) -> NDArray[Any]:
    """In the smallest signed integers that hold it."""
    if column.dtype.kind != "i" or not len(column):
        return column
    # Signed integers that hold -1 - n hold n too.
    least = min(int(column.min()), -1 - int(column.max()))
    return column.astype(np.min_scalar_type(least))
