"""RUN/report_cache.json: what cost time to find out for a page, for the next one.

A training writes the page at the end of each epoch, and little of it changes: of metrics.jsonl only
new lines are parsed, predictions and split are read again where their files changed, and no video
is decoded twice. The file may be deleted at any time. It says its own SHA-256: one that is damaged,
of another version or another's counts for none, and the next page replaces it.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from slowfast_dist.metrics.summary import HardVideo, Summary
from slowfast_dist.metrics.uncertainty import Bin
from slowfast_dist.metrics.wrong_labels import Doubt
from slowfast_dist.report.sections.judged import Judged
from slowfast_dist.report.thumbnails import Thumbnails
from slowfast_dist.runs.history import History
from slowfast_dist.runs.run import Split
from slowfast_dist.system.files import atomic_write
from slowfast_dist.system.parsing import parse_json

CACHE = "report_cache.json"

FORMAT = 7
"""Raise it where the cached classes change: the next page then finds everything out anew."""

MOST_BYTES = 64 * 1024**2
"""Size of the largest cache that is read; one of 400 classes and 200 epochs has 0.7 MB."""

Stamp = tuple[int, ...] | None


@dataclass(frozen=True)
class Cache:
    """``summary`` and ``split`` are of the files with those stamps, ``judged`` is of the same
    predictions as the summary; ``hardest``: mistakes that were asked for; ``thumbnails`` by the
    paths of their videos."""

    history: History | None = None
    summary: Summary | None = None
    summary_stamp: Stamp = None
    hardest: int = 0
    split: Split | None = None
    split_stamp: Stamp = None
    thumbnails: Mapping[str, Thumbnails] = field(default_factory=dict)
    judged: Judged | None = None


def write_cache(run: Path, cache: Cache) -> None:
    """Put it into the run's folder; nothing where that cannot be written."""
    content = {"format": FORMAT, **vars(cache)}
    text = json.dumps(content, separators=(",", ":"), default=_plain)  # pure ASCII
    with suppress(OSError), atomic_write(run / CACHE) as file:
        file.write(_signed(text.encode()))


def read_cache(run: Path) -> Cache:
    """What the last page left; an empty Cache where that is nothing."""
    path, before = run / CACHE, len(_signed(b"")) - len(_END)
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            return Cache()
        data = path.read_bytes()
        content = data[before : -len(_END)]
        if data != _signed(content):
            return Cache()
        return _parsed(parse_json(content))
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        return Cache()


_END = b"}\n"


def _signed(content: bytes) -> bytes:
    """A JSON object of the content and its SHA-256."""
    return b'{"sha256":"%b","content":%b' % (sha256(content).hexdigest().encode(), content) + _END


def _plain(value: Any) -> Any:
    """What JSON has not: pictures, and the dataclasses."""
    return b64encode(value).decode() if isinstance(value, bytes) else vars(value)


def _parsed(content: dict[str, Any]) -> Cache:
    if content.pop("format") != FORMAT:
        return Cache()
    history, summary, split = content["history"], content["summary"], content["split"]
    if history is not None:
        points = history["class_f1"]
        history["class_f1"] = {name: list(map(tuple, points[name])) for name in points}
    if summary is not None:
        summary["cells"] = list(map(tuple, summary["cells"]))
        summary["bins"] = [Bin(**one) for one in summary["bins"]]
        summary["intervals"] = {name: tuple(ends) for name, ends in summary["intervals"].items()}
        summary["hardest"] = [HardVideo(**one) for one in summary["hardest"]]
    judged = content["judged"]
    if judged is not None:
        judged["calibrated"] = [Bin(**one) for one in judged["calibrated"]]
        judged["doubts"] = [Doubt(**one) for one in judged["doubts"]]
    return Cache(
        **content
        | {
            "history": history and History(**history),
            "summary": summary and Summary(**summary),
            "judged": judged and Judged(**judged),
            "split": split and Split(**split),
            "thumbnails": {
                name: Thumbnails(
                    tuple(map(b64decode, one["pictures"])), one["reason"], tuple(one["stamp"])
                )
                for name, one in content["thumbnails"].items()
            },
            "summary_stamp": tuple(content["summary_stamp"] or ()) or None,
            "split_stamp": tuple(content["split_stamp"] or ()) or None,
        }
    )
