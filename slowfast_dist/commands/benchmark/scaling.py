"""Measure 1 to N processes, and model many GPUs: ``python -m slowfast_dist benchmark scaling``."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch.nn import functional

from slowfast_dist.commands.benchmark.output import (
    device_time,
    machine_facts,
    print_json,
    print_table,
)
from slowfast_dist.commands.benchmark.processes import in_own_processes
from slowfast_dist.commands.benchmark.roofline import (
    Peak,
    all_reduce_seconds,
    count_work,
    exposed_seconds,
    training_roofline,
)
from slowfast_dist.config.benchmark import BenchmarkScaling
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.config.training import OptimizerConfig
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.distributed.collectives import barrier, gather_list
from slowfast_dist.distributed.failures import shutdown
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.system.memory import keep_freed_memory
from slowfast_dist.training.network import check_frames, set_up_network
from slowfast_dist.training.optim import build_optimizer

CLASSES = 400
"""Classes of the measured and the modelled network, as in Kinetics-400."""

H100 = Peak(989.0, 3350.0, "data sheet of H100 SXM")
MODELLED = "slowfast_r50"
"""The network of the table for many GPUs, and the GPU that it is made for."""


def run_benchmark(command: BenchmarkScaling) -> None:
    """Measure and print.

    Under a launcher (torchrun, srun) its processes are measured, wherever they run, and the first
    one prints; else 1 to N processes of this machine are.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1:
        measured = [_measure(command, None)]
        if measured[0]["rank"] != 0:
            return
        where = f"{launched} processes, {os.environ.get('LOCAL_WORLD_SIZE', launched)} a host"
    else:
        powers = (2**power for power in range(command.processes.bit_length()))
        counts = sorted({command.processes, *powers})
        measured = [_on_this_machine(count, command) for count in counts]
        where = f"this machine, {available_cpus()} CPUs"
    rows = [_row(one, command) for one in measured]
    if rows[0]["processes"] == 1:
        for row in rows:
            row["efficiency"] = rows[0]["step_seconds"] / row["step_seconds"]
    result = {
        "benchmark": "scaling",
        "machine": machine_facts(),
        "settings": {name: getattr(command, name) for name in command.__dataclass_fields__},
        "rows": rows,
        "modelled": _modelled(command),
    }
    _print(result, command, where)
    if command.json:
        print_json(result)


# --- what is measured ----------------------------------------------------------------------------


