"""The two ways of a training step that are compared, each in a process of its own.

Ours is what `training` sets up; plain is what a script with pytorchvideo and Accelerate does.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from slowfast_dist.commands.benchmark.processes import MeasuringProcess
from slowfast_dist.commands.benchmark.roofline import plain_network
from slowfast_dist.config.benchmark import BenchmarkStep
from slowfast_dist.config.training import ModelConfig, OptimizerConfig
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.model.folding import folded
from slowfast_dist.model.inputs import MEAN, STD, slow_indices
from slowfast_dist.system.memory import peak_growth
from slowfast_dist.training.network import set_up_network
from slowfast_dist.training.optim import average_and_clip, build_optimizer

PARTS = ("copy", "forward", "backward", "optimizer")
"""Parts of a step, in order; copy: the batch from the host's memory to the device."""

PLAIN_LR = 1e-4
"""Learning rate of the plain ways; no time depends on it."""

T = TypeVar("T")


@dataclass
class Turn:
    """What one step or one scoring cost: seconds by part and in all, CPU seconds of the process."""

    parts: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    """Most memory that was held meanwhile: tensors on the GPU, or the process's RAM on a CPU."""


class Way(Protocol):
    """``precision`` is the mixed precision that it computes in."""

    device: torch.device
    precision: str

    def train(self, marks: "Marks") -> None: ...

    def score(self) -> None: ...


class Marks:
    """Takes the time at the end of each part."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.parts: dict[str, float] = {}
        self._last = self._now()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def __call__(self, part: str) -> None:
        now = self._now()
        self.parts[part] = now - self._last
        self._last = now


class OurStep:
    """As training.Trainer sets it up and training_step.TrainingStep does it."""

    def __init__(self, command: BenchmarkStep, batch_size: int) -> None:
        self.accelerator = make_accelerator(command.mixed_precision, 120.0)
        self.device, self.precision = self.accelerator.device, self.accelerator.mixed_precision
        config = ModelConfig(
            command.model,
            pretrained=False,
            norm=command.norm,
            compile=command.compile,
            checkpoint_activations=command.checkpoint_activations,
        )
        self.network = set_up_network(config, command.num_classes, self.accelerator, None)
        if command.layout == "contiguous":
            self.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        optimizer = build_optimizer(
            self.network, OptimizerConfig(command.optimizer), fused=self.precision != "fp16"
        )
        self.model, self.optimizer = self.accelerator.prepare(self.network, optimizer)
        self.scorer: nn.Module | None = None
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        pixels = random_frames(command, batch_size)
        self.frames = pixels.pin_memory() if self.device.type == "cuda" else pixels
        self.labels = torch.arange(batch_size) % command.num_classes

    def train(self, marks: Marks) -> None:
        frames = self.frames.to(self.device, non_blocking=True)
        labels = self.labels.to(self.device, non_blocking=True)
        marks("copy")
        self.optimizer.zero_grad()
        losses = functional.cross_entropy(self.model(frames).float(), labels, reduction="none")
        marks("forward")
        self.accelerator.backward(losses.sum())
        marks("backward")
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        self.accelerator.unscale_gradients(self.optimizer)
        average_and_clip(gradients, losses.new_tensor(float(len(labels))), None)
        self.optimizer.step()
        marks("optimizer")

    def score(self) -> None:
        with torch.inference_mode(), self.accelerator.autocast():
            if self.scorer is None:  # once an evaluation, of many batches
                self.scorer = folded(self.network)
            self.scorer(self.frames.to(self.device, non_blocking=True)).float().cpu()


class PlainStep:
    """pytorchvideo's model in torch's default layout, float32 frames, Accelerate, Adam.

    Frames are normalised before, as a script's dataset does it in a worker.
    """

    def __init__(self, command: BenchmarkStep, batch_size: int) -> None:
        self.accelerator = make_accelerator(command.plain_precision, 120.0)
        self.device, self.precision = self.accelerator.device, self.accelerator.mixed_precision
        if self.device.type == "cuda":  # torch's defaults
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.benchmark = False
        network = plain_network(command.model, command.num_classes)
        optimizer = torch.optim.Adam(network.parameters(), lr=PLAIN_LR)
        self.model, self.optimizer = self.accelerator.prepare(network, optimizer)
        frames = random_frames(command, batch_size).permute(0, 2, 1, 3, 4)  # (B, 3, T, H, W)
        fast = ((frames.float() / 255 - MEAN) / STD).contiguous()
        slow = fast.index_select(2, slow_indices(command.num_frames))
        self.pathways = [slow, fast]
        self.labels = torch.arange(batch_size) % command.num_classes

    def train(self, marks: Marks) -> None:
        pathways = [pathway.to(self.device) for pathway in self.pathways]
        labels = self.labels.to(self.device)
        marks("copy")
        self.model.train()
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.model(pathways), labels)
        marks("forward")
        self.accelerator.backward(loss)
        marks("backward")
        self.optimizer.step()
        loss.item()  # which such loops print
        marks("optimizer")

    def score(self) -> None:
        self.model.eval()
        with torch.no_grad():
            self.model([pathway.to(self.device) for pathway in self.pathways]).float().cpu()


WAYS: dict[str, Any] = {"ours": OurStep, "plain": PlainStep}


def random_frames(command: BenchmarkStep, batch_size: int) -> Tensor:
    """uint8 (B, T, 3, H, W), in memory as data.dataset.collate makes it: frames of pixels."""
    size = (batch_size, command.num_frames, command.crop_size, command.crop_size, 3)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    return pixels.permute(0, 1, 4, 2, 3)


class WayProcess(MeasuringProcess):
    """One of WAYS in a process of its own, which works only when it is asked to.

    So neither way sees the other's settings of torch, or its memory.
    """

    def __init__(self, name: str, command: BenchmarkStep, batch_size: int) -> None:
        super().__init__()
        try:
            self.facts: dict[str, Any] = self.call(_set_up, name, command, batch_size)
        except BaseException:
            self.end()
            raise

    def turn(self, what: str) -> Turn:
        """Do one "train" step or one "score". Raises RunError where memory does not suffice."""
        return self.do(_turn, what)

    def do(self, work: Callable[..., T], *arguments: object) -> T:
        """What ``work(way, *arguments)`` returns there; ``work`` is a function of a module."""
        found: T = self.call(_do, work, *arguments)
        return found


# --- in that process -----------------------------------------------------------------------------

_own: list[Way] = []
"""The way of this process, once it is set up."""


def _set_up(name: str, command: BenchmarkStep, batch_size: int) -> dict[str, Any]:
    way: Way = WAYS[name](command, batch_size)
    _own.append(way)
    threads = torch.get_num_threads()
    return {"device": way.device.type, "precision": way.precision, "threads": threads}


def _do(work: Callable[..., T], *arguments: object) -> T:
    return work(_own[0], *arguments)


def _turn(way: Way, what: str) -> Turn:
    turn = Turn()

    def work() -> None:
        started, cpu = time.perf_counter(), time.process_time()
        if what == "train":
            marks = Marks(way.device)
            way.train(marks)
            turn.parts = marks.parts
        else:
            way.score()
        turn.seconds = time.perf_counter() - started
        turn.cpu_seconds = time.process_time() - cpu

    if way.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(way.device)
        work()
        turn.peak_bytes = torch.cuda.max_memory_allocated(way.device)
        torch.cuda.empty_cache()  # the other way's turn comes
    else:
        turn.peak_bytes = peak_growth(work, 0)
    return turn
