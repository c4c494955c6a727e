"""Measure a training end to end: ``python -m slowfast_dist benchmark train DIR``."""

import time
from functools import partial
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from slowfast_dist.commands.benchmark.baselines import SEED, PlainClips
from slowfast_dist.commands.benchmark.output import (
    Meter,
    cost_of,
    device_time,
    machine_facts,
    print_json,
    print_table,
)
from slowfast_dist.commands.benchmark.processes import in_own_process
from slowfast_dist.commands.benchmark.step_ways import plain_training
from slowfast_dist.commands.benchmark.videos import clip_settings
from slowfast_dist.config.benchmark import BenchmarkTrain
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.config.training import Config
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.data.workers import decoding_workers, end_workers
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.model.description import network_defaults
from slowfast_dist.model.inputs import slow_indices
from slowfast_dist.system.files import share_socket_folder
from slowfast_dist.system.memory import keep_freed_memory
from slowfast_dist.system.progress import Progress
from slowfast_dist.training.run import build_trainer
from slowfast_dist.video.container import DecodeError

GPU_RATES = (100, 200, 400, 800, 1600)
"""Clips a second of a GPU's step for which the table counts the cores that feed it: from an older
GPU to several."""


def run_benchmark(root: Path, command: BenchmarkTrain) -> None:
    """Train a few steps in each way, one after the other, and print.

    Raises UserError for videos that cannot be trained on, RunError where memory does not suffice.
    """
    try:
        ours = in_own_process(train_ours, root, command)
    except UserError as error:  # a training has flags for what is DIR here
        text = str(error).replace("--data.train-dir and --data.val-dir instead", "one of them")
        raise UserError(text.replace("--data.root", "DIR")) from None
    rows = [ours]
    if command.against == "plain":
        rows.append(in_own_process(train_plain, root, command))
    read = in_own_process(reading_cost, root, command)
    result: dict[str, Any] = {
        "benchmark": "train",
        "machine": machine_facts(),
        "settings": {"model": command.model, "batch_size": command.batch_size},
        "rows": rows,
        "read_cpu_seconds_per_clip": read,
        "cores": [cores_row(rate, read) for rate in (ours["clips_per_second"], *GPU_RATES)],
    }
    if command.against == "plain":
        plain = rows[1]
        ours["ratio"] = result["ratio"] = plain["clips_per_second"] / ours["clips_per_second"]
        ours["cpu_ratio"] = ours["cpu_seconds_per_clip"] / plain["cpu_seconds_per_clip"]
    _print(root, command, result)
    if command.json:
        print_json(result)


