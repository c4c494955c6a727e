"""The settings of ``benchmark``: field names are the flags.

The text under a field is its help on the command line. No torch here, so that ``--help`` is fast.
The module keeps its name: ``benchmark step --build`` asks other builds by it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval, Le, MinLen, MultipleOf, Predicate

from slowfast_dist.config import fields
from slowfast_dist.config.checks import Remedy, require
from slowfast_dist.config.data import RESNET_ALPHA, CacheSize
from slowfast_dist.config.fields import as_training, is_even_from_16

ClipFrames = Annotated[fields.Count, MultipleOf(RESNET_ALPHA), as_training("data.num-frames")]
ShortSide = Annotated[tuple[int, int], as_training("data.short-side")]
CropSize = Annotated[fields.Count, as_training("data.crop-size")]
Model = Annotated[fields.ModelName, as_training("model.name")]
MeasuredPrecision = Annotated[
    fields.Precision, as_training("mixed-precision", "; auto: what the hardware has")
]
Rate = Annotated[float, Gt(0), Le(fields.MOST)]


def _is_size(size: str) -> bool:
    """Whether it is a width and a height that encoders take, as 1280x720."""
    sides = size.split("x")
    return len(sides) == 2 and all(s.isdecimal() and is_even_from_16(int(s)) for s in sides)


def _check_short_side(short_side: tuple[int, int], crop_size: int) -> None:
    """Raise UserError unless crops of ``crop_size`` pixels fit into both sizes of a video."""
    low, high = short_side
    remedy = f"give two numbers, the smaller first, not below the crop size {crop_size}"
    require(crop_size <= low <= high, "short-side", f"{low} {high}", remedy)
    most = fields.MOST_SHORT_SIDE
    require(high <= most, "short-side", f"{low} {high}", f"give at most {most}")


@dataclass(frozen=True)
class BenchmarkLoader:
    """Measure the reading of clips: CPU time, clips a second, and where the time goes."""

    synthetic: Annotated[int, Ge(0), Le(fields.MOST)] = 0
    """Make this many videos of each kind (size, keyframe interval), in place of DIR."""
    sizes: Annotated[
        tuple[str, ...], MinLen(1), Remedy("give at least one, as 1280x720"),
        Predicate(_is_size), Remedy("give even numbers from 16 on, as 1280x720"),
    ] = ("340x256", "1280x720", "1920x1080")  # fmt: skip
    """Width and height of the videos that are made."""
    key_intervals: Annotated[tuple[int, ...], MinLen(1), Gt(0), Le(fields.MOST)] = (12, 250)
    """Frames from one keyframe to the next in the videos that are made."""
    keep: Path | None = None
    """Keep the made videos in this folder, and use those that it holds already."""
    sample: fields.Positive = 12
    """Videos of DIR that are read, spread evenly over all."""
    clips: fields.Positive = 7
    """Clips of each kind of video that are read in every way; with workers a third of them, each
    by every worker."""
    workers: Annotated[tuple[int, ...], Ge(0), Le(fields.MOST_WORKERS)] = (0, 2)
    """Loader processes, each number for itself; 0: the training process reads; none: left out."""
    num_frames: Annotated[fields.Positive, as_training("data.num-frames")] = 32
    sampling_rate: Annotated[fields.Positive, as_training("data.sampling-rate")] = 2
    short_side: ShortSide = (256, 320)
    crop_size: Annotated[fields.Positive, as_training("data.crop-size")] = 224
    prepared: bool = True
    """Also measure the videos after prepare."""
    augmented: bool = False
    """Also measure with all augmentation that a reader does, as ``--augment.crop-scale 0.3 1
    --augment.rand-augment 9 --augment.erasing 0.25 --augment.speed 0.8 1.25``."""
    cache: Annotated[CacheSize, as_training("data.cache")] = "off"
    """If not off, nothing else is measured: epochs of one clip of each video, each read with and
    without frames that are kept."""
    cache_dir: Annotated[Path | None, as_training("data.cache-dir")] = None
    epochs: Annotated[int, Gt(1), Le(fields.MOST)] = 4
    """Epochs with --cache; the first one is shown apart."""
    json: fields.JsonResults = False

    def check(self) -> None:
        """Raise UserError for sizes that do not go together."""
        _check_short_side(self.short_side, self.crop_size)


@dataclass(frozen=True)
class BenchmarkIndex:
    """Measure listing and start-up of a large dataset, and the memory that it takes."""

    files: Annotated[int, Ge(100), Le(100 * fields.MOST)] = 1_000_000
    """How many files the made dataset has; 10,000 and 100,000 are measured besides."""
    json: fields.JsonResults = False


@dataclass(frozen=True)
class BenchmarkStep:
    """Measure the training step on random data: clips a second, where the time goes, memory, and
    the shares of what the hardware can do at most."""

    model: Model = "slowfast_r50"
    batch_sizes: Annotated[tuple[int, ...], MinLen(1), Gt(0), Le(fields.MOST)] = (4,)
    """Clips forwarded at once (the micro-batch), each number for itself."""
    num_classes: fields.Count = 400
    """Outputs of the head."""
    num_frames: ClipFrames = 32
    crop_size: CropSize = 224
    norm: Literal["frozen", "local"] = "frozen"
    """As --model.norm of the training: frozen is what a pretrained model trains with."""
    optimizer: fields.OptimizerName = "adamw"
    """As --optimizer.name of the training."""
    mixed_precision: MeasuredPrecision = "auto"
    layout: Literal["auto", "channels-last", "contiguous"] = "auto"
    """Layout of weights and activations in memory; auto: what the training takes."""
    compile: bool = False
    """As --model.compile of the training; the time to compile is shown."""
    compile_mode: Literal["default", "reduce-overhead"] = "default"
    """Of torch.compile; reduce-overhead: on a GPU a step is recorded as CUDA graphs and replayed,
    which the training does not do."""
    checkpoint_activations: bool = False
    """As --model.checkpoint-activations of the training."""
    evaluation: bool = True
    """Also measure scoring, without gradients."""
    against: Literal["none", "plain"] = "none"
    """plain: also time the plain way in the same run, turn by turn: pytorchvideo's model and
    Accelerate, default layout, Adam not fused, frames normalised in float on the CPU."""
    plain_precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the plain way."""
    plain_layout: Literal["contiguous", "channels-last"] = "contiguous"
    """Layout of the plain way's weights and frames; contiguous is torch's default."""
    build: Path | None = None
    """The folder of another checkout of this repository, as git worktree makes it: also time its
    step, turn by turn."""
    steps: fields.Count = 5
    """Steps timed of each, after one that is not; the median counts."""
    peak_tflops: fields.PositiveFloat | None = None
    """What the device computes at most at this precision, for the floors; none: known for some
    GPUs, measured with a matrix product elsewhere."""
    peak_gbytes: fields.PositiveFloat | None = None
    """Bytes that the device's memory moves at most, in 1e9/s; none: as above, with a copy."""
    profile: Path | None = None
    """After the timing, write a trace of 3 steps of ours to this new .json file, for
    ui.perfetto.dev, and print the operators that take most time, and what only moves pixels to
    another layout."""
    json: fields.JsonResults = False

    def check(self) -> None:
        """Raise UserError for several measurements where one is traced, and for what cannot be
        compared with."""
        sizes = " ".join(map(str, self.batch_sizes))
        one = self.profile is None or len(self.batch_sizes) == 1
        require(one, "batch-sizes", sizes, "give one with --profile")
        compiled = self.compile or self.compile_mode == "default"
        require(compiled, "compile-mode", self.compile_mode, "is of torch.compile: add --compile")
        if self.build is not None:
            alone = self.against == "none"
            require(alone, "against", self.against, "leave it out with --build")
            there = (self.build / "slowfast_dist" / "__init__.py").is_file()
            require(there, "build", str(self.build), "give a folder that holds slowfast_dist/")


