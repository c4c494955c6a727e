"""What a page keeps for the next one: what cost time to find out, and its stills.

A training writes the page at the end of each epoch, and little of it changes. The facts are JSON
in the page, the stills its pictures, in order. Nothing of it is trusted more than the run's other
files: what is not as it was written is found out again.
"""

import json
import re
from base64 import b64decode
from binascii import Error
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slowfast_dist.metrics.summary import Judged, Mistake
from slowfast_dist.metrics.uncertainty import Bin
from slowfast_dist.report.stills import Stills
from slowfast_dist.runs.reading import mapping, number, pair, sequence, whole
from slowfast_dist.runs.run import Split

FORMAT = 1
"""Raise it when a page is to find everything out anew."""
MOST_BYTES = 64 * 1024**2

_FACTS = re.compile(rb'<script type="application/json" id="kept">(.*?)</script>', re.DOTALL)
_PICTURE = re.compile(rb'src="data:image/jpeg;base64,([A-Za-z0-9+/=]*)"')


@dataclass(frozen=True)
class Kept:
    """``judged`` and ``split`` are of the files with those stamps; ``asked``: mistakes wanted."""

    judged: Judged | None = None
    judged_stamp: list[int] | None = None
    asked: int = 0
    split: Split | None = None
    split_stamp: list[int] | None = None
    stills: Mapping[str, Stills] = field(default_factory=dict)


def as_script(kept: Kept) -> str:
    """JSON that can stand in a script element, where ``<`` could end it. Pure ASCII."""
    content = {
        "format": FORMAT,
        "judged": None if kept.judged is None else as_json(kept.judged),
        "judged_stamp": kept.judged_stamp,
        "asked": kept.asked,
        "split": None if kept.split is None else asdict(kept.split),
        "split_stamp": kept.split_stamp,
        "stills": [
            [name, list(stills.stamp), len(stills.pictures), stills.reason]
            for name, stills in kept.stills.items()
        ],
    }
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def read_kept(page: Path) -> Kept:
    """What an earlier page kept; an empty Kept where there is none."""
    try:
        if not page.is_file() or page.stat().st_size > MOST_BYTES:
            return Kept()
        content = page.read_bytes()
        found = _FACTS.search(content)
        facts = mapping(json.loads(found[1])) if found else {}
    except (OSError, ValueError, RecursionError):
        return Kept()
    if facts.get("format") != FORMAT:
        return Kept()
    return Kept(
        judged=from_json(facts.get("judged")),
        judged_stamp=_stamp(facts.get("judged_stamp")),
        asked=whole(facts.get("asked")) or 0,
        split=_split(mapping(facts.get("split"))),
        split_stamp=_stamp(facts.get("split_stamp")),
        stills=_stills(sequence(facts.get("stills")), _PICTURE.findall(content)),
    )


def _stamp(value: Any) -> list[int] | None:
    numbers = [number for number in map(whole_or_large, sequence(value)) if number is not None]
    return numbers if len(numbers) == 2 else None


def whole_or_large(value: Any) -> int | None:
    """A whole number: nanoseconds since 1970 are more than `whole` lets pass."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _split(value: dict[str, Any]) -> Split | None:
    sides = [
        {name: number for name, one in mapping(value.get(side)).items()
         if (number := whole(one)) is not None}
        for side in ("train", "val")
    ]  # fmt: skip
    return Split(sides[0], sides[1], value.get("grouped") is True) if value else None


def _stills(rows: list[Any], pictures: list[bytes]) -> dict[str, Stills]:
    found: dict[str, Stills] = {}
    waiting = list(pictures)
    try:
        for name, stamp, number, reason in rows:
            own = tuple(b64decode(picture) for picture in waiting[:number])
            if len(own) != number or not isinstance(name, str):
                return {}
            waiting = waiting[number:]
            found[name] = Stills(own, str(reason), tuple(_stamp(stamp) or ()))
    except (TypeError, ValueError, Error):
        return {}
    return {} if waiting else found


def as_json(judged: Judged) -> dict[str, Any]:
    """In JSON's types."""
    return asdict(judged)


def from_json(kept: Any) -> Judged | None:
    """What `as_json` gave; None for anything else, since anyone may have changed the page."""
    try:
        classes = [str(name) for name in kept["classes"]]
        cells = [(int(i), int(j), int(count)) for i, j, count in kept["cells"]]
        if any(not (0 <= i < len(classes) and 0 <= j < len(classes) and 0 < n < 10**9)
               for i, j, n in cells):  # fmt: skip
            return None
        metrics = {str(name): _number(value) for name, value in kept["metrics"].items()}
        bins = [
            Bin(
                low=_number(one["low"]),
                high=_number(one["high"]),
                count=whole(one["count"]) or 0,
                confidence=_number(one["confidence"]),
                accuracy=_number(one["accuracy"]),
            )
            for one in kept["bins"]
        ]
        intervals = {
            str(name): found
            for name, value in kept["intervals"].items()
            if (found := pair(value)) is not None
        }
        hardest = [
            Mistake(
                path=str(one["path"]),
                label=str(one["label"]),
                prediction=str(one["prediction"]),
                confidence=_number(one["confidence"]),
                probability=_number(one["probability"]),
            )
            for one in sequence(kept["hardest"])
        ]
        mistakes = whole(kept["mistakes"]) or 0
        return Judged(
            classes, cells, metrics, bins, _number(kept["ece"]), intervals, mistakes, hardest
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _number(value: Any) -> float:
    found = number(value)
    if found is None:
        raise ValueError(value)
    return found