def cores_row(clips_per_second: float, read_seconds: float) -> dict[str, Any]:
    """CPU cores that read as fast as a step of ``clips_per_second`` uses clips."""
    cores = clips_per_second * read_seconds
    return {
        "clips_per_second": clips_per_second,
        "reading_cores": cores,
        # A quarter more than reading takes on average: some videos take longer than others.
        "cores": ceil(1.25 * cores) + 1,
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


# --- the two ways to train on videos, end to end -------------------------------------------------


def train_ours(root: Path, command: BenchmarkTrain) -> dict[str, Any]:
    """Steps of `training.Trainer` with its own loaders, after one that is not timed: their row.

    BatchNorm is frozen, as with pretrained weights. Raises UserError for videos that cannot be
    trained on.
    """
    config = Config(
        global_batch_size=command.batch_size,
        micro_batch_size=command.batch_size,
        data=DataConfig(root, num_workers=command.num_workers, **clip_settings(command)),
        model=ModelConfig(command.model, pretrained=False, norm="frozen"),
        mixed_precision=command.mixed_precision,
    )
    accelerator = make_accelerator(command.mixed_precision, config.distributed.timeout)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    videos = find_videos(config.data, SEED)
    if len(videos.train) < command.batch_size:
        raise UserError(
            f"--batch-size {command.batch_size}: {root} has {len(videos.train)} training videos: "
            "give at most that many"
        )
    trainer = build_trainer(config, accelerator, videos)
    loader, position = trainer.loaders.train, trainer.state.position
    seconds: list[float] = []
    try:
        progress, meter = Progress("training", command.steps, silent=True), Meter()
        while len(seconds) < command.steps + 1:
            trainer.sampler.set_epoch(position.epoch, 0)
            batches, position.step = iter(loader), 0
            while position.step < len(videos.train) // command.batch_size:
                started = time.perf_counter()
                trainer.run_step(batches, progress)
                seconds.append(device_time(accelerator.device) - started)
                if len(seconds) == 1:  # workers have started, algorithms are chosen
                    progress.waited, meter = 0.0, Meter()
                if len(seconds) > command.steps:
                    break
            position.epoch += 1
        cpu = meter.cost().cpu
    finally:
        end_workers(loader)
    return _row("ours", command, accelerator, loader.num_workers, seconds, progress.waited, cpu)


def train_plain(root: Path, command: BenchmarkTrain) -> dict[str, Any]:
    """The same number of steps as a plain script does them: their row.

    Decord reads all frames at full size in a worker, which makes them float32, normalised, resized
    and cropped; pytorchvideo's model, Accelerate, Adam.
    """
    data = DataConfig(root, **clip_settings(command))
    videos = find_videos(data, SEED)
    accelerator, model, optimizer = plain_training(command, len(videos.classes))
    workers = decoding_workers(command.num_workers, 1)
    share_socket_folder()
    loader = DataLoader(
        _LabelledPlainClips(videos.train, data), command.batch_size, shuffle=True,
        num_workers=workers, drop_last=True, persistent_workers=workers > 0,
        pin_memory=accelerator.device.type == "cuda",
    )  # fmt: skip
    batches = accelerator.prepare(loader)
    published = network_defaults(command.model)
    slow = slow_indices(command.num_frames, published, accelerator.device)
    seconds: list[float] = []
    waited, meter = 0.0, Meter()
    while len(seconds) < command.steps + 1:
        iterator = iter(batches)
        while len(seconds) < command.steps + 1:
            started = time.perf_counter()
            batch = next(iterator, None)
            if batch is None:
                break
            waited += time.perf_counter() - started
            frames, labels = batch
            optimizer.zero_grad()
            loss = functional.cross_entropy(model([frames[:, :, slow], frames]), labels)
            accelerator.backward(loss)
            optimizer.step()
            loss.item()
            seconds.append(device_time(accelerator.device) - started)
            if len(seconds) == 1:
                waited, meter = 0.0, Meter()
    return _row("plain", command, accelerator, workers, seconds, waited, meter.cost().cpu)


def _row(
    name: str,
    command: BenchmarkTrain,
    accelerator: Accelerator,
    workers: int,
    seconds: list[float],
    waited: float,
    cpu_seconds: float,
) -> dict[str, Any]:
    """For tables and JSON, of ``seconds`` of each step with its waiting, of which the first does
    not count. The rate is that of all steps, as waiting comes in bursts."""
    counted = seconds[1:]
    clips = command.batch_size * len(counted)
    return {
        "way": name,
        "precision": accelerator.mixed_precision,
        "workers": workers,
        "threads": torch.get_num_threads(),
        "clips_per_second": clips / sum(counted),
        "step_seconds": median(counted),
        "data_wait_fraction": waited / sum(counted),
        "cpu_seconds_per_clip": cpu_seconds / clips,
    }


def reading_cost(root: Path, command: BenchmarkTrain) -> float:
    """Median CPU seconds to read one clip as training does, over eight videos spread over the
    dataset or a few more: a second of work or two."""
    data = DataConfig(root, **clip_settings(command))
    table = find_videos(data, SEED).train
    videos = table.select(range(0, len(table), max(1, len(table) // 8)))
    clips = TrainingClips(videos, data, SEED)
    clips[ClipKey(0, 0)]  # starts the reading process
    keys = [ClipKey(1, index) for index in range(len(videos))]
    return median(cost_of(partial(clips.__getitem__, key)).cpu for key in keys)


class _LabelledPlainClips(Dataset[tuple[Tensor, int]]):
    def __init__(self, videos: VideoTable, data: DataConfig) -> None:
        self.labels, self.clips = videos.labels, PlainClips(videos, data)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """float32 (3, T, size, size) and the class; of a video that fails, the next one's."""
        for offset in range(len(self)):
            video = (index + offset) % len(self)
            try:
                return self.clips[ClipKey(0, video)], int(self.labels[video])
            except DecodeError:
                continue
        raise AssertionError("no video can be read")
