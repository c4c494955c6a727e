"""What the names of classes tell: their order, names that may be one, sides that a mirror swaps."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from logging import INFO, WARNING
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.system.log import logger
from slowfast_dist.system.messages import sendable
from slowfast_dist.system.text import few

_INTEGER = re.compile(r"-?[0-9]{1,18}")

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
"""A word of a name: of turn_left, turn-left, TurnLeft and TURN LEFT the last one is left."""

_SIDED = frozenset({
    "left", "right", "leftward", "rightward", "leftwards", "rightwards", "lefthand", "righthand",
    "lefthanded", "righthanded", "leftmost", "rightmost", "clockwise", "counterclockwise",
    "anticlockwise", "cw", "ccw",
})  # fmt: skip
"""Words that mean another thing in a mirror."""


@sendable
@dataclass(frozen=True)
class Remark:
    """What a user should know of a list of videos: ``kind``, a fixed word for programs, ``what``,
    and the ``remedy``, if it needs one."""

    level: Literal["info", "warning"]
    kind: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}" if self.remedy else self.what


def log_remarks(remarks: Iterable[Remark]) -> None:
    """Each in a line."""
    for remark in remarks:
        logger.log(WARNING if remark.level == "warning" else INFO, "%s", remark)


def sort_labels(names: Iterable[str]) -> tuple[str, ...]:
    """In the order that classes have: by value where all are integers (2 before 10), else by the
    characters' codes."""
    listed = sorted(names)
    if all(map(_INTEGER.fullmatch, listed)):
        listed.sort(key=int)  # 7 and 07 are two names: they stay in their order
    return tuple(listed)


def class_swaps(pairs: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """The class that each one of ``pairs``, as left:right, becomes in a mirror. Raises UserError,
    naming the flag, for what are not two classes, or one that has another partner already."""
    swaps: dict[str, str] = {}
    for pair in pairs:
        flag = f"--data.flip-pairs {pair}"
        parts = pair.split(":")  # a name may have a colon, too
        ways = [(":".join(parts[:n]), ":".join(parts[n:])) for n in range(1, len(parts))]
        one, other = next((way for way in ways if set(way) <= set(classes)), ways[0])
        for name in (one, other):
            if name not in classes:
                known = few(classes, 6, quoted=True)
                raise UserError(f"{flag}: there is no class {name!r}: give two of {known}")
            if name in swaps:
                raise UserError(f"{flag}: {name!r} is of two pairs: give each class once")
        if one == other:
            raise UserError(f"{flag}: give two classes, or leave it out: others keep their label")
        swaps |= {one: other, other: one}
    return swaps


def swap_table(pairs: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64] | None:
    """The same as the place of each class's partner in ``classes``, (K,), its own where it has
    none; None without pairs."""
    swaps = class_swaps(pairs, classes)
    if not swaps:
        return None
    return np.array([classes.index(swaps.get(name, name)) for name in classes], np.int64)


def label_remarks(
    counts: Mapping[str, int], flip: bool, pairs: Sequence[str] = ()
) -> Iterator[Remark]:
    """What is odd about the names of classes; ``counts``: videos of each; ``flip``: whether clips
    are mirrored in training; ``pairs``: as of `class_swaps`."""
    for names in _alike(counts):
        shown = few(names, 4, " and ", quoted=True)
        videos = few([str(counts[name]) for name in names], 4, " and ")
        yield Remark(
            "warning", "similar-classes",
            f"classes {shown} ({videos} videos) differ only in case, spaces or the spelling of a "
            "character",
            "rename them alike where they are one class",
        )  # fmt: skip
    sided = [name for name in counts if any(w.lower() in _SIDED for w in _WORD.findall(name))]
    swaps = class_swaps(pairs, tuple(counts))
    sided = [name for name in sided if name not in swaps]
    if flip and sided:
        named = f"class {sided[0]!r} names a side or a sense of turning"
        if len(sided) > 1:
            named = f"{len(sided)} classes name a side or a sense of turning, as {few(sided, 2)}"
        yield Remark(
            "warning", "mirrored-classes",
            f"{named}, and half of the training clips are mirrored, with the label left as it is",
            "--data.flip-pairs swaps the labels of such clips, as of left:right; or give "
            "--data.flip false",
        )  # fmt: skip


def _alike(names: Iterable[str]) -> list[list[str]]:
    """Names, two or more each, that a person reads as one."""
    by_key: dict[str, list[str]] = defaultdict(list)
    for name in names:
        key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        by_key[re.sub(r"[\s_-]+", " ", key.strip())].append(name)
    return [sorted(alike) for alike in by_key.values() if len(alike) > 1]
