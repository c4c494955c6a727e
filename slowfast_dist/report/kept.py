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

from slowfast_dist.report.judged import Judged, as_json, from_json
from slowfast_dist.report.reading import mapping, sequence, whole
from slowfast_dist.report.run_data import Split
from slowfast_dist.report.stills import Stills

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
