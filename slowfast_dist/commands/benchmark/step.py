"""Measure the training step on random data: ``python -m slowfast_dist benchmark step``."""

import json
import os
import re
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from slowfast_dist.commands.benchmark.output import (
    Laps,
    device_time,
    machine_facts,
    print_json,
    print_table,
)
from slowfast_dist.commands.benchmark.processes import MeasuringProcess
from slowfast_dist.commands.benchmark.roofline import (
    Peak,
    Roofline,
    Work,
    count_work,
    evaluation_roofline,
    find_peak,
    training_roofline,
)
from slowfast_dist.commands.benchmark.step_ways import PARTS, PROCESS_WAY, set_up, take_turn
from slowfast_dist.config.benchmark import BenchmarkStep
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.model.description import network_defaults
from slowfast_dist.system.files import atomic_write
from slowfast_dist.training.network import check_frames


def run_benchmark(command: BenchmarkStep) -> None:
    """Measure, turn by turn, and print.

    Raises RunError where memory does not suffice, UserError for a --profile that cannot be.
    """
    if command.profile is not None:
        require_writable(command.profile)
    check_frames(network_defaults(command.model), command.num_frames, "num-frames")
    work = count_work(command.model, command.num_classes, command.num_frames, command.crop_size)
    unknown = unknown_to_build(command)
    rows: list[dict[str, Any]] = []
    peaks: dict[str, Peak] = {}
    for batch_size in command.batch_sizes:
        measured, profiled = _measure(command, batch_size, work, peaks)
        rows += measured
    machine = machine_facts()
    if torch.cuda.is_available():
        machine |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    result = {
        "benchmark": "step",
        "machine": machine,
        "settings": {name: getattr(command, name) for name in _SETTINGS},
        "work_per_clip": {
            "forward_gflop": work.forward_flops / 1e9,
            "training_gflop": work.training_flops / 1e9,
            "parameters": work.parameters,
        },
        "peaks": {precision: vars(peak) for precision, peak in peaks.items()},
        "rows": rows,
    }
    if command.build is not None:
        result["build"] = str(command.build.absolute())
        result["unknown_to_build"] = unknown
    if profiled is not None:  # there is one batch size alone
        result["profile"] = profiled
    for name, kind in (("ratio", "train"), ("evaluation_ratio", "score")):
        if ratios := [row["ratio"] for row in rows if row["what"] == kind and "ratio" in row]:
            result[name] = median(ratios)
    _print(result, command)
    if command.json:
        print_json(result)


_SETTINGS = (
    "model", "num_classes", "num_frames", "crop_size", "norm", "optimizer", "layout", "compile",
    "compile_mode", "checkpoint_activations", "steps", "against", "plain_precision",
    "plain_layout",
)  # fmt: skip


OF_OUR_STEP = (
    "model", "num_classes", "num_frames", "crop_size", "norm", "optimizer", "mixed_precision",
    "layout", "compile", "compile_mode", "checkpoint_activations",
)  # fmt: skip
"""Settings that make our step what it is: another build gets them all, and an older one has no use
for those that joined later."""


def unknown_to_build(command: BenchmarkStep) -> list[str]:
    """The flags that ask for something of which the package in --build does not know."""
    if command.build is None:
        return []
    with MeasuringProcess(command.build.absolute()) as process:
        known = process.call(getattr, BenchmarkStep, "__match_args__")  # its own fields' names
    usual = BenchmarkStep()
    return [
        f"--{name.replace('_', '-')} {getattr(command, name)}"
        for name in OF_OUR_STEP
        if name not in known and getattr(command, name) != getattr(usual, name)
    ]


WAYS = {"ours": "ours", "plain": "plain", "build": "ours"}
"""The names of what is compared, each with what its process does."""


