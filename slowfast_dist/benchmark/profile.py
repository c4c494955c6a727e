"""What the time of a step goes to, operator by operator: ``benchmark step --profile FILE``."""

import json
import os
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile, schedule

from slowfast_dist.benchmark.output import print_table
from slowfast_dist.benchmark.step_ways import Marks, Way
from slowfast_dist.config import RunError, UserError

STEPS = 3
MOST = 15
"""Operators in the table; all are in the file."""


def require_writable(path: Path) -> None:
    """Raise UserError where `profile_steps` could not write ``path``, before anything is timed."""
    folder = path.parent
    flag = f"--profile {path}"
    if path.suffix != ".json":
        raise UserError(f"{flag}: is written as JSON: give a name that ends in .json")
    if os.path.lexists(path):
        raise UserError(f"{flag}: exists already: give a new name")
    if not folder.is_dir():
        raise UserError(f"{flag}: there is no folder {folder}: make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{flag}: {folder} may not be written to: give another folder")


def profile_steps(way: Way, path: Path) -> dict[str, Any]:
    """Train ``way`` for STEPS steps under torch's profiler, after one that warms it up.

    ``path`` becomes a Chrome trace, which ui.perfetto.dev opens. Returns the MOST operators with
    the largest self time, on the GPU where ``way`` has one: that is the time of the kernels which
    the operator itself launched. Raises RunError where the file cannot be written.
    """
    on_gpu = way.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    plan = schedule(wait=0, warmup=1, active=STEPS, repeat=1)
    with profile(activities=activities, schedule=plan, record_shapes=True) as profiler:
        for _ in range(1 + STEPS):
            way.train(Marks(way.device))
            profiler.step()
    _write(profiler, path)
    return {
        "file": str(path),
        "steps": STEPS,
        "device": way.device.type,
        "operators": _operators(profiler, on_gpu),
    }


def _operators(profiler: profile, on_gpu: bool) -> list[dict[str, Any]]:
    found = []
    for event in profiler.key_averages():
        if event.device_type.name != "CPU" or event.key.startswith("Profiler"):
            continue  # kernels, whose time their operators have, and the profiler's own frame
        microseconds = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        found.append((microseconds / 1e6 / STEPS, event.count / STEPS, event.key))
    whole = sum(seconds for seconds, _, _ in found)
    return [
        {"operator": key, "calls": calls, "seconds": seconds, "share": seconds / (whole or 1)}
        for seconds, calls, key in sorted(found, reverse=True)[:MOST]
    ]


def _write(profiler: profile, path: Path) -> None:
    """Whole or not at all: the profiler itself says nothing of a full disk."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        profiler.export_chrome_trace(str(temporary))
        json.loads(temporary.read_bytes())
        os.replace(temporary, path)
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "was not written whole"
        raise RunError(f"--profile {path}: {reason}: is the disk full?") from error
    finally:
        temporary.unlink(missing_ok=True)


def print_profile(profile: dict[str, Any]) -> None:
    where = "GPU" if profile["device"] == "cuda" else "CPU"
    columns = {"operator": "operator", "calls": "calls", "seconds": "seconds", "share": "share"}
    title = f"operators of ours by their own time on the {where}, a step (mean of {STEPS}):"
    print_table(title, columns, profile["operators"])
    print(f"\n{profile['file']}: the steps as a trace; open it on ui.perfetto.dev")
