"""Every setting of a training run: frozen dataclasses whose field names are the flags.

The text under a field is its help on the command line. No torch here, so that ``--help`` is fast.
"""

import re
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal


class UserError(ValueError):
    """The user's mistake: one line that names flag, value and remedy; shown without a traceback."""


class RunError(RuntimeError):
    """What ends a run through no bug of ours, as a full disk: one line without a traceback."""


RESNET_ALPHA = 4
"""Fast frames per slow frame, in every model offered here."""


METRICS = (
    "loss", "accuracy", "top5_accuracy", "precision_macro", "recall_macro", "f1_macro",
    "precision_weighted", "recall_weighted", "f1_weighted",
)  # fmt: skip
"""Names below train/ and val/ in metrics.jsonl."""


@dataclass(frozen=True)
class DataConfig:
    root: Path | None = None
    """One folder of class folders, or a CSV of path,label; split into training and validation."""
    train_dir: Path | None = None
    """Training videos (class folders or a CSV), together with --data.val-dir, in place of root."""
    val_dir: Path | None = None
    """Validation videos, with the same classes as --data.train-dir."""
    synthetic: bool = False
    """Make the demo's small videos in --data.root if that folder does not exist yet."""
    val_fraction: float = 0.2
    """Share of the videos of --data.root that is kept for validation, class by class."""
    group_pattern: str | None = None
    """Regular expression searched in each path below the root, e.g. 'seq\\d+'.
    Videos with the same captured parts (or whole match) stay on one side of the split."""
    num_frames: int = 32
    """Frames of a clip, as the fast pathway sees it; a multiple of 4."""
    sampling_rate: int = 2
    """Frames of the video from one sampled frame to the next (dense sampling only)."""
    sampling: Literal["dense", "uniform"] = "dense"
    """dense: num_frames at sampling_rate, random start in training, centre in validation.
    uniform: num_frames spread evenly over the whole video."""
    short_side: tuple[int, int] = (256, 320)
    """Pixels of the short side before the crop, for resize short-side only.
    Training draws between the two, validation takes the smaller one."""
    crop_size: int = 224
    """Height and width of what the model sees, in pixels."""
    resize: Literal["short-side", "square"] = "short-side"
    """short-side: keep the aspect ratio, then crop.
    square: squeeze the whole frame to crop_size."""
    flip: bool = True
    """Mirror half of the training clips; switch off where left and right are different classes."""
    num_workers: int | Literal["auto"] = "auto"
    """Decoding processes of each training process; 0: none.
    auto: the CPUs shared out, at most 8."""
    decoder: Literal["auto", "decord", "pyav"] = "auto"
    """auto: Decord for the files in which it gives the right frames, PyAV for the others."""
    max_bad_fraction: float = 0.05
    """Stop when more than this share of the training videos failed to decode during training."""


@dataclass(frozen=True)
class ModelConfig:
    name: Literal["slowfast_r50", "slowfast_r101", "slowfast_16x8_r101_50_50", "slowfast_tiny"] = (
        "slowfast_r50"
    )
    """Architecture; slowfast_tiny is narrow, for CPUs, and has no published weights."""
    pretrained: bool = True
    """Start from the Kinetics-400 weights (torch.hub's cache, else its download)."""
    weights: Path | None = None
    """Start from this file: a hub checkpoint, a best_model_weights.pth or a bare state_dict."""
    dropout: float = 0.5
    """Dropout before the head."""
    freeze: int | Literal["none", "backbone"] = "none"
    """What does not train: none, backbone (all but the head), or the first K of 5 stages.
    Stage 1 is the stem."""
    norm: Literal["auto", "local", "sync", "frozen"] = "auto"
    """BatchNorm statistics: local (each micro-batch), sync (across GPUs), frozen (the loaded ones).
    auto: frozen with a pretrained backbone, else local."""
    compile: bool = False
    """Compile the model with torch.compile."""


@dataclass(frozen=True)
class OptimizerConfig:
    name: Literal["adam", "adamw", "sgd"] = "adamw"
    """sgd is with Nesterov momentum."""
    lr: float = 1e-3
    """Peak learning rate of the head, for the global batch as it is (never scaled silently)."""
    weight_decay: float = 1e-2
    """Weight decay of convolution and linear weights; BatchNorm and biases have none."""
    momentum: float = 0.9
    """For sgd."""
    backbone_lr_scale: float = 1.0
    """The backbone's learning rate as a fraction of the head's."""
    clip_norm: float | None = None
    """Clip the gradient to this norm; none: only measure it."""


@dataclass(frozen=True)
class ScheduleConfig:
    name: Literal["cosine", "step", "constant"] = "cosine"
    """After the warm-up: cosine to 0, step (a tenth at 1/2 and again at 3/4), or constant."""
    warmup_epochs: float = 0.0
    """Epochs of linear warm-up (fractions allowed), counted in optimizer steps."""


