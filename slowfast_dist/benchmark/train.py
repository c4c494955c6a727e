"""Measure a training end to end: ``python -m slowfast_dist benchmark train DIR``."""

from math import ceil
from pathlib import Path
from typing import Any

from slowfast_dist.benchmark.apart import in_own_process
from slowfast_dist.benchmark.output import machine_facts, print_json, print_table
from slowfast_dist.benchmark.train_ways import reading_cost, train_ours, train_plain
from slowfast_dist.benchmark_settings import BenchmarkTrain
from slowfast_dist.config import UserError

GPU_RATES = (100, 200, 400, 800, 1600)
"""Clips a second of a GPU's step, for which the cores are counted that feed it."""

SPARE = 1.25
"""Cores beyond what reading takes on average: videos differ, and the training process needs one."""


def run_benchmark(root: Path, command: BenchmarkTrain) -> None:
    """Train a few steps in each way, one after the other, and print.

    Raises UserError for videos that cannot be trained on, RunError where memory does not suffice.
    """
    try:
        ours = in_own_process(train_ours, root, command)
    except UserError as error:  # a training has flags for what is DIR here
        text = str(error).replace("--data.train-dir and --data.val-dir instead", "one of them")
        raise UserError(text.replace("--data.root", "DIR")) from None
    rows = [ours.row("ours", command.batch_size)]
    if command.against == "plain":
        rows.append(in_own_process(train_plain, root, command).row("plain", command.batch_size))
    read = in_own_process(reading_cost, root, command)
    result: dict[str, Any] = {
        "benchmark": "train",
        "machine": machine_facts(),
        "settings": {"model": command.model, "batch_size": command.batch_size},
        "rows": rows,
        "read_cpu_seconds_per_clip": read,
        "cores": [cores_row(rate, read) for rate in (rows[0]["clips_per_second"], *GPU_RATES)],
    }
    if command.against == "plain":
        own, plain = rows
        own["ratio"] = result["ratio"] = plain["clips_per_second"] / own["clips_per_second"]
        own["cpu_ratio"] = own["cpu_seconds_per_clip"] / plain["cpu_seconds_per_clip"]
    _print(root, command, result)
    if command.json:
        print_json(result)


def cores_row(clips_per_second: float, read_seconds: float) -> dict[str, Any]:
    """CPU cores that read as fast as a step of ``clips_per_second`` uses clips."""
    cores = clips_per_second * read_seconds
    return {
        "clips_per_second": clips_per_second,
        "reading_cores": cores,
        "cores": ceil(SPARE * cores) + 1,
    }


def _print(root: Path, command: BenchmarkTrain, result: dict[str, Any]) -> None:
    machine = result["machine"]
    print(
        f"{command.model} on {root}, {machine['cpus']} CPUs, torch {machine['torch']}: "
        f"{command.steps} steps of {command.batch_size} clips after a first one"
    )
    columns = {
        "way": "way", "precision": "precision", "workers": "workers", "threads": "threads",
        "clips/s": "clips_per_second", "seconds a step": "step_seconds",
        "waiting": "data_wait_fraction", "CPU s a clip": "cpu_seconds_per_clip", "ratio": "ratio",
    }  # fmt: skip
    print_table("training, end to end:", columns, result["rows"])
    read = 1e3 * result["read_cpu_seconds_per_clip"]
    columns = {"clips/s": "clips_per_second", "read": "reading_cores", "to have": "cores"}
    title = (
        f"cores that feed one GPU with these videos, at {read:.0f} CPU ms a clip (first row: this "
        "machine's step):"
    )
    print_table(title, columns, result["cores"])
    print(
        "\nratio: time a clip of ours over that of the plain way. waiting: share of the time in "
        "which the step waits for clips. to have: what reading takes, a quarter more, and one for "
        "the training process."
    )
