"""The settings of ``benchmark``: field names are the flags.

The text under a field is its help on the command line. No torch here, so that ``--help`` is fast.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slowfast_dist.config.checks import MOST, require

Precision = Literal["auto", "no", "bf16", "fp16"]
ABOVE_0 = "give a number above 0"


@dataclass(frozen=True)
class BenchmarkLoader:
    """Measure the reading of clips: CPU time, clips a second, and where the time goes."""

    synthetic: int = 0
    """Make this many videos of each kind (size, keyframe interval), in place of DIR."""
    sizes: tuple[str, ...] = ("340x256", "1280x720", "1920x1080")
    """Width and height of the videos that are made."""
    key_intervals: tuple[int, ...] = (12, 250)
    """Frames from one keyframe to the next in the videos that are made."""
    keep: Path | None = None
    """Keep the made videos in this folder, and use those that it holds already."""
    sample: int = 12
    """Videos of DIR that are read, spread evenly over all."""
    clips: int = 7
    """Clips of each kind of video that are read in every way; with workers a third of them, each
    by every worker."""
    workers: tuple[int, ...] = (0, 2)
    """Loader processes, each number for itself; 0: the training process reads; none: left out."""
    num_frames: int = 32
    """As --data.num-frames of the training."""
    sampling_rate: int = 2
    """As --data.sampling-rate of the training."""
    short_side: tuple[int, int] = (256, 320)
    """As --data.short-side of the training."""
    crop_size: int = 224
    """As --data.crop-size of the training."""
    prepared: bool = True
    """Also measure the videos after prepare."""
    json: bool = False
    """Print the results as one JSON object, in the last line."""

    def check(self) -> None:
        """Raise UserError for settings that cannot be."""
        more = "give a number above 0"
        require(self.synthetic >= 0, "synthetic", self.synthetic, "give 0 or a number above it")
        require(bool(self.sizes), "sizes", "", "give at least one, as 1280x720")
        for size in self.sizes:
            sides = [int(side) for side in size.split("x") if side.isdecimal()]
            good = len(sides) == 2 and size.count("x") == 1
            good = good and all(side >= 16 and side % 2 == 0 for side in sides)
            require(good, "sizes", size, "give even numbers from 16 on, as 1280x720")
        require(bool(self.key_intervals), "key-intervals", "", "give at least one number")
        for interval in self.key_intervals:
            require(interval > 0, "key-intervals", interval, more)
        for workers in self.workers:
            require(workers >= 0, "workers", workers, "give 0 or a number above it")
        for flag in ("sample", "clips", "num_frames", "sampling_rate", "crop_size"):
            value = getattr(self, flag)
            require(value > 0, flag.replace("_", "-"), value, more)
        low, high = self.short_side
        require(
            self.crop_size <= low <= high,
            "short-side",
            f"{low} {high}",
            f"give two numbers, the smaller first, not below the crop size {self.crop_size}",
        )


@dataclass(frozen=True)
class BenchmarkIndex:
    """Measure listing and start-up of a large dataset, and the memory that it takes."""

    files: int = 1_000_000
    """How many files the made dataset has; 10,000 and 100,000 are measured besides."""
    json: bool = False
    """Print the results as one JSON object, in the last line."""

    def check(self) -> None:
        """Raise UserError for settings that cannot be."""
        require(self.files >= 100, "files", self.files, "give 100 or a number above it")


@dataclass(frozen=True)
class BenchmarkStep:
    """Measure the training step on random data: clips a second, where the time goes, memory, and
    the shares of what the hardware can do at most."""

    model: Literal["slowfast_r50", "slowfast_r101", "slowfast_16x8_r101_50_50", "slowfast_tiny"] = (
        "slowfast_r50"
    )
    """As --model.name of the training."""
    batch_sizes: tuple[int, ...] = (4,)
    """Clips forwarded at once (the micro-batch), each number for itself."""
    num_classes: int = 400
    """Outputs of the head."""
    num_frames: int = 32
    """As --data.num-frames of the training."""
    crop_size: int = 224
    """As --data.crop-size of the training."""
    norm: Literal["frozen", "local"] = "frozen"
    """As --model.norm of the training: frozen is what a pretrained model trains with."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    """As --optimizer.name of the training."""
    mixed_precision: Precision = "auto"
    """As --mixed-precision of the training; auto: what the hardware has."""
    layout: Literal["auto", "channels-last", "contiguous"] = "auto"
    """Layout of weights and activations in memory; auto: what the training takes."""
    compile: bool = False
    """As --model.compile of the training; the time to compile is shown."""
    checkpoint_activations: bool = False
    """As --model.checkpoint-activations of the training."""
    evaluation: bool = True
    """Also measure scoring, without gradients."""
    against: Literal["none", "plain"] = "none"
    """plain: also time the plain way in the same run, turn by turn: pytorchvideo's model and
    Accelerate, default layout, Adam not fused, frames normalised in float on the CPU."""
    plain_precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the plain way."""
    steps: int = 5
    """Steps timed of each, after one that is not; the median counts."""
    peak_tflops: float | None = None
    """What the device computes at most at this precision, for the floors; none: known for some
    GPUs, measured with a matrix product elsewhere."""
    peak_gbytes: float | None = None
    """Bytes that the device's memory moves at most, in 1e9/s; none: as above, with a copy."""
    profile: Path | None = None
    """After the timing, write a trace of 3 steps of ours to this new .json file, for
    ui.perfetto.dev, and print the operators that take most time."""
    json: bool = False
    """Print the results as one JSON object, in the last line."""

    def check(self) -> None:
        """Raise UserError for settings that cannot be."""
        require(bool(self.batch_sizes), "batch-sizes", "", "give at least one number")
        for size in self.batch_sizes:
            require(size > 0, "batch-sizes", size, ABOVE_0)
        for flag in ("num_classes", "num_frames", "crop_size", "steps"):
            value = getattr(self, flag)
            require(0 < value <= 10**6, flag.replace("_", "-"), value, ABOVE_0)
        frames = self.num_frames
        require(frames % 4 == 0, "num-frames", frames, "give a multiple of 4")
        for flag in ("peak_tflops", "peak_gbytes"):
            value = getattr(self, flag)
            right = value is None or 0 < value < float("inf")
            require(right, flag.replace("_", "-"), value, ABOVE_0)
        sizes = " ".join(map(str, self.batch_sizes))
        one = self.profile is None or len(self.batch_sizes) == 1
        require(one, "batch-sizes", sizes, "give one with --profile")


