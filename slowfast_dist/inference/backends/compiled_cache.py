"""Compiled OpenVINO models and what was measured of them, kept by content: a second start is fast.

OpenVINO's own CACHE_DIR does not look at what it reads: of a file that is damaged in its weights
come other answers, silently. So these files are written whole or not at all and say their SHA-256;
one that is damaged counts for none. The folder may be deleted at any time.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.inference.metadata import CpuPrecision
from slowfast_dist.system.cpus import compute_threads
from slowfast_dist.system.files import atomic_write, write_json
from slowfast_dist.system.parsing import parse_json

if TYPE_CHECKING:  # it is an extra that not every installation has
    import openvino

RECIPE = 2
"""Raise it where the graph that is compiled changes: what is kept counts for nothing then."""

MOST_BYTES = 2 * 1024**3
"""Bytes of compiled models that are kept, the last used ones: 15 of slowfast_r50."""

SUFFIX = ".openvino"

KEY_DIGITS = 32
"""Hexadecimal digits of either half of a key, 128 bits: no two models ever share one."""


def import_openvino(flag: str) -> Any:
    """The library. Raises UserError, which begins with the ``flag``, where it is missing."""
    try:
        import openvino
    except ImportError:
        raise UserError(
            f"{flag}: needs openvino, which is not here: pip install '.[cpu]'"
        ) from None
    return openvino


@cache
def openvino_core() -> "openvino.Core":
    """The one of this process, which nothing lets go of.

    Cores that come and go in one process can leave its thread a stack for signals that is not
    mapped any more, and the process ends later, at a place that has nothing to do with it (openvino
    2026.4.1).
    """
    import openvino

    core = openvino.Core()
    core.get_versions("CPU")  # now, and not later, the part for CPUs is loaded, which has the stack
    return core


def compile_settings(precision: CpuPrecision) -> dict[str, Any]:
    """What OpenVINO is told, which would else compute in bf16 or float16 where the CPU has them,
    and bind its threads to cores that another process may be on.

    The threads are torch's: OMP_NUM_THREADS, else the CPUs that the process may use. One stream: a
    clip alone gets them all.
    """
    return {
        "INFERENCE_PRECISION_HINT": {"no": "f32", "bf16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": compute_threads(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }


def cache_key(content: Mapping[str, Any], precision: CpuPrecision) -> str:
    """Of a model's ``content``, in JSON's types, compiled by this OpenVINO for this CPU."""
    import openvino

    core = openvino_core()
    machine = {
        "openvino": openvino.__version__,
        "cpu": core.get_property("CPU", "FULL_DEVICE_NAME"),
        "can": sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
    }
    return f"{_content_key(content, precision)}-{_digest(machine)}"


def may_be_kept(content: Mapping[str, Any], precision: CpuPrecision) -> bool:
    """Whether that ``content`` was compiled and kept, by this OpenVINO for this CPU or by another,
    which takes its import to tell."""
    folder = _folder()
    pattern = f"{_content_key(content, precision)}-*{SUFFIX}"
    return folder is not None and any(folder.glob(pattern))


def _content_key(content: Mapping[str, Any], precision: CpuPrecision) -> str:
    return _digest({**content, "recipe": RECIPE, "precision": precision})


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]


def compiled(
    key: str, make: Callable[[], "openvino.Model"], precision: CpuPrecision
) -> "openvino.CompiledModel":
    """The model that is kept under ``key``, else that of ``make``, which is kept from now on."""
    import openvino

    core, settings = openvino_core(), compile_settings(precision)
    if (blob := _read(key)) is not None:
        with suppress(RuntimeError):  # of a build of the same number that reads another format
            return core.import_model(openvino.Tensor(blob), "CPU", settings)
    made = core.compile_model(make(), "CPU", settings)
    _write(key, made.export_model().getbuffer())
    return made


def is_kept(key: str) -> bool:
    """Whether the compiled model was kept."""
    folder = _folder()
    return folder is not None and (folder / f"{key}{SUFFIX}").is_file()


def _folder() -> Path | None:
    """``slowfast_dist/answers`` beside the probes; None for a user without a home."""
    probes = default_cache()
    return None if probes is None else probes.with_name("answers")


def _read(key: str) -> NDArray[np.uint8] | None:
    """The bytes of the compiled model. Not mapped: a file that changes later would change them."""
    folder = _folder()
    if folder is None:
        return None
    path = folder / f"{key}{SUFFIX}"
    try:
        content = np.fromfile(path, np.uint8)
    except OSError:
        return None
    digest, blob = content[:32], content[32:]
    if hashlib.sha256(blob.data).digest() != digest.tobytes():
        return None
    with suppress(OSError):
        os.utime(path)  # used now
    return blob


def _write(key: str, blob: bytes | memoryview) -> None:
    """Nothing where the folder cannot be written: the next start is slow then, too."""
    folder = _folder()
    if folder is None:
        return
    with suppress(OSError), atomic_write(folder / f"{key}{SUFFIX}") as file:
        file.write(hashlib.sha256(blob).digest())
        file.write(blob)
    _forget_the_oldest(folder)


def _forget_the_oldest(folder: Path) -> None:
    """A process that is reading one of them keeps it until it is done."""
    with suppress(OSError):
        kept = [(path.stat(), path) for path in folder.glob(f"*{SUFFIX}")]
        size = 0
        for about, path in sorted(kept, key=lambda one: -one[0].st_mtime_ns):
            size += about.st_size
            if size > MOST_BYTES:
                path.unlink(missing_ok=True)
                path.with_suffix(".json").unlink(missing_ok=True)


def read_facts(key: str) -> dict[str, Any] | None:
    """What `write_facts` kept; None where that is nothing."""
    folder = _folder()
    try:
        content = parse_json((folder / f"{key}.json").read_bytes()) if folder else None
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_facts(key: str, facts: Mapping[str, Any]) -> None:
    """Keep what was found out of a compiled model, in JSON's types."""
    if (folder := _folder()) is not None:
        with suppress(OSError):
            write_json(folder / f"{key}.json", dict(facts))
