"""The ways of a training step that are compared, each in a process of its own.

Ours is what `training` sets up, in this build of the package or in another one; plain is what a
script with pytorchvideo and Accelerate does.
"""

import time
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from slowfast_dist.commands.benchmark.output import Laps, device_time
from slowfast_dist.config.benchmark import BenchmarkStep, BenchmarkTrain
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.config.training import OptimizerConfig
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.model.description import network_defaults
from slowfast_dist.model.folding import folded
from slowfast_dist.model.inputs import slow_indices, standardise_
from slowfast_dist.model.slowfast import plain_network
from slowfast_dist.system.memory import keep_freed_memory, peak_growth
from slowfast_dist.training.network import compile_network, set_up_network
from slowfast_dist.training.optim import average_and_clip, build_optimizer

PARTS = ("copy", "forward", "backward", "optimizer")
"""Parts of a step, in order; copy: the batch from the host's memory to the device."""


class OurStep:
    """As training.Trainer sets it up and training_step.TrainingStep does it."""

    def __init__(self, command: BenchmarkStep, batch_size: int) -> None:
        self.accelerator = make_accelerator(command.mixed_precision, 120.0)
        self.device = self.accelerator.device
        if self.device.type == "cpu":
            keep_freed_memory()
        self.graphs = command.compile_mode == "reduce-overhead"
        config = ModelConfig(
            command.model,
            pretrained=False,
            norm=command.norm,
            compile=command.compile and not self.graphs,
            checkpoint_activations=command.checkpoint_activations,
        )
        self.network, _ = set_up_network(config, command.num_classes, self.accelerator, None)
        if command.layout == "contiguous":
            self.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        if self.graphs:
            compile_network(self.network, command.compile_mode)
        optimizer = build_optimizer(
            self.network,
            OptimizerConfig(command.optimizer),
            fused=self.accelerator.mixed_precision != "fp16",
        )
        self.model, self.optimizer = self.accelerator.prepare(self.network, optimizer)
        self.scorer: nn.Module | None = None
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        pixels = random_frames(command, batch_size)
        self.frames = pixels.pin_memory() if self.device.type == "cuda" else pixels
        self.labels = torch.arange(batch_size) % command.num_classes

    def train(self, lap: Laps) -> None:
        if self.graphs:  # what the step before returned may be written over
            torch.compiler.cudagraph_mark_step_begin()
        frames = self.frames.to(self.device, non_blocking=True)
        labels = self.labels.to(self.device, non_blocking=True)
        lap("copy")
        self.optimizer.zero_grad()
        losses = functional.cross_entropy(self.model(frames).float(), labels, reduction="none")
        lap("forward")
        self.accelerator.backward(losses.sum())
        lap("backward")
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        self.accelerator.unscale_gradients(self.optimizer)
        average_and_clip(gradients, losses.new_tensor(float(len(labels))), None)
        self.optimizer.step()
        lap("optimizer")

    def score(self) -> None:
        with torch.inference_mode(), self.accelerator.autocast():
            if self.scorer is None:  # once an evaluation, of many batches
                self.scorer = folded(self.network)
            self.scorer(self.frames.to(self.device, non_blocking=True)).float().cpu()


def plain_training(
    command: BenchmarkStep | BenchmarkTrain, num_classes: int
) -> tuple[Accelerator, nn.Module, Any]:
    """The Accelerator, pytorchvideo's network and its Adam, as a plain script has them."""
    accelerator = make_accelerator(command.plain_precision, 120.0)
    if accelerator.device.type == "cuda":  # torch's defaults
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
    network = plain_network(network_defaults(command.model), num_classes)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)  # no time depends on the rate
    return accelerator, *accelerator.prepare(network, optimizer)


class PlainStep:
    """pytorchvideo's model, in torch's default layout unless told otherwise, float32 frames,
    Accelerate, Adam.

    Frames are normalised before, as a script's dataset does it in a worker.
    """

    def __init__(self, command: BenchmarkStep, batch_size: int) -> None:
        self.accelerator, self.model, self.optimizer = plain_training(command, command.num_classes)
        self.device = self.accelerator.device
        frames = random_frames(command, batch_size).permute(0, 2, 1, 3, 4)  # (B, 3, T, H, W)
        published = network_defaults(command.model)
        fast = standardise_(frames.float() / 255, published).contiguous()
        slow = fast.index_select(2, slow_indices(command.num_frames, published))
        self.pathways = [slow, fast]
        if command.plain_layout == "channels-last":
            layout = torch.channels_last_3d
            self.model.to(memory_format=layout)  # type: ignore[call-overload]
            self.pathways = [pathway.contiguous(memory_format=layout) for pathway in self.pathways]
        self.labels = torch.arange(batch_size) % command.num_classes

    def train(self, lap: Laps) -> None:
        pathways = [pathway.to(self.device) for pathway in self.pathways]
        labels = self.labels.to(self.device)
        lap("copy")
        self.model.train()
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.model(pathways), labels)
        lap("forward")
        self.accelerator.backward(loss)
        lap("backward")
        self.optimizer.step()
        loss.item()  # which such loops print
        lap("optimizer")

    def score(self) -> None:
        self.model.eval()
        with torch.no_grad():
            self.model([pathway.to(self.device) for pathway in self.pathways]).float().cpu()


Way = OurStep | PlainStep


def random_frames(command: BenchmarkStep, batch_size: int) -> Tensor:
    """uint8 (B, T, 3, H, W), in memory as data.samples.batch.collate makes it: frames of pixels."""
    size = (batch_size, command.num_frames, command.crop_size, command.crop_size, 3)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    return pixels.permute(0, 1, 4, 2, 3)


# --- in a process of its own, where neither sees the other's settings of torch, or its memory ----

PROCESS_WAY: list[Way] = []
"""The way of this process, once it is set up."""


def set_up(name: str, command: BenchmarkStep, batch_size: int) -> dict[str, Any]:
    """Make the way "ours" or "plain" that of this process; returns facts for its rows."""
    way = OurStep(command, batch_size) if name == "ours" else PlainStep(command, batch_size)
    PROCESS_WAY.append(way)
    threads = torch.get_num_threads()
    return {
        "device": way.device.type, "precision": way.accelerator.mixed_precision, "threads": threads
    }  # fmt: skip


def take_turn(what: str) -> dict[str, float]:
    """Do one "train" step or one "score" of this process's way.

    What it cost: "seconds", "cpu_seconds" of the process, of a training step also those of PARTS,
    as "copy_seconds", and "peak_gbytes": the most memory that was held meanwhile, of tensors on the
    GPU, or the process's RAM on a CPU.
    """
    (way,) = PROCESS_WAY
    turn: dict[str, float] = {}

    def work() -> None:
        started, cpu = time.perf_counter(), time.process_time()
        lap = Laps(partial(device_time, way.device))
        if what == "train":
            way.train(lap)
        else:
            way.score()
        turn["seconds"] = time.perf_counter() - started
        turn["cpu_seconds"] = time.process_time() - cpu
        turn.update({f"{part}_seconds": seconds for part, seconds in lap.parts.items()})

    if way.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(way.device)
        work()
        peak = torch.cuda.max_memory_allocated(way.device)
        torch.cuda.empty_cache()  # the other way's turn comes
    else:
        peak = peak_growth(work, 0)
    return turn | {"peak_gbytes": peak / 1e9}
