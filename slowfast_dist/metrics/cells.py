"""Several classes of one sample in one cell, as waving|walking. No NumPy: `--help` needs none."""

from collections.abc import Iterable, Sequence
from itertools import compress

SEPARATOR = "|"
"""Between the classes of one sample. No CSV parts its cells by it."""


def joined(flags: Iterable[bool], classes: Sequence[str]) -> str:
    """Those of the K classes of which the flag is set, in one cell; "" for none."""
    return SEPARATOR.join(compress(classes, flags))


def parted(cell: str) -> list[str]:
    """The classes in a cell."""
    return cell.split(SEPARATOR) if cell else []
