"""What the benchmarks share: how they print, and on what machine they ran."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from slowfast_dist.cpus import available_cpus

Row = Mapping[str, Any]


def ratio_of_medians(ours: Sequence[float], others: Sequence[float]) -> float:
    """The median of ``ours`` over that of ``others``."""
    return median(ours) / median(others)


def machine_facts() -> dict[str, Any]:
    """CPUs, and the versions of the libraries that decide the speed; None where one is missing."""
    return {
        "cpus": available_cpus(),
        "cpus_of_the_host": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "av", "decord", "numpy")},
        "opencv": _version("opencv-python-headless") or _version("opencv-python"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def print_table(title: str, columns: Mapping[str, str], rows: Sequence[Row]) -> None:
    """``columns``: heading -> key of the rows. What a row lacks, or is None, stays empty."""
    cells = [list(columns), *([_text(row.get(key)) for key in columns.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numbers = [all(_is_number(row.get(key)) for row in rows) for key in columns.values()]
    print(f"\n{title}")
    for line in cells:
        padded = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, numbers, strict=True)
        ]
        print("  ".join(padded).rstrip())


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def print_json(result: Mapping[str, Any]) -> None:
    """As the last line of standard output."""
    print(json.dumps(result, ensure_ascii=False, allow_nan=False), flush=True)
