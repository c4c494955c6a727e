"""Measure how fast a model answers: ``python -m slowfast_dist benchmark answers``."""

import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slowfast_dist.commands.benchmark.output import machine_facts, print_json, print_table
from slowfast_dist.config.benchmark import BenchmarkAnswers
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.inference.backends.choice import missing_libraries
from slowfast_dist.inference.backends.openvino_network import open_unkept
from slowfast_dist.inference.exported import Backend, load_exported
from slowfast_dist.inference.metadata import CpuPrecision, Network, export_path
from slowfast_dist.inference.predictor import predictor_of
from slowfast_dist.model.description import network_defaults
from slowfast_dist.model.slowfast import SlowFast, describe
from slowfast_dist.runs.best_model import BestModel, load_best
from slowfast_dist.training.network import check_frames

CLASSES = 400
"""Of a model that is made here: those of Kinetics-400."""


def run_benchmark(run: Path | None, command: BenchmarkAnswers) -> None:
    """Measure all backends turn by turn, and print. Raises UserError for a RUN that is none, or
    with flags of a model that is made."""
    usual = BenchmarkAnswers()
    for name in ("model", "num_frames", "crop_size"):
        if run is not None and (value := getattr(command, name)) != getattr(usual, name):
            raise UserError(
                f"--{name.replace('_', '-')} {value}: {run} tells that: leave it out, or leave RUN "
                "out"
            )
    accelerator = make_accelerator(command.mixed_precision, 120.0)
    device, precision = accelerator.device, accelerator.mixed_precision
    best, network = load_best(run) if run is not None else _made(command)
    networks: dict[str, Network] = {}
    if device.type == "cpu":
        if (missing := missing_libraries()) is None:
            networks["openvino"] = open_unkept(network, best, _on_cpu(precision))
        else:
            print(f"openvino is left out: {missing}")
    if run is not None:
        networks |= _exported(best, _on_cpu(precision))
    networks = {"torch": predictor_of(best, network, device, precision).network, **networks}
    size = (best.data.num_frames, best.data.crop_size, best.data.crop_size, 3)
    rows = []
    for batch in command.batch_sizes:
        clips = np.random.default_rng(0).integers(0, 256, (batch, *size), np.uint8)
        rows += _measure(networks, clips, command.rounds)
    shown = {"no": "float32"}.get(precision, precision)
    print_table(
        f"{best.model['name']}, clips of {size[0]} x {size[1]} x {size[2]}, {shown}, "
        f"{torch.get_num_threads()} threads; medians of {command.rounds} rounds in turn",
        {
            "clips": "batch", "backend": "backend", "ms a clip": "wall_ms", "CPU ms": "cpu_ms",
            "of torch's": "ratio", "CPU of torch's": "cpu_ratio", "off on noise": "difference",
        },
        rows,
    )  # fmt: skip
    result: dict[str, Any] = {
        "benchmark": "answers", "machine": machine_facts(), "model": best.model["name"],
        "mixed_precision": precision, "threads": torch.get_num_threads(), "rows": rows,
    }  # fmt: skip
    if ratios := [row["ratio"] for row in rows if row["backend"] == "openvino"]:
        result["ratio"] = median(ratios)
    if command.json:
        print_json(result)


def _made(command: BenchmarkAnswers) -> tuple[BestModel, SlowFast]:
    """A model with weights as a training from scratch begins with: they change no time."""
    check_frames(network_defaults(command.model), command.num_frames, "num-frames")
    torch.manual_seed(0)
    network = SlowFast(command.model, CLASSES, 0.0).eval()
    data = DataConfig(num_frames=command.num_frames, crop_size=command.crop_size)
    names = tuple(f"class {number}" for number in range(CLASSES))
    return BestModel(Path(), names, describe(network), data, EvaluationConfig(), 0), network


def _exported(best: BestModel, precision: CpuPrecision) -> dict[str, Network]:
    """By the files that ``export`` left beside the best model, each by its name."""
    found: dict[str, Network] = {}
    backends: tuple[Backend, ...] = ("openvino", "onnx", "pt2")
    for backend in backends:
        path = export_path(best.folder, backend)
        if path.is_file():
            found[path.name] = load_exported(best, backend, precision)
    return found


def _measure(
    networks: dict[str, Network], clips: NDArray[np.uint8], rounds: int
) -> list[dict[str, Any]]:
    """A row for each; ratios are medians of those of one round."""
    expected = networks["torch"](clips)  # the first time is not like others, for nobody
    off = {name: float(np.abs(one(clips) - expected).max()) for name, one in networks.items()}
    walls: dict[str, list[float]] = {name: [] for name in networks}
    cpus: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(rounds):
        for name, network in networks.items():
            wall, cpu = time.perf_counter(), time.process_time()
            network(clips)
            cpus[name].append(time.process_time() - cpu)
            walls[name].append(time.perf_counter() - wall)

    def ratio(seconds: dict[str, list[float]], name: str) -> float:
        pairs = zip(seconds[name], seconds["torch"], strict=True)
        return median(one / plain for one, plain in pairs)

    return [
        {
            "batch": len(clips), "backend": name,
            "wall_ms": 1000 * median(walls[name]) / len(clips),
            "cpu_ms": 1000 * median(cpus[name]) / len(clips),
            "ratio": ratio(walls, name), "cpu_ratio": ratio(cpus, name), "difference": off[name],
        }
        for name in networks
    ]  # fmt: skip


def _on_cpu(precision: str) -> CpuPrecision:
    return "bf16" if precision == "bf16" else "no"
