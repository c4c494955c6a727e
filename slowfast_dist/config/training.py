"""Every setting of a training run: frozen dataclasses whose field names are the flags.

The text under a field is its help on the command line. No torch here, so that ``--help`` is fast.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Le

from slowfast_dist.config import fields
from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.config.checks import Remedy, require
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.config.report import ReportConfig


@dataclass(frozen=True)
class OptimizerConfig:
    name: fields.OptimizerName = "adamw"
    """sgd is with Nesterov momentum."""
    lr: fields.LearningRate = 1e-3
    """Peak learning rate of the head, for the global batch as it is (never scaled silently)."""
    weight_decay: fields.NotNegative = 1e-2
    """Weight decay of convolution and linear weights; BatchNorm and biases have none."""
    momentum: fields.BelowOne = 0.9
    """For sgd."""
    backbone_lr_scale: fields.NotNegative = 1.0
    """The backbone's learning rate as a fraction of the head's."""
    layer_decay: Annotated[
        float, Interval(gt=0, le=1), Remedy("give a number above 0, at most 1")
    ] = 1.0
    """Factor of the learning rate from one stage to the one below it, on top of backbone_lr_scale:
    the last stage has lr x backbone_lr_scale x this, the stem the fifth power of it; 1: all alike.
    """
    ema: fields.BelowOne = 0.0
    """Decay of an exponential moving average of the weights over the optimizer steps, which is then
    what is validated and saved as the best model; 0: none. 0.999 averages about 1,000 steps, fewer
    in the first ones."""
    average_last: Annotated[int, Ge(0), Le(fields.MOST)] = 0
    """Average the weights of that many last epochs, all alike, and validate that at the end as one
    more candidate for the best model; 0: no such average."""
    clip_norm: fields.PositiveFloat | None = None
    """Clip the gradient to this norm; none: only measure it."""

    def check(self) -> None:
        """Raise UserError for two averages of the weights, or one of nothing."""
        last, remedy = self.average_last, "an average of one epoch is that epoch: give 2 or more"
        require(last != 1, "optimizer.average-last", last, remedy)
        remedy = "with --optimizer.ema the weights are averaged already: leave one of the two out"
        require(not (self.ema and last), "optimizer.average-last", last, remedy)


@dataclass(frozen=True)
class ScheduleConfig:
    name: Literal["cosine", "step", "constant"] = "cosine"
    """After the warm-up: cosine to 0, step (a tenth at 1/2 and again at 3/4), or constant."""
    warmup_epochs: fields.NotNegative = 0.0
    """Epochs of linear warm-up (fractions allowed), counted in optimizer steps."""


@dataclass(frozen=True)
class LossConfig:
    name: Literal["ce", "bce"] = "ce"
    """ce: each clip has one label (softmax, cross-entropy). bce: it may have several, or none
    (sigmoid, binary cross-entropy averaged over the classes)."""
    label_smoothing: fields.BelowOne = 0.0
    """Label smoothing of the cross-entropy, in [0, 1): towards all classes alike, with bce towards
    1/2."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: a class weighs inversely to its number of training videos; with bce where it is
    there as much as where it is not (torch's pos_weight)."""
    logit_adjustment: Annotated[float, Interval(ge=0, le=10)] = 0.0
    """In training, add that many times the logarithm of each class's share of the clips to its
    logit (Menon et al. 2021), so that rare classes are not passed over; 1 aims at the mean recall
    over the classes, 0 is off."""

    def check(self) -> None:
        """Raise UserError for two corrections of the classes' sizes, or one for several labels."""
        if self.logit_adjustment:
            value = f"{self.logit_adjustment:g}"
            remedy = "--loss.class-weights balanced corrects the classes' sizes, too: leave one of "
            remedy += "the two out"
            require(self.class_weights == "none", "loss.logit-adjustment", value, remedy)
            remedy = "it is for one label a clip, and --loss.name bce for several: take "
            remedy += "--loss.class-weights balanced"
            require(self.name == "ce", "loss.logit-adjustment", value, remedy)


@dataclass(frozen=True)
class EvaluationConfig:
    temporal_views: Annotated[int, Gt(0), Le(fields.MOST_VIEWS)] = 1
    """Clips a video, spread evenly over it; their probabilities are averaged."""
    spatial_crops: fields.SpatialCrops = 1
    """Crops a clip: 1 (centre) or 3 (along the longer side)."""
    flip: bool = False
    """Score each view mirrored, too, and average; for a training with --data.flip."""
    every: fields.Positive = 1
    """Epochs from one validation to the next; the last epoch always has one."""
    precise_norm: Annotated[int | Literal["auto"], Ge(0), Le(fields.MOST)] = "auto"
    """Training clips over which the statistics of BatchNorms that train are measured before each
    validation, for the weights that are validated and saved; 0: they stay those that were collected
    during training. auto: 128 for the average of --optimizer.average-last, else 0."""
    unknown_recall: fields.Recall | None = None
    """Keep with the best model the confidence below which predict says unknown, chosen so that at
    least this share of the validation videos that it gets wrong lies below; none: predict always
    names a class."""


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
    """auto: as WANDB_DISABLED or WANDB_MODE say, else online where there is a key and a network,
    offline where not."""
    project: str | None = None
    """Project on wandb; none: WANDB_PROJECT, or slowfast_dist."""
    name: str | None = None
    """Name of the run; none: WANDB_NAME, or the name of output_dir."""
    tags: tuple[str, ...] = ()
    """Tags of the run."""
    metadata: bool = False
    """Upload host name, command line, paths, git remote and the list of packages, too."""
    log_model: bool = False
    """Upload the folder models/ as an artifact: weights, best_model.json, model card, exports."""
    hardest: Annotated[int, Interval(ge=0, le=100)] = 0
    """Upload excerpts of that many validation videos, those that the best model got most wrong, and
    at its end of as many whose label is probably wrong. The first take at most a fiftieth of the
    run's time, and once more at its end."""


@dataclass(frozen=True)
class Config:
    """Fine-tune SlowFast on a folder of class folders of videos."""

    output_dir: Path = Path("runs/finetune-{timestamp}")
    """The run's folder; {timestamp} becomes the time of the start."""
    resume: str = "never"
    """never; auto (the newest valid checkpoint of output_dir); or the path of a checkpoint."""
    resume_changed: bool = False
    """Resume although settings that alter the result differ from the checkpoint's."""
    folds: Annotated[
        int | Literal["group", "column"], Interval(ge=2, le=fields.MOST_FOLDS)
    ] | None = None
    """Cross-validate: deal --data.root out to that many parts, whole groups, and train once for
    each part without it; its videos are then predicted. group: each group is a part. column: the
    list's column fold says the parts; where it has one, a number is that of its parts.
    The model of the last epoch predicts, as choosing an epoch by the part would flatter it."""
    fold: Annotated[int | Literal["final"], Gt(0), Le(fields.MOST)] | None = None
    """Of --folds, train for this part alone, counted from 1: one job of an array. Whichever is done
    last writes the result of all. final: on all parts, to score the rows of split test."""
    seeds: Annotated[int, Interval(ge=1, le=100)] = 1
    """Cross-validate with that many seeds, --seed and those that follow, on the same parts."""
    learning_curve: bool = False
    """Cross-validate also with a quarter and with half of the training groups."""
    epochs: fields.Count = 30
    """Passes over the training videos."""
    global_batch_size: fields.Count = 16
    """Videos per optimizer step, over all processes and accumulation steps."""
    micro_batch_size: Annotated[int | Literal["auto"], Gt(0), Le(fields.MOST)] = 4
    """Videos that one process forwards at once, a divisor of global_batch_size: sets the memory.
    auto: the largest that fits, found before training.
    Beyond rounding and dropout's draws it changes the result with model.norm local, augment.mixup
    and augment.cutmix only."""
    patience: fields.Count | None = None
    """End after that many epochs without a better --checkpoint.monitor; none: never before epochs.
    The learning rate is that of a training of all epochs."""
    hours: fields.PositiveFloat | None = None
    """End, well, after the last epoch that is expected to fit into so many hours since the start,
    also of a run that was resumed; the first epoch is always done."""
    seed: Annotated[int, Ge(0), Le(fields.MOST_SEED)] = 0
    """Of the split, the new head, the order, the augmentation and dropout."""
    log_every: fields.Positive = 10
    """Optimizer steps from one step line of metrics.jsonl to the next."""
    log_samples: bool = False
    """Write logs/samples.csv: which sample and which video each optimizer step used."""
    mixed_precision: fields.LaunchPrecision = "auto"
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

    def check(self) -> None:
        """Raise UserError where settings of several groups do not go together."""
        if self.patience is not None:
            every = self.evaluation.every
            remedy = f"it counts epochs, and validates every {every} (--evaluation.every): give a "
            require(
                self.patience % every == 0, "patience", self.patience, f"{remedy}multiple of that"
            )
        if self.loss.name == "bce":
            remedy = "it is for one label a clip, and --loss.name bce for several; leave one out"
            require(not self.model.probe, "model.probe", "true", remedy)
            background, recall = self.data.background, self.evaluation.unknown_recall
            require(background is None, "data.background", background, remedy)
            require(recall is None, "evaluation.unknown-recall", recall, remedy)
        self._check_class_sizes()
        if self.data.ways:
            self._check_ways()
        if self.folds is None:
            for name, given in (("fold", self.fold is not None), ("seeds", self.seeds > 1),
                                ("learning-curve", self.learning_curve)):  # fmt: skip
                value = getattr(self, name.replace("-", "_"))
                require(not given, name, value, "it counts with --folds; add --folds 5, say")
        elif self.loss.name == "bce":
            raise UserError(
                f"--folds {self.folds} --loss.name bce: a cross-validation scores one label a "
                "clip; leave one of the two out"
            )
        elif self.patience is not None:
            raise UserError(
                f"--patience {self.patience}: chooses an epoch by the videos that --folds then "
                "scores, which flatters the score; leave it out, and give fewer --epochs"
            )
        elif self.data.root is None:
            raise UserError(
                f"--folds {self.folds}: needs one --data.root, in place of --data.train-dir and "
                "--data.val-dir"
            )
        total, micro = self.global_batch_size, self.micro_batch_size
        if micro != "auto" and total % micro:
            below = total // micro * micro
            nearest = f"{below} or {below + micro}" if below else f"{micro}"
            raise UserError(
                f"--global-batch-size {total} is no multiple of --micro-batch-size {micro}: "
                f"the nearest that are: {nearest}"
            )
        self.check_mixing()
        self._check_monitor()
        last, remedy = self.optimizer.average_last, f"give at most --epochs {self.epochs}"
        require(last <= self.epochs, "optimizer.average-last", last, remedy)
        warmup, remedy = self.schedule.warmup_epochs, f"give at most --epochs {self.epochs}"
        require(warmup <= self.epochs, "schedule.warmup-epochs", warmup, remedy)
        clips, crops = self.evaluation.temporal_views, self.evaluation.spatial_crops
        remedy = "with --data.sampling uniform every clip is the whole video: give 1, or sample "
        differ = clips == 1 or self.data.sampling != "uniform"
        require(differ, "evaluation.temporal-views", clips, f"{remedy}dense")
        require(self.data.flip or not self.evaluation.flip, "evaluation.flip", True,
                "the training mirrors no clips (--data.flip false): leave it out")  # fmt: skip
        resize = self.data.resize
        remedy = f"with --data.resize {resize} every crop is the whole frame: give 1, or resize "
        differ = crops == 1 or resize == "short-side"
        require(differ, "evaluation.spatial-crops", crops, f"{remedy}short-side")

    def check_mixing(self) -> None:
        """Raise UserError for clips that are mixed with others of a micro-batch of one. For a size
        ``auto`` that is known once it was chosen."""
        if self.augment.mixes and self.micro_batch_size == 1:
            raise UserError(
                "--micro-batch-size 1: --augment.mixup and --augment.cutmix mix clips of one "
                "micro-batch: give 2 or more, or leave them out"
            )

    def _check_class_sizes(self) -> None:
        """The classes' sizes are corrected once."""
        sampling, loss = self.data.class_sampling, self.loss
        if sampling == "natural":
            return
        remedy = "a clip of --loss.name bce may be of several classes: take --loss.class-weights "
        remedy += "balanced"
        require(loss.name == "ce", "data.class-sampling", sampling, remedy)
        remedy = "--loss.class-weights balanced corrects the classes' sizes, too: leave one of the "
        remedy += "two out"
        require(loss.class_weights == "none", "data.class-sampling", sampling, remedy)
        if sampling == "balanced":
            remedy = "it makes all classes alike, so --loss.logit-adjustment has nothing to adjust "
            remedy += "and --data.background-share nothing to say: leave one of the two out"
            apart = not loss.logit_adjustment and self.data.background_share is None
            require(apart, "data.class-sampling", sampling, remedy)

    def _check_ways(self) -> None:
        """A pretraining has no classes but the ways, whose speeds are some of them."""
        data, usual = self.data, DataConfig()
        remedy = "it has no use where ways are learned in place of classes (--data.ways): leave it "
        remedy += "out"
        require(self.folds is None, "folds", self.folds, remedy)
        require(self.loss.name == "ce", "loss.name", self.loss.name, remedy)
        require(not self.model.probe, "model.probe", "true", remedy)
        for name in ("train_dir", "background", "flip_pairs", "class_sampling", "train_fraction"):
            value = getattr(data, name)
            require(value == getattr(usual, name), f"data.{name.replace('_', '-')}", value, remedy)
        remedy = "speeds are among what is learned (--data.ways): leave it out"
        speed = self.augment.speed
        shown = " ".join(f"{number:g}" for number in speed or ())
        require(speed is None, "augment.speed", shown, remedy)

    def _check_monitor(self) -> None:
        monitor, several = self.checkpoint.monitor, self.loss.name == "bce"
        name = monitor.partition("/")[2]
        unknown = fields.OF_ONE_LABEL if several else fields.OF_SEVERAL_LABELS
        other = "val/map_macro, or another metric of several labels" if several else "val/accuracy"
        remedy = f"there is none with --loss.name {self.loss.name}; give {other}"
        require(name not in unknown, "checkpoint.monitor", monitor, remedy)


def config_dict(config: Config) -> dict[str, Any]:
    """The settings as plain nested dicts of YAML and JSON types; paths become strings."""
    return json.loads(json.dumps(asdict(config), default=str))