@dataclass(frozen=True)
class LossConfig:
    label_smoothing: float = 0.0
    """Label smoothing of the cross-entropy, in [0, 1)."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: a class weighs inversely to its number of training videos."""


@dataclass(frozen=True)
class EvaluationConfig:
    temporal_views: int = 1
    """Clips a video, spread evenly over it; their logits are averaged."""
    spatial_crops: int = 1
    """Crops a clip: 1 (centre) or 3 (along the longer side)."""
    every: int = 1
    """Epochs from one validation to the next; the last epoch always has one."""


@dataclass(frozen=True)
class CheckpointConfig:
    every_epochs: int = 1
    """Epochs from one checkpoint to the next; the last epoch always has one."""
    every_steps: int | None = None
    """Also every this many optimizer steps."""
    keep: int = 2
    """Newest checkpoints kept."""
    monitor: str = "val/loss"
    """The metric whose best value decides what is saved in models/."""
    mode: Literal["min", "max"] = "min"
    """Whether less or more of it is better."""


@dataclass(frozen=True)
class DistributedConfig:
    timeout: float = 120.0
    """Seconds after which a process that waits for another one in vain gives up."""
    preempt_signal: Literal["SIGUSR1", "SIGUSR2", "SIGHUP"] = "SIGUSR1"
    """Beside SIGTERM and SIGINT, the signal at which all finish the step, save and stop."""


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


@dataclass(frozen=True)
class Config:
    """Fine-tune SlowFast on a folder of class folders of videos."""

    output_dir: Path = Path("runs/finetune-{timestamp}")
    """The run's folder; {timestamp} becomes the time of the start."""
    resume: str = "never"
    """never; auto (the newest valid checkpoint of output_dir); or the path of a checkpoint."""
    resume_changed: bool = False
    """Resume although settings that alter the result differ from the checkpoint's."""
    epochs: int = 30
    """Passes over the training videos."""
    global_batch_size: int = 16
    """Videos per optimizer step, over all processes and accumulation steps."""
    micro_batch_size: int = 4
    """Videos that one process forwards at once; a divisor of global_batch_size."""
    seed: int = 0
    """Of the split, the new head, the order, the augmentation and dropout."""
    log_every: int = 10
    """Optimizer steps from one step line of metrics.jsonl to the next."""
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """auto: what accelerate launch was told, else what the hardware has."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)


@dataclass(frozen=True)
class EvaluateCommand:
    """Score labelled videos with the best model of a run: metrics and predictions."""

    data: Path | None = None
    """Class folders of videos, or a CSV of path,label, of any of the model's classes."""
    output: Path | None = None
    """Folder for metrics.json and predictions.csv;
    none: evaluation-NAME in the run's folder, with the name of --data."""
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """auto: what accelerate launch was told, else what the hardware has."""
    num_workers: int | Literal["auto"] = "auto"
    """Decoding processes of each scoring process; 0: none.
    auto: the CPUs shared out, at most 8."""
    batch_size: int = 8
    """Clips that one process scores at once; it changes no result."""


def validate_evaluate(config: EvaluateCommand) -> None:
    """Raise UserError, naming flag, value and remedy, for settings that cannot be."""
    if config.data is None:
        raise UserError("--data is missing: give the folder (class folders of videos) to score")
    _require(config.batch_size > 0, "batch-size", config.batch_size, "give a number above 0")
    if config.num_workers != "auto":
        remedy = "give 0 or a number above it"
        _require(config.num_workers >= 0, "num-workers", config.num_workers, remedy)