def _on_this_machine(processes: int, command: BenchmarkScaling) -> dict[str, Any]:
    """Each process gets as many threads as there would be for the most processes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environments = [
        {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port), "OMP_NUM_THREADS": str(_threads(command)),
        }
        for rank in range(processes)
    ]  # fmt: skip
    return in_own_processes(_measure, [(command, environment) for environment in environments])[0]


def _threads(command: BenchmarkScaling) -> int:
    return max(1, available_cpus() // command.processes)


def _measure(command: BenchmarkScaling, environment: dict[str, str] | None) -> dict[str, Any]:
    """Collective: medians over the steps of what the slowest process took, in seconds."""
    if environment is not None:
        os.environ.update(environment)
        if not torch.cuda.is_available():
            torch.set_num_threads(_threads(command))
    accelerator = make_accelerator(command.mixed_precision, 120.0)  # no step takes a minute
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    config = ModelConfig(command.model, pretrained=False, norm="frozen")
    network, _ = set_up_network(config, CLASSES, accelerator, None)
    check_frames(network.description, command.num_frames, "num-frames")
    optimizer = build_optimizer(
        network, OptimizerConfig(), fused=accelerator.mixed_precision != "fp16"
    )
    model, optimizer = accelerator.prepare(network, optimizer)
    shape = (command.batch_size, command.num_frames, 3, command.crop_size, command.crop_size)
    frames = torch.zeros(shape, dtype=torch.uint8, device=accelerator.device)
    labels = torch.zeros(command.batch_size, dtype=torch.int64, device=accelerator.device)
    gradient = torch.zeros(sum(p.numel() for p in network.parameters()), device=accelerator.device)

    def step(sync: bool) -> None:
        optimizer.zero_grad()
        with nullcontext() if sync else accelerator.no_sync(model):
            loss = functional.cross_entropy(model(frames).float(), labels)
            accelerator.backward(loss)
        optimizer.step()

    def all_reduce() -> None:
        if accelerator.num_processes > 1:
            dist.all_reduce(gradient)

    works = (partial(step, True), partial(step, False), all_reduce)
    rounds = [[_timed(accelerator, work) for work in works] for _ in range(command.steps + 1)]
    gathered = gather_list(accelerator, [rounds[1:]])
    facts = {
        "rank": accelerator.process_index,
        "processes": accelerator.num_processes,
        "per_node": int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes)),
        "gradient_bytes": 4 * gradient.numel(),
        "threads": torch.get_num_threads(),
    }
    shutdown(accelerator)
    # (processes, steps, 3): in each step the slowest process counts.
    medians = np.median(np.max(gathered, axis=0), axis=0).tolist()
    names = ("step_seconds", "compute_seconds", "all_reduce_seconds")
    return facts | dict(zip(names, medians, strict=True))


def _timed(accelerator: Accelerator, work: Callable[[], None]) -> float:
    barrier(accelerator)
    started = time.perf_counter()
    work()
    return device_time(accelerator.device) - started


# --- what is printed -----------------------------------------------------------------------------


def _row(measured: dict[str, Any], command: BenchmarkScaling) -> dict[str, Any]:
    """With the model's word on the same processes.

    Of the step, from what was measured of its parts; of the all-reduce, from the flags' rates.
    """
    processes, size = measured["processes"], measured["gradient_bytes"]
    whole, alone = measured["step_seconds"], measured["compute_seconds"]
    reduced = measured["all_reduce_seconds"] if processes > 1 else 0.0
    links = measured["per_node"], command.node_gbytes, command.network_gbytes
    rate = 2 * (processes - 1) / processes * size / reduced / 1e9 if processes > 1 else None
    return measured | {
        "clips_per_second": processes * command.batch_size / whole,
        "all_reduce_share": max(0.0, 1 - alone / whole) if processes > 1 else 0.0,
        "bus_gbytes": rate,
        "modelled_step_seconds": alone + exposed_seconds(alone, reduced, size, command.overlap),
        "modelled_all_reduce_seconds": all_reduce_seconds(size, processes, *links),
    }


def _modelled(command: BenchmarkScaling) -> dict[str, Any]:
    """The table for many GPUs, with what it assumes."""
    work = count_work(MODELLED, CLASSES, 32, 224)
    seconds = command.step_seconds
    source = "as given with --step-seconds"
    if seconds is None:
        roofline = training_roofline(work, command.gpu_batch_size, "bf16", "adamw", H100)
        seconds = roofline.slower / command.floor_share
        source = f"assumed: {command.floor_share:.0%} of the slower floor of an H100"
    size = 4 * work.parameters
    # By column: beside the network of the flags slower ones, in 1e9 bytes a second of each of the 8
    # GPUs of a node that share one.
    networks = {"": command.network_gbytes, "_100_gbits": 100 / 8 / 8, "_10_gbits": 10 / 8 / 8}
    rows = []
    for gpus in (1, 8, 16, 32, 64, 128, 256, 512):
        row: dict[str, Any] = {"gpus": gpus, "nodes": -(-gpus // command.gpus_per_node)}
        for network, rate in networks.items():
            links = command.gpus_per_node, command.node_gbytes, rate
            reduced = all_reduce_seconds(size, gpus, *links)
            exposed = exposed_seconds(seconds, reduced, size, command.overlap)
            row[f"efficiency{network}"] = seconds / (seconds + exposed)
            if not network:
                row["all_reduce_ms"] = 1e3 * reduced
                row["exposed_ms"] = 1e3 * exposed
                row["step_ms"] = 1e3 * (seconds + exposed)
                row["clips_per_second"] = gpus * command.gpu_batch_size / (seconds + exposed)
        rows.append(row)
    return {
        "model": MODELLED,
        "batch_size": command.gpu_batch_size,
        "step_seconds": seconds,
        "step_source": source,
        "gradient_bytes": size,
        "overlap": command.overlap,
        "rows": rows,
    }


def _print(result: dict[str, Any], command: BenchmarkScaling, where: str) -> None:
    rows, modelled = result["rows"], result["modelled"]
    columns = {
        "processes": "processes", "threads": "threads", "clips/s": "clips_per_second",
        "step s": "step_seconds", "without all-reduce": "compute_seconds",
        "all-reduce alone": "all_reduce_seconds", "share": "all_reduce_share",
        "GB/s": "bus_gbytes", "efficiency": "efficiency", "modelled step": "modelled_step_seconds",
    }  # fmt: skip
    print(
        f"{command.model}, {command.num_frames} x {command.crop_size} x {command.crop_size}, "
        f"{command.batch_size} clips a process, {rows[0]['gradient_bytes'] / 1e6:.3g} MB of "
        f"gradients; {where}"
    )
    print_table(f"MEASURED, medians of {command.steps} steps:", columns, rows)
    columns = {
        "GPUs": "gpus", "nodes": "nodes", "all-reduce ms": "all_reduce_ms",
        "waited for": "exposed_ms", "step ms": "step_ms", "clips/s": "clips_per_second",
        "efficiency": "efficiency", "at 100 Gbit/s a node": "efficiency_100_gbits",
        "at 10": "efficiency_10_gbits",
    }  # fmt: skip
    print_table(
        f"A MODEL, not measured: {MODELLED} in bf16, {command.gpu_batch_size} clips a GPU:",
        columns,
        modelled["rows"],
    )
    print(
        f"\nIt assumes: a step of one GPU takes {1e3 * modelled['step_seconds']:.3g} ms "
        f"({modelled['step_source']}); {modelled['gradient_bytes'] / 1e6:.0f} MB of float32 "
        f"gradients; {command.gpus_per_node} GPUs a node, {command.node_gbytes:g} GB/s between "
        f"those and {command.network_gbytes:g} GB/s of each to other nodes, each way; "
        f"{command.overlap:.0%} of the backward pass (two thirds of the step) hides the traffic, "
        "but for the last 25 MiB; no process is slower than another; clips are always there. Give "
        "--step-seconds as 'benchmark step' prints it on your GPU."
    )
