"""Every setting of a training run: frozen dataclasses whose field names are the flags.

The text under a field is its help on the command line. No torch here, so that ``--help`` is fast.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Le, MultipleOf

from slowfast_dist.config import fields
from slowfast_dist.config.checks import Remedy, require
from slowfast_dist.config.errors import UserError

RESNET_ALPHA = 4
"""Fast frames per slow frame, in every model offered here."""


@dataclass(frozen=True)
class DataConfig:
    root: Path | None = None
    """One folder of class folders, or a CSV of path,label; split into training and validation, by
    the CSV's column split if it has one."""
    train_dir: Path | None = None
    """Training videos (class folders or a CSV), together with --data.val-dir, in place of root."""
    val_dir: Path | None = None
    """Validation videos, of classes that --data.train-dir has."""
    videos: Path | None = None
    """Folder from which relative paths of a CSV start; none: the CSV's own, and for split.csv of a
    run the videos of that run."""
    synthetic: bool = False
    """Make the demo's small videos in --data.root if that folder does not exist yet."""
    val_fraction: Annotated[
        float, Interval(gt=0, lt=1), Remedy("give a number between 0 and 1, as 0.2")
    ] = 0.2
    """Share of the videos of --data.root that is kept for validation, class by class."""
    group_pattern: str | None = None
    """Regular expression searched in each path below the root, e.g. 'seq\\d+'.
    Videos with the same captured parts (or whole match) stay on one side of the split."""
    num_frames: Annotated[
        int, Gt(0), Le(fields.MOST_FRAMES), MultipleOf(RESNET_ALPHA),
        Remedy(f"give a multiple of {RESNET_ALPHA}, as the slow pathway takes every fourth frame"),
    ] = 32  # fmt: skip
    """Frames of a clip, as the fast pathway sees it; a multiple of 4."""
    sampling_rate: fields.Count = 2
    """Frames of the video from one sampled frame to the next (dense sampling only)."""
    frame_rate: fields.ClipRate = "video"
    """Frames a second in which sampling_rate counts (dense sampling only): of the video, each has
    its own; or a number: of any video those frames are taken that are nearest in time, so that
    clips last equally long. Kinetics' pretrained networks saw 30."""
    sampling: Literal["dense", "uniform"] = "dense"
    """dense: num_frames at sampling_rate, random start in training, centre in validation.
    uniform: num_frames spread evenly over the whole video."""
    short_side: tuple[int, int] = (256, 320)
    """Pixels of the short side before the crop, for resize short-side only.
    Training draws between the two, validation takes the smaller one."""
    crop_size: Annotated[int, Gt(0), Le(fields.MOST_PIXELS)] = 224
    """Height and width of what the model sees, in pixels."""
    resize: Literal["short-side", "square"] = "short-side"
    """short-side: keep the aspect ratio, then crop.
    square: squeeze the whole frame to crop_size."""
    pixel_aspect: fields.PixelAspect = "square"
    """square: pixels that a file says are wider or higher than square are shown as a player does.
    stored: they are taken as square, as before this flag; for models that were trained so.
    It matters for resize short-side alone."""
    flip: bool = True
    """Mirror half of the training clips; switch off where left and right are different classes."""
    num_workers: Annotated[int | Literal["auto"], Ge(0), Le(fields.MOST_WORKERS)] = "auto"
    """Decoding processes of each training process; 0: none.
    auto: the CPUs shared out, at most 8."""
    decoder: Literal["auto", "decord", "pyav"] = "auto"
    """auto: the faster library that gives the right frames of a file; that was PyAV, 1.4 to 2.9
    times as fast as Decord, for every kind of file measured ('benchmark loader')."""
    max_bad_fraction: Annotated[float, Interval(ge=0, le=1)] = 0.05
    """Stop when more than this share of the training videos failed to decode during training."""

    def check(self) -> None:
        """Raise UserError for sources, a pattern, or sizes that do not go together."""
        given = self.train_dir or self.val_dir
        if self.root is not None:
            remedy = "give either --data.root, or --data.train-dir with --data.val-dir, not both"
            require(given is None, "data.root", self.root, remedy)
        elif given is None:
            raise UserError(
                "no videos given: add --data.root FOLDER (class folders of videos), or try "
                "'python train.py demo', which makes its own"
            )
        elif None in (self.train_dir, self.val_dir):
            missing = "val-dir" if self.val_dir is None else "train-dir"
            raise UserError(
                f"--data.{missing} is missing beside {given}: give both, or one --data.root"
            )
        try:
            re.compile(self.group_pattern or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise UserError(
                f"--data.group-pattern {self.group_pattern}: no regular expression ({error}): "
                "give one, as 'seq\\d+'"
            ) from None
        low, high = self.short_side
        sides = f"{low} {high}"
        require(0 < low <= high, "data.short-side", sides, "give two sizes, smaller first")
        right = high <= fields.MOST_SHORT_SIDE
        require(right, "data.short-side", sides, f"give at most {fields.MOST_SHORT_SIDE}")
        if self.resize == "short-side":
            remedy = f"give at most the short side, --data.short-side {sides}"
            require(self.crop_size <= low, "data.crop-size", self.crop_size, remedy)


@dataclass(frozen=True)
class ModelConfig:
    name: fields.ModelName = "slowfast_r50"
    """Architecture; slowfast_tiny is narrow, for CPUs, and has no published weights."""
    pretrained: bool = True
    """Start from the Kinetics-400 weights (torch.hub's cache, else its download)."""
    weights: Path | None = None
    """Start from this file: a hub checkpoint, a best_model_weights.pth or a bare state_dict; or
    from a run's best model: its folder, or its models/."""
    head: Literal["auto", "new", "keep"] = "auto"
    """The head of the weights. auto: classes of the same name keep their rows, others get new ones;
    all are new where the weights' names are not known. keep: all rows as they are, also of classes
    that were renamed since."""
    dropout: fields.BelowOne = 0.5
    """Dropout before the head."""
    freeze: fields.FrozenStages = "none"
    """What does not train: none, backbone (all but the head), or the first K of 5 stages.
    Stage 1 is the stem."""
    norm: Literal["auto", "local", "sync", "frozen"] = "auto"
    """BatchNorm statistics: local (each micro-batch), sync (across GPUs), frozen (the loaded ones).
    auto: frozen with a pretrained backbone, else local."""
    compile: bool = False
    """Compile the model with torch.compile, for GPUs; on a CPU it takes minutes for no gain."""
    checkpoint_activations: bool = False
    """Forget activations in the forward pass and compute them again in the backward pass: less
    memory, more time."""

    def check(self) -> None:
        """Raise UserError where both of two exclude each other."""
        compiles = self.compile and self.checkpoint_activations
        remedy = "with --model.compile the compiler decides what is computed again: leave one of "
        require(not compiles, "model.checkpoint-activations", "true", f"{remedy}the two off")


@dataclass(frozen=True)
class OptimizerConfig:
    name: fields.OptimizerName = "adamw"
    """sgd is with Nesterov momentum."""
    lr: fields.PositiveFloat = 1e-3
    """Peak learning rate of the head, for the global batch as it is (never scaled silently)."""
    weight_decay: fields.NotNegative = 1e-2
    """Weight decay of convolution and linear weights; BatchNorm and biases have none."""
    momentum: fields.BelowOne = 0.9
    """For sgd."""
    backbone_lr_scale: fields.NotNegative = 1.0
    """The backbone's learning rate as a fraction of the head's."""
    clip_norm: fields.PositiveFloat | None = None
    """Clip the gradient to this norm; none: only measure it."""


@dataclass(frozen=True)
class ScheduleConfig:
    name: Literal["cosine", "step", "constant"] = "cosine"
    """After the warm-up: cosine to 0, step (a tenth at 1/2 and again at 3/4), or constant."""
    warmup_epochs: fields.NotNegative = 0.0
    """Epochs of linear warm-up (fractions allowed), counted in optimizer steps."""


@dataclass(frozen=True)
class LossConfig:
    label_smoothing: fields.BelowOne = 0.0
    """Label smoothing of the cross-entropy, in [0, 1)."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: a class weighs inversely to its number of training videos."""


@dataclass(frozen=True)
class EvaluationConfig:
    temporal_views: Annotated[int, Gt(0), Le(fields.MOST_VIEWS)] = 1
    """Clips a video, spread evenly over it; their probabilities are averaged."""
    spatial_crops: fields.SpatialCrops = 1
    """Crops a clip: 1 (centre) or 3 (along the longer side)."""
    every: fields.Positive = 1
    """Epochs from one validation to the next; the last epoch always has one."""


@dataclass(frozen=True)
class CheckpointConfig:
    every_epochs: fields.Positive = 1
    """Epochs from one checkpoint to the next; the last epoch always has one."""
    every_steps: fields.Positive | None = None
    """Also every this many optimizer steps."""
    keep: fields.Positive = 2
    """Newest checkpoints kept."""
    monitor: fields.Monitor = "val/loss"
    """The metric whose best value decides what is saved in models/."""
    mode: Literal["min", "max"] = "min"
    """Whether less or more of it is better."""

    def check(self) -> None:
        """Raise UserError for a mode that would keep the worst."""
        right = "min" if self.monitor.endswith("/loss") else "max"
        remedy = f"with --checkpoint.monitor {self.monitor} this keeps the worst: use {right}"
        require(self.mode == right, "checkpoint.mode", self.mode, remedy)


@dataclass(frozen=True)
class DistributedConfig:
    timeout: fields.PositiveFloat = 120.0
    """Seconds after which a process that waits for another one in vain gives up."""
    preempt_signal: Literal["SIGUSR1", "SIGUSR2", "SIGHUP"] = "SIGUSR1"
    """Beside SIGTERM and SIGINT, the signal at which all finish the step, save and stop."""
    compression: Literal["none", "bf16", "fp16"] = "none"
    """Gradients travel between processes in this precision: half the bytes, a little rounding."""


@dataclass(frozen=True)
class WandbConfig:
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online where there is a key and a network, else offline."""
    project: str = "slowfast_dist"
    """Project on wandb."""
    name: str | None = None
    """Name of the run; none: the name of output_dir."""
    tags: tuple[str, ...] = ()
    """Tags of the run."""
    log_model: bool = False
    """Upload the best model as an artifact."""
    hardest: Annotated[int, Interval(ge=0, le=100)] = 8
    """Validation videos shown, playing, among those that the best model got most wrong; 0: none.
    That takes at most a fiftieth of the run's time, and once more at its end."""


@dataclass(frozen=True)
class Config:
    """Fine-tune SlowFast on a folder of class folders of videos."""

    output_dir: Path = Path("runs/finetune-{timestamp}")
    """The run's folder; {timestamp} becomes the time of the start."""
    resume: str = "never"
    """never; auto (the newest valid checkpoint of output_dir); or the path of a checkpoint."""
    resume_changed: bool = False
    """Resume although settings that alter the result differ from the checkpoint's."""
    epochs: fields.Count = 30
    """Passes over the training videos."""
    global_batch_size: fields.Count = 16
    """Videos per optimizer step, over all processes and accumulation steps."""
    micro_batch_size: Annotated[int | Literal["auto"], Gt(0), Le(fields.MOST)] = 4
    """Videos that one process forwards at once, a divisor of global_batch_size: sets the memory.
    auto: the largest that fits, found before training.
    Beyond rounding and dropout's draws it changes the result with model.norm local only."""
    seed: Annotated[int, Ge(0), Le(fields.MOST_SEED)] = 0
    """Of the split, the new head, the order, the augmentation and dropout."""
    log_every: fields.Positive = 10
    """Optimizer steps from one step line of metrics.jsonl to the next."""
    log_samples: bool = False
    """Write logs/samples.csv: which sample and which video each optimizer step used."""
    mixed_precision: fields.LaunchPrecision = "auto"
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)

    def check(self) -> None:
        """Raise UserError where settings of several groups do not go together."""
        total, micro = self.global_batch_size, self.micro_batch_size
        if micro != "auto" and total % micro:
            below = total // micro * micro
            nearest = f"{below} or {below + micro}" if below else f"{micro}"
            raise UserError(
                f"--global-batch-size {total} is no multiple of --micro-batch-size {micro}: "
                f"the nearest that are: {nearest}"
            )
        warmup, remedy = self.schedule.warmup_epochs, f"give at most --epochs {self.epochs}"
        require(warmup <= self.epochs, "schedule.warmup-epochs", warmup, remedy)
        clips, crops = self.evaluation.temporal_views, self.evaluation.spatial_crops
        remedy = "with --data.sampling uniform every clip is the whole video: give 1, or sample "
        differ = clips == 1 or self.data.sampling != "uniform"
        require(differ, "evaluation.temporal-views", clips, f"{remedy}dense")
        remedy = "with --data.resize square every crop is the whole frame: give 1, or resize "
        differ = crops == 1 or self.data.resize != "square"
        require(differ, "evaluation.spatial-crops", crops, f"{remedy}short-side")


def config_dict(config: Config) -> dict[str, Any]:
    """The settings as plain nested dicts of YAML and JSON types; paths become strings."""
    return json.loads(json.dumps(asdict(config), default=str))