def config_dict(config: Config) -> dict[str, Any]:
    """The settings as plain nested dicts of YAML and JSON types; paths become strings."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return plain(asdict(config))


def validate(config: Config) -> None:
    """Raise UserError, naming flag, value and remedy, for settings that cannot work together."""
    for check in (_check_numbers, _check_data, _check_batches, _check_views, _check_best):
        check(config)


def _require(condition: bool, flag: str, value: object, remedy: str) -> None:
    if not condition:
        raise UserError(f"--{flag} {value}: {remedy}")


def _check_numbers(config: Config) -> None:
    positive: dict[str, float] = {
        "epochs": config.epochs,
        "global-batch-size": config.global_batch_size,
        "micro-batch-size": config.micro_batch_size,
        "log-every": config.log_every,
        "data.num-frames": config.data.num_frames,
        "data.sampling-rate": config.data.sampling_rate,
        "data.crop-size": config.data.crop_size,
        "optimizer.lr": config.optimizer.lr,
        "evaluation.temporal-views": config.evaluation.temporal_views,
        "evaluation.every": config.evaluation.every,
        "checkpoint.every-epochs": config.checkpoint.every_epochs,
        "checkpoint.keep": config.checkpoint.keep,
        "distributed.timeout": config.distributed.timeout,
    }
    if config.checkpoint.every_steps is not None:
        positive["checkpoint.every-steps"] = config.checkpoint.every_steps
    if config.optimizer.clip_norm is not None:
        positive["optimizer.clip-norm"] = config.optimizer.clip_norm
    for flag, value in positive.items():
        _require(value > 0 and isfinite(value), flag, value, "give a number above 0")
    not_negative: dict[str, float] = {
        "seed": config.seed,
        "optimizer.weight-decay": config.optimizer.weight_decay,
        "optimizer.backbone-lr-scale": config.optimizer.backbone_lr_scale,
        "schedule.warmup-epochs": config.schedule.warmup_epochs,
    }
    if config.data.num_workers != "auto":
        not_negative["data.num-workers"] = config.data.num_workers
    for flag, value in not_negative.items():
        _require(value >= 0 and isfinite(value), flag, value, "give 0 or a number above it")
    fractions = {
        "model.dropout": config.model.dropout,
        "loss.label-smoothing": config.loss.label_smoothing,
        "optimizer.momentum": config.optimizer.momentum,
    }
    for flag, value in fractions.items():
        _require(0 <= value < 1, flag, value, "give a number from 0 up to, not including, 1")
    bad = config.data.max_bad_fraction
    _require(0 <= bad <= 1, "data.max-bad-fraction", bad, "give a number from 0 to 1")
    val = config.data.val_fraction
    _require(0 < val < 1, "data.val-fraction", val, "give a number between 0 and 1, as 0.2")
    crops = config.evaluation.spatial_crops
    _require(crops in (1, 3), "evaluation.spatial-crops", crops, "give 1 or 3")
    if isinstance(config.model.freeze, int):
        _require(
            1 <= config.model.freeze <= 5,
            "model.freeze",
            config.model.freeze,
            "give none, backbone, or a number of stages from 1 to 5",
        )


def _check_data(config: Config) -> None:
    data = config.data
    if data.root is not None and (data.train_dir or data.val_dir):
        raise UserError(
            f"--data.root {data.root}: give either --data.root, or --data.train-dir with "
            "--data.val-dir, not both"
        )
    if data.root is None:
        if data.train_dir is None and data.val_dir is None:
            raise UserError(
                "no videos given: add --data.root FOLDER (class folders of videos), or try "
                "'python train.py demo', which makes its own"
            )
        missing = "val-dir" if data.val_dir is None else "train-dir"
        given = data.train_dir or data.val_dir
        if data.train_dir is None or data.val_dir is None:
            raise UserError(
                f"--data.{missing} is missing beside {given}: give both, or one --data.root"
            )
    if data.group_pattern is not None:
        try:
            re.compile(data.group_pattern)
        except re.error as error:
            raise UserError(
                f"--data.group-pattern {data.group_pattern}: no regular expression ({error}): "
                "give one, as 'seq\\d+'"
            ) from None
    _require(
        data.num_frames % RESNET_ALPHA == 0,
        "data.num-frames",
        data.num_frames,
        f"give a multiple of {RESNET_ALPHA}, as the slow pathway takes every fourth frame",
    )
    low, high = data.short_side
    _require(0 < low <= high, "data.short-side", f"{low} {high}", "give two sizes, smaller first")
    if data.resize == "short-side":
        _require(
            data.crop_size <= low,
            "data.crop-size",
            data.crop_size,
            f"give at most the short side, --data.short-side {low} {high}",
        )


def _check_batches(config: Config) -> None:
    total, micro = config.global_batch_size, config.micro_batch_size
    if total % micro:
        below = total // micro * micro
        nearest = f"{below} or {below + micro}" if below else f"{micro}"
        raise UserError(
            f"--global-batch-size {total} is no multiple of --micro-batch-size {micro}: "
            f"the nearest that are: {nearest}"
        )
    warmup = config.schedule.warmup_epochs
    _require(
        warmup <= config.epochs,
        "schedule.warmup-epochs",
        warmup,
        f"give at most --epochs {config.epochs}",
    )


def _check_views(config: Config) -> None:
    clips, crops = config.evaluation.temporal_views, config.evaluation.spatial_crops
    if config.data.sampling == "uniform":
        _require(
            clips == 1,
            "evaluation.temporal-views",
            clips,
            "with --data.sampling uniform every clip is the whole video: give 1, or sample dense",
        )
    if config.data.resize == "square":
        _require(
            crops == 1,
            "evaluation.spatial-crops",
            crops,
            "with --data.resize square every crop is the whole frame: give 1, or resize short-side",
        )


def _check_best(config: Config) -> None:
    monitor, mode = config.checkpoint.monitor, config.checkpoint.mode
    side, _, name = monitor.partition("/")
    _require(
        side in ("train", "val") and name in METRICS,
        "checkpoint.monitor",
        monitor,
        f"give train/ or val/ and one of {', '.join(METRICS)}",
    )
    right = "min" if name == "loss" else "max"
    _require(
        mode == right,
        "checkpoint.mode",
        mode,
        f"with --checkpoint.monitor {monitor} this keeps the worst: use {right}",
    )
