"""Best models as OpenVINO reads them, and what was measured of them, kept by content: a second
start is fast, and needs no torch.

A graph is kept, an .xml with its .bin, and compiled at each start, which takes .13 CPU s for
slowfast_r50: a compiled model is as large, is of one precision, CPU and version, and OpenVINO holds
it in memory three times over to write it. Of a file that is damaged in its weights OpenVINO makes
other answers, silently: so the SHA-256 of both lie beside them, written last, and a graph that is
not theirs counts for none. The folder may be deleted at any time.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.inference.backends.openvino_runtime import machine_facts, read_model, read_tensor
from slowfast_dist.inference.metadata import CpuPrecision
from slowfast_dist.system.files import file_sha256, write_json
from slowfast_dist.system.parsing import parse_json

if TYPE_CHECKING:  # it is an extra that not every installation has
    import openvino

RECIPE = 3
"""Raise it where the graph that is kept changes: what is there counts for nothing then."""

MOST_BYTES = 2 * 1024**3
"""Bytes of models that are kept, the last used ones: 15 of slowfast_r50."""

PARTS = (".bin", ".xml")
"""Endings of the two files of a graph."""

MAKING = "making-"
"""Beginning of the names of folders in which a graph is being written."""

MAKING_SECONDS = 3600
"""Seconds after which such a folder is nobody's any more: writing takes a second."""


def model_key(content: Mapping[str, Any]) -> str:
    """Of a model's ``content``, in JSON's types; told without openvino."""
    return _digest({**content, "recipe": RECIPE})


def is_kept(key: str) -> bool:
    """Whether the graph was kept; told without openvino."""
    folder = _folder()
    # os.path's does not mind a folder that this user may not enter.
    return folder is not None and all(map(os.path.isfile, _files(folder, key)))


def read_kept(key: str) -> "openvino.Model | None":
    """The graph, whole; None where there is none, or another OpenVINO wrote what this one cannot
    read."""
    if (folder := _folder()) is None:
        return None
    digests = _read_json(folder / f"{key}.json") or {}
    try:  # not mapped: a file that changes later would change the weights
        weights, text = (read_tensor(folder / f"{key}{ending}") for ending in PARTS)
    except (OSError, ValueError):
        return None
    for ending, content in zip(PARTS, (weights, text), strict=True):
        if hashlib.sha256(content.data).hexdigest() != digests.get(ending):
            return None
    for path in _files(folder, key):
        _used(path)
    with suppress(RuntimeError):
        return read_model(text.data.tobytes(), weights)
    return None


def keep(key: str, model: "openvino.Model") -> None:
    """Nothing where the folder cannot be written: the next start is slow then, too. What was found
    out of a graph of that key before is forgotten."""
    import openvino

    folder = _folder()
    if folder is None:
        return
    with suppress(OSError, RuntimeError):  # RuntimeError: OpenVINO's of a full disk
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=MAKING) as name:
            made = Path(name, f"{key}.xml")
            openvino.save_model(model, made, compress_to_fp16=False)
            digests = {ending: file_sha256(made.with_suffix(ending)) for ending in PARTS}
            for facts in folder.glob(f"{key}-*.json"):
                facts.unlink(missing_ok=True)
            for ending in PARTS:
                os.replace(made.with_suffix(ending), folder / f"{key}{ending}")
        write_json(folder / f"{key}.json", digests)
        _forget_the_oldest(folder)


def read_facts(key: str, precision: CpuPrecision) -> dict[str, Any] | None:
    """What `write_facts` kept of that graph on such a machine; None where that is nothing."""
    path = _facts(key, precision)
    found = None if path is None else _read_json(path)
    if found is not None and path is not None:
        _used(path)
    return found


def write_facts(key: str, precision: CpuPrecision, facts: Mapping[str, Any]) -> None:
    """Keep what was found out of a graph on this machine, in JSON's types."""
    if (path := _facts(key, precision)) is not None:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, dict(facts))


def _files(folder: Path, key: str) -> list[Path]:
    """Of a graph, also the one with the digests."""
    return [folder / f"{key}{ending}" for ending in (*PARTS, ".json")]


def _facts(key: str, precision: CpuPrecision) -> Path | None:
    folder = _folder()
    about = _digest({**machine_facts(), "precision": precision})
    return None if folder is None else folder / f"{key}-{about}.json"


def _folder() -> Path | None:
    """``slowfast_dist/answers`` beside the probes; None for a user without a home."""
    probes = default_cache()
    return None if probes is None else probes.with_name("answers")


def _digest(facts: Mapping[str, Any]) -> str:
    """32 hexadecimal digits, 128 bits, which no two models ever share."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _used(path: Path) -> None:
    """Now: `_forget_the_oldest` counts from there."""
    with suppress(OSError):
        os.utime(path)


def _forget_the_oldest(folder: Path) -> None:
    """Of all files here, also of older versions. A process that is reading one keeps it until it is
    done."""
    kept = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process may have removed it
            about = path.stat()
            if not path.is_dir():
                kept.append((about, path))
            elif path.name.startswith(MAKING) and time.time() - about.st_mtime > MAKING_SECONDS:
                shutil.rmtree(path, ignore_errors=True)  # of a process that was killed
    size = 0
    for about, path in sorted(kept, key=lambda one: -one[0].st_mtime_ns):
        size += about.st_size
        if size > MOST_BYTES:
            with suppress(OSError):
                path.unlink()