def _measure(
    command: BenchmarkStep, batch_size: int, work: Work, peaks: dict[str, Peak]
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """A row for each way and for training and scoring, of which those of ours have the ratio to
    the other one; and the profile, if one is asked for."""
    other = "plain" if command.against == "plain" else "build" if command.build else None
    names = ["ours"] + ([other] if other else [])
    roots = {"build": command.build.absolute()} if command.build else {}
    kinds = ["train"] + (["score"] if command.evaluation else [])
    turns: dict[tuple[str, str], list[dict[str, float]]] = {
        (name, kind): [] for kind in kinds for name in names
    }
    with ExitStack() as stack:
        # Training and scoring apart, as neither is to hold the other's memory.
        processes = {
            (name, kind): stack.enter_context(MeasuringProcess(roots.get(name)))
            for name, kind in turns
        }
        facts = {
            name: process.call(set_up, WAYS[name], command, batch_size)
            for (name, _), process in processes.items()
        }
        for round_ in range(command.steps + 1):
            print(f"batch {batch_size}: round {round_}/{command.steps}", file=sys.stderr)
            for (name, kind), taken in turns.items():
                taken.append(processes[name, kind].call(take_turn, kind))
        profiled = None
        if command.profile is not None:  # only now, as it slows the steps down
            profiled = processes["ours", "train"].call(profile_steps, command.profile)
    rows = {}
    for (name, kind), (first, *measured) in turns.items():
        device, precision = torch.device(facts[name]["device"]), facts[name]["precision"]
        peak = find_peak(device, precision, command.peak_tflops, command.peak_gbytes)
        peaks[precision] = peak
        if kind == "train":
            optimizer = command.optimizer if WAYS[name] == "ours" else "adam"
            roofline = training_roofline(work, batch_size, precision, optimizer, peak)
        else:
            roofline = evaluation_roofline(work, batch_size, precision, peak)
        row = _row(name, kind, batch_size, measured, roofline) | facts[name]
        row["first_seconds"] = first["seconds"]  # compiles, chooses algorithms, takes memory
        rows[name, kind] = row
    for kind in kinds if other else ():
        pairs = list(zip(*(turns[name, kind][1:] for name in names), strict=True))
        for ratio, key in (("ratio", "seconds"), ("cpu_ratio", "cpu_seconds")):
            rows["ours", kind][ratio] = median(ours[key] / its[key] for ours, its in pairs)
    return list(rows.values()), profiled


def _row(
    name: str, kind: str, batch_size: int, turns: list[dict[str, float]], roofline: Roofline
) -> dict[str, Any]:
    medians = {key: median(turn[key] for turn in turns) for key in turns[0]}
    seconds = medians["seconds"]
    return {
        "way": name,
        "what": kind,
        "batch_size": batch_size,
        "clips_per_second": batch_size / seconds,
        **medians,
        "peak_gbytes": max(turn["peak_gbytes"] for turn in turns),
        "compute_floor_seconds": roofline.compute,
        "memory_floor_seconds": roofline.memory,
        "share_of_compute_floor": roofline.compute / seconds,
        "share_of_memory_floor": roofline.memory / seconds,
    }


def _print(result: dict[str, Any], command: BenchmarkStep) -> None:
    machine, rows = result["machine"], result["rows"]
    where = machine.get("gpu") or f"{machine['cpus']} CPUs, {rows[0]['threads']} threads"
    work = result["work_per_clip"]
    print(
        f"{command.model}, {command.num_frames} x {command.crop_size} x {command.crop_size}, on "
        f"{where}, torch {machine['torch']}: {work['training_gflop']:.0f} GFLOP a training clip, "
        f"{work['forward_gflop']:.0f} forward"
    )
    for precision, peak in result["peaks"].items():
        print(
            f"  at most ({precision}): {peak['tflops']:.3g} TFLOP/s, {peak['gbytes']:.4g} GB/s "
            f"({peak['source']})"
        )
    for kind, title in (("train", "training step"), ("score", "evaluation")):
        shown = [row for row in rows if row["what"] == kind]
        if not shown:
            continue
        columns = {"way": "way", "batch": "batch_size", "precision": "precision"}
        columns |= {"clips/s": "clips_per_second", "seconds": "seconds", "CPU s": "cpu_seconds"}
        if kind == "train":
            columns |= {part: f"{part}_seconds" for part in PARTS}
        columns |= {"first": "first_seconds", "GB": "peak_gbytes"}
        columns |= {"of arithmetic": "share_of_compute_floor"}
        columns |= {"of memory": "share_of_memory_floor", "ratio": "ratio"}
        columns |= {"CPU ratio": "cpu_ratio"} if command.build else {}
        print_table(f"{title}, medians of {command.steps}:", columns, shown)
    print(
        "\nof arithmetic, of memory: the share of a floor that is reached, 1 at most: the least "
        "time that the device needs for the operations, or for moving what convolutions read and "
        "write. ratio: seconds of ours over those of the other way, the median of turn by turn; "
        "first: the first one, with what it sets up."
    )
    if unknown := result.get("unknown_to_build"):
        print(
            f"warning: the build in {result['build']} does not know {', '.join(unknown)}: its step "
            "is without that, and the ratio compares two different things"
        )
    if "profile" in result:
        print_profile(result["profile"])


# --- what the time of a step goes to, operator by operator: --profile FILE -----------------------

STEPS = 3
"""Steps that are profiled: more would only make the file larger."""


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


def profile_steps(path: Path) -> dict[str, Any]:
    """Train this process's way for STEPS steps under torch's profiler, after one that warms it up.

    ``path`` becomes a Chrome trace, which ui.perfetto.dev opens. Returns the 15 operators with
    the largest self time, on the GPU where it has one: that is the time of the kernels which
    the operator itself launched; and the CONVERSIONS. Raises RunError where the file cannot be
    written.
    """
    (way,) = PROCESS_WAY
    on_gpu = way.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    plan = schedule(wait=0, warmup=1, active=STEPS, repeat=1)
    with profile(activities=activities, schedule=plan, record_shapes=True) as profiler:
        for _ in range(1 + STEPS):
            way.train(Laps(partial(device_time, way.device)))
            profiler.step()
    _write(profiler, path)
    return {
        "file": str(path),
        "steps": STEPS,
        "device": way.device.type,
        "operators": _operators(profiler, on_gpu),
        "conversions": find_conversions(
            (event.key, event.count) for event in profiler.key_averages()
        ),
    }


CONVERSIONS = re.compile(r"nchw\w*tonhwc|nhwc\w*tonchw|vol2col|col2vol|im2col|slow_conv", re.I)
"""Names of kernels and operators that move pixels to another layout around a convolution: cuDNN's
own, and those of torch's convolution for what no library takes."""


def find_conversions(counts: Iterable[tuple[str, int]]) -> list[dict[str, Any]]:
    """CONVERSIONS among the names of what STEPS steps called, each with its calls a step."""
    return [
        {"name": name, "calls": calls / STEPS} for name, calls in counts if CONVERSIONS.search(name)
    ]


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
        for seconds, calls, key in sorted(found, reverse=True)[:15]  # nearly all of the time
    ]


def _write(profiler: profile, path: Path) -> None:
    """Whole or not at all: the profiler itself says nothing of a full disk."""
    try:
        with atomic_write(path) as file:
            profiler.export_chrome_trace(file.name)
            json.loads(Path(file.name).read_bytes())
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "was not written whole"
        raise RunError(f"--profile {path}: {reason}: is the disk full?") from error


def print_profile(profile: dict[str, Any]) -> None:
    where = "GPU" if profile["device"] == "cuda" else "CPU"
    columns = {"operator": "operator", "calls": "calls", "seconds": "seconds", "share": "share"}
    title = f"operators of ours by their own time on the {where}, a step (mean of {STEPS}):"
    print_table(title, columns, profile["operators"])
    if conversions := profile["conversions"]:
        columns = {"what only changes a layout": "name", "calls": "calls"}
        print_table("conversions of layouts, a step:", columns, conversions)
    else:
        print("\nno conversions of layouts around convolutions (nchwToNhwc, vol2col, slow_conv)")
    print(f"\n{profile['file']}: the steps as a trace; open it on ui.perfetto.dev")
