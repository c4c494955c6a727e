"""The files that features are written to, row by row, so that memory does not grow with them."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray

from slowfast_dist.annotations.segments import seconds_text
from slowfast_dist.config.errors import UserError
from slowfast_dist.system.files import atomic_write, check_output
from slowfast_dist.system.text import for_spreadsheets


@dataclass(frozen=True)
class FeatureRow:
    """``features`` float32 (F,) of what is shown in the file at ``path`` from ``start`` to ``end``,
    seconds from its first frame on, NaN where it does not tell; ``label``: "" where there is none;
    ``group``: of rows of one recording."""

    path: str
    start: float
    end: float
    label: str
    group: str
    features: NDArray[np.float32]

    def cells(self) -> tuple[str, str, str, str, str]:
        """All but the features, in text."""
        times = ("" if isnan(time) else seconds_text(time) for time in (self.start, self.end))
        start, end = times
        return self.path, start, end, self.label, self.group


COLUMNS = ("path", "start", "end", "label", "group")

ENDINGS = (".npy", ".parquet", ".csv")

Write = Callable[[Sequence[FeatureRow]], None]


def check_features_file(output: Path, overwrite: bool) -> None:
    """Raise UserError, before any video is read, for an output that cannot be written."""
    check_output(output, ENDINGS, overwrite, files_of(output)[1:])
    if output.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UserError(
                f"--output {output}: needs pyarrow, which is not here: pip install '.[embed]', or "
                "give a name that ends in .npy"
            ) from None


def files_of(output: Path) -> list[Path]:
    """All that is written: an array has the rows of its features beside it."""
    return [output, output.with_suffix(".csv")] if output.suffix.lower() == ".npy" else [output]


@contextmanager
def open_output(
    output: Path, width: int, facts: Mapping[str, Any], safe: bool
) -> Iterator[Write]:
    """Give a function that writes rows of ``width`` features; the files are there, whole, when the
    block has succeeded. ``facts``: of the model, which a .parquet holds as its metadata
    "slowfast_dist"; ``safe``: as --csv-safe. Raises OSError with the path."""
    kind = output.suffix.lower()
    if kind == ".npy":
        with atomic_write(output) as file, _listed(output.with_suffix(".csv"), safe, 0) as listed:
            with _array(file, width) as write:
                yield lambda rows: (write(rows), listed(rows))[0]
    elif kind == ".csv":
        with _listed(output, safe, width) as listed:
            yield listed
    else:
        with atomic_write(output) as file, _parquet(file, width, facts) as write:
            yield write


def feature_names(width: int) -> list[str]:
    """feature_0000 and so on, of one length, so that they sort."""
    digits = len(str(width - 1))
    return [f"feature_{place:0{digits}}" for place in range(width)]


@contextmanager
def _array(file: IO[bytes], width: int) -> Iterator[Write]:
    """float32 (N, ``width``). NumPy leaves room in the header for the number of rows, which is
    known at the end alone."""
    count = 0

    def write_header() -> int:
        facts = {"descr": "<f4", "fortran_order": False, "shape": (count, width)}
        write_array_header_1_0(file, facts)
        return file.tell()

    begin = write_header()

    def write(rows: Sequence[FeatureRow]) -> None:
        nonlocal count
        for row in rows:
            file.write(row.features.astype("<f4").tobytes())
        count += len(rows)

    yield write
    file.seek(0)
    end = write_header()
    assert end == begin, (begin, end)
    file.seek(0, 2)


@contextmanager
def _listed(path: Path, safe: bool, width: int) -> Iterator[Write]:
    """A CSV of the rows, with their features where it has a ``width``."""
    with atomic_write(path, "w", "surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow((*COLUMNS, *(feature_names(width) if width else ())))

        def write(rows: Sequence[FeatureRow]) -> None:
            for row in rows:
                cells = [for_spreadsheets(cell) if safe else cell for cell in row.cells()]
                numbers = row.features.tolist() if width else []
                # Nine digits tell every float32 apart.
                writer.writerow([*cells, *(f"{number:.9g}" for number in numbers)])

        yield write


@contextmanager
def _parquet(file: IO[bytes], width: int, facts: Mapping[str, Any]) -> Iterator[Write]:
    import pyarrow
    from pyarrow import parquet

    text, time, number = pyarrow.string(), pyarrow.float64(), pyarrow.float32()
    types = (text, time, time, text, text)
    names = feature_names(width)
    schema = pyarrow.schema(
        [*zip(COLUMNS, types, strict=True), *((name, number) for name in names)],
        {"slowfast_dist": json.dumps(facts)},
    )

    def write(rows: Sequence[FeatureRow]) -> None:
        features = np.stack([row.features for row in rows])
        columns = [[_or_none(getattr(row, name)) for row in rows] for name in COLUMNS]
        arrays = [pyarrow.array(column, kind) for column, kind in zip(columns, types, strict=True)]
        arrays += [pyarrow.array(np.ascontiguousarray(column)) for column in features.T]
        writer.write_table(pyarrow.table(arrays, schema))

    with parquet.ParquetWriter(file, schema) as writer:
        yield write


def _or_none(value: str | float) -> str | float | None:
    """As a .parquet has it: nothing for what is not known, and a path in UTF-8."""
    if isinstance(value, float):
        return None if isnan(value) else value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") or None