@dataclass(frozen=True)
class BenchmarkTrain:
    """Measure a training end to end on the videos of DIR: clips a second, and what it waits for."""

    model: Model = "slowfast_r50"
    batch_size: fields.Count = 4
    """Clips forwarded at once, and of one optimizer step."""
    steps: fields.Count = 5
    """Optimizer steps timed, after one that is not."""
    num_frames: ClipFrames = 32
    sampling_rate: Annotated[fields.Count, as_training("data.sampling-rate")] = 2
    short_side: ShortSide = (256, 320)
    crop_size: CropSize = 224
    num_workers: Annotated[fields.LoaderWorkers, as_training("data.num-workers")] = "auto"
    mixed_precision: MeasuredPrecision = "auto"
    against: Literal["none", "plain"] = "none"
    """plain: also time the plain loop in the same run: Decord at full size, float32 in the worker,
    pytorchvideo's model and Accelerate, default layout, Adam not fused."""
    plain_precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the plain loop."""
    json: fields.JsonResults = False

    def check(self) -> None:
        """Raise UserError for sizes that do not go together."""
        _check_short_side(self.short_side, self.crop_size)


@dataclass(frozen=True)
class BenchmarkScaling:
    """Measure 1 to N processes on this machine, and model many GPUs from that.

    The table for 8 to 512 GPUs is a model: its assumptions stand beside it.
    """

    processes: fields.Count = 2
    """Most processes measured on this machine."""
    model: fields.ModelName = "slowfast_tiny"
    """Model of the measurement; the modelled table is for slowfast_r50."""
    batch_size: fields.Count = 2
    """Clips of one process and step."""
    num_frames: ClipFrames = 32
    crop_size: CropSize = 112
    steps: fields.Count = 5
    """Steps timed, after one that is not; the median counts."""
    mixed_precision: Annotated[fields.Precision, as_training("mixed-precision")] = "no"
    step_seconds: Rate | None = None
    """Seconds of one GPU's step for the modelled table, as 'benchmark step' prints it there; none:
    from the floors of one H100 and the share of them that --floor-share says."""
    floor_share: Annotated[float, Interval(gt=0, le=1), Remedy("give 0 < share <= 1")] = 0.3
    """Share of the slower floor that a GPU's step reaches, where --step-seconds is not given."""
    gpu_batch_size: fields.Count = 16
    """Clips of one GPU and step in the modelled table."""
    gpus_per_node: fields.Count = 8
    """GPUs of one node in the modelled table."""
    node_gbytes: Rate = 300.0
    """Rate between GPUs of a node, in 1e9 bytes a second and GPU, each way (NVLink)."""
    network_gbytes: Rate = 50.0
    """Rate between nodes, in 1e9 bytes a second and GPU, each way (400 Gbit/s each)."""
    overlap: Annotated[float, Interval(ge=0, le=1), Remedy("give 0 to 1")] = 0.7
    """Share of the backward pass beside which gradients can travel."""
    json: fields.JsonResults = False


@dataclass(frozen=True)
class BenchmarkAnswers:
    """Measure how fast a model answers, by torch, by OpenVINO, and by the files that export wrote.

    RUN is a run's folder, or its models folder alone; without one a model is made.
    """

    model: Model = "slowfast_r50"
    num_frames: ClipFrames = 32
    crop_size: CropSize = 224
    mixed_precision: MeasuredPrecision = "auto"
    batch_sizes: Annotated[tuple[int, ...], MinLen(1), Gt(0), Le(fields.MOST)] = (1, 8)
    """Clips given at once."""
    rounds: fields.Positive = 9
    """Times that each backend computes them, all in turn."""
    json: fields.JsonResults = False