@dataclass(frozen=True)
class BenchmarkTrain:
    """Measure a training end to end on the videos of DIR: clips a second, and what it waits for."""

    model: Literal["slowfast_r50", "slowfast_r101", "slowfast_16x8_r101_50_50", "slowfast_tiny"] = (
        "slowfast_r50"
    )
    """As --model.name of the training."""
    batch_size: int = 4
    """Clips forwarded at once, and of one optimizer step."""
    steps: int = 5
    """Optimizer steps timed, after one that is not."""
    num_frames: int = 32
    """As --data.num-frames of the training."""
    sampling_rate: int = 2
    """As --data.sampling-rate of the training."""
    short_side: tuple[int, int] = (256, 320)
    """As --data.short-side of the training."""
    crop_size: int = 224
    """As --data.crop-size of the training."""
    num_workers: int | Literal["auto"] = "auto"
    """As --data.num-workers of the training."""
    mixed_precision: Precision = "auto"
    """As --mixed-precision of the training; auto: what the hardware has."""
    against: Literal["none", "plain"] = "none"
    """plain: also time the plain loop in the same run: Decord at full size, float32 in the worker,
    pytorchvideo's model and Accelerate, default layout, Adam not fused."""
    plain_precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the plain loop."""
    json: bool = False
    """Print the results as one JSON object, in the last line."""

    def check(self) -> None:
        """Raise UserError for settings that cannot be."""
        for flag in ("batch_size", "steps", "num_frames", "sampling_rate", "crop_size"):
            value = getattr(self, flag)
            require(0 < value <= 10**6, flag.replace("_", "-"), value, ABOVE_0)
        frames = self.num_frames
        require(frames % 4 == 0, "num-frames", frames, "give a multiple of 4")
        low, high = self.short_side
        require(
            self.crop_size <= low <= high,
            "short-side",
            f"{low} {high}",
            f"give two numbers, the smaller first, not below the crop size {self.crop_size}",
        )
        if isinstance(self.num_workers, int):
            most = MOST["data.num-workers"]
            right = 0 <= self.num_workers <= most
            remedy = f"give 0 or a number above it, up to {most}"
            require(right, "num-workers", self.num_workers, remedy)


@dataclass(frozen=True)
class BenchmarkScaling:
    """Measure 1 to N processes on this machine, and model many GPUs from that.

    The table for 8 to 512 GPUs is a model: its assumptions stand beside it.
    """

    processes: int = 2
    """Most processes measured on this machine."""
    model: Literal["slowfast_r50", "slowfast_r101", "slowfast_16x8_r101_50_50", "slowfast_tiny"] = (
        "slowfast_tiny"
    )
    """Model of the measurement; the modelled table is for slowfast_r50."""
    batch_size: int = 2
    """Clips of one process and step."""
    num_frames: int = 32
    """As --data.num-frames of the training."""
    crop_size: int = 112
    """As --data.crop-size of the training."""
    steps: int = 5
    """Steps timed, after one that is not; the median counts."""
    mixed_precision: Precision = "no"
    """As --mixed-precision of the training."""
    step_seconds: float | None = None
    """Seconds of one GPU's step for the modelled table, as 'benchmark step' prints it there; none:
    from the floors of one H100 and the share of them that --floor-share says."""
    floor_share: float = 0.3
    """Share of the slower floor that a GPU's step reaches, where --step-seconds is not given."""
    gpu_batch_size: int = 16
    """Clips of one GPU and step in the modelled table."""
    gpus_per_node: int = 8
    """GPUs of one node in the modelled table."""
    node_gbytes: float = 300.0
    """Rate between GPUs of a node, in 1e9 bytes a second and GPU, each way (NVLink)."""
    network_gbytes: float = 50.0
    """Rate between nodes, in 1e9 bytes a second and GPU, each way (400 Gbit/s each)."""
    overlap: float = 0.7
    """Share of the backward pass beside which gradients can travel."""
    json: bool = False
    """Print the results as one JSON object, in the last line."""

    def check(self) -> None:
        """Raise UserError for settings that cannot be."""
        for flag in (
            "processes", "batch_size", "num_frames", "crop_size", "steps", "gpu_batch_size",
            "gpus_per_node", "node_gbytes", "network_gbytes", "step_seconds",
        ):  # fmt: skip
            value = getattr(self, flag)
            right = value is None or 0 < value <= 10**6
            require(right, flag.replace("_", "-"), value, ABOVE_0)
        frames = self.num_frames
        require(frames % 4 == 0, "num-frames", frames, "give a multiple of 4")
        require(0 < self.floor_share <= 1, "floor-share", self.floor_share, "give 0 < share <= 1")
        require(0 <= self.overlap <= 1, "overlap", self.overlap, "give 0 to 1")
