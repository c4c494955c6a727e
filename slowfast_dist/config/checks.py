"""Which settings cannot work together: each said in one line, with flag, value and remedy."""

import re
from math import isfinite

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import METRICS, RESNET_ALPHA, Config


def validate(config: Config) -> None:
    """Raise UserError, naming flag, value and remedy, for settings that cannot work together."""
    checks = (
        _check_numbers, _check_data, _check_model, _check_batches, _check_views, _check_best,
    )  # fmt: skip
    for check in checks:
        check(config)


MOST = {
    "seed": 2**32 - 1, "epochs": 10**6, "global-batch-size": 10**6, "micro-batch-size": 10**6,
    "data.num-frames": 4096, "data.sampling-rate": 10**6, "data.crop-size": 4096,
    "data.num-workers": 512, "evaluation.temporal-views": 1000,
}  # fmt: skip
"""Beyond these lies a slip of the keyboard: numbers overflow, or the machine is brought down."""


def _value(config: Config, flag: str) -> object:
    value: object = config
    for name in flag.replace("-", "_").split("."):
        value = getattr(value, name)
    return value


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 20 else f"{text[:20]}..."


def require(condition: bool, flag: str, value: object, remedy: str) -> None:
    """Raise UserError, naming flag, value and remedy, unless ``condition``."""
    if not condition:
        raise UserError(f"--{flag} {value}: {remedy}")


def _check_numbers(config: Config) -> None:
    positive: dict[str, float] = {
        "epochs": config.epochs,
        "global-batch-size": config.global_batch_size,
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
    if config.micro_batch_size != "auto":
        positive["micro-batch-size"] = config.micro_batch_size
    if config.checkpoint.every_steps is not None:
        positive["checkpoint.every-steps"] = config.checkpoint.every_steps
    if config.optimizer.clip_norm is not None:
        positive["optimizer.clip-norm"] = config.optimizer.clip_norm
    for flag, value in positive.items():
        require(value > 0 and isfinite(value), flag, value, "give a number above 0")
    for flag, most in MOST.items():
        given = _value(config, flag)
        small = not isinstance(given, int) or given <= most
        require(small, flag, _short(given), f"give at most {most}")
    not_negative: dict[str, float] = {
        "seed": config.seed,
        "optimizer.weight-decay": config.optimizer.weight_decay,
        "optimizer.backbone-lr-scale": config.optimizer.backbone_lr_scale,
        "schedule.warmup-epochs": config.schedule.warmup_epochs,
    }
    if config.data.num_workers != "auto":
        not_negative["data.num-workers"] = config.data.num_workers
    for flag, value in not_negative.items():
        require(value >= 0 and isfinite(value), flag, value, "give 0 or a number above it")
    fractions = {
        "model.dropout": config.model.dropout,
        "loss.label-smoothing": config.loss.label_smoothing,
        "optimizer.momentum": config.optimizer.momentum,
    }
    for flag, value in fractions.items():
        require(0 <= value < 1, flag, value, "give a number from 0 up to, not including, 1")
    bad = config.data.max_bad_fraction
    require(0 <= bad <= 1, "data.max-bad-fraction", bad, "give a number from 0 to 1")
    hardest = config.wandb.hardest
    require(0 <= hardest <= 100, "wandb.hardest", hardest, "give a number from 0 to 100")
    val = config.data.val_fraction
    require(0 < val < 1, "data.val-fraction", val, "give a number between 0 and 1, as 0.2")
    crops = config.evaluation.spatial_crops
    require(crops in (1, 3), "evaluation.spatial-crops", crops, "give 1 or 3")
    if isinstance(config.model.freeze, int):
        require(
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
        except (re.error, OverflowError, RecursionError) as error:
            raise UserError(
                f"--data.group-pattern {data.group_pattern}: no regular expression ({error}): "
                "give one, as 'seq\\d+'"
            ) from None
    require(
        data.num_frames % RESNET_ALPHA == 0,
        "data.num-frames",
        data.num_frames,
        f"give a multiple of {RESNET_ALPHA}, as the slow pathway takes every fourth frame",
    )
    low, high = data.short_side
    require(0 < low <= high, "data.short-side", f"{low} {high}", "give two sizes, smaller first")
    require(high <= 8192, "data.short-side", f"{low} {high}", "give at most 8192")
    if data.resize == "short-side":
        require(
            data.crop_size <= low,
            "data.crop-size",
            data.crop_size,
            f"give at most the short side, --data.short-side {low} {high}",
        )


def _check_model(config: Config) -> None:
    if config.model.compile and config.model.checkpoint_activations:
        raise UserError(
            "--model.checkpoint-activations true: with --model.compile the compiler decides what "
            "is computed again: leave one of the two off"
        )


def _check_batches(config: Config) -> None:
    total, micro = config.global_batch_size, config.micro_batch_size
    if micro != "auto" and total % micro:
        below = total // micro * micro
        nearest = f"{below} or {below + micro}" if below else f"{micro}"
        raise UserError(
            f"--global-batch-size {total} is no multiple of --micro-batch-size {micro}: "
            f"the nearest that are: {nearest}"
        )
    warmup = config.schedule.warmup_epochs
    require(
        warmup <= config.epochs,
        "schedule.warmup-epochs",
        warmup,
        f"give at most --epochs {config.epochs}",
    )


def _check_views(config: Config) -> None:
    clips, crops = config.evaluation.temporal_views, config.evaluation.spatial_crops
    if config.data.sampling == "uniform":
        require(
            clips == 1,
            "evaluation.temporal-views",
            clips,
            "with --data.sampling uniform every clip is the whole video: give 1, or sample dense",
        )
    if config.data.resize == "square":
        require(
            crops == 1,
            "evaluation.spatial-crops",
            crops,
            "with --data.resize square every crop is the whole frame: give 1, or resize short-side",
        )


def _check_best(config: Config) -> None:
    monitor, mode = config.checkpoint.monitor, config.checkpoint.mode
    side, _, name = monitor.partition("/")
    require(
        side in ("train", "val") and name in METRICS,
        "checkpoint.monitor",
        monitor,
        f"give train/ or val/ and one of {', '.join(METRICS)}",
    )
    right = "min" if name == "loss" else "max"
    require(
        mode == right,
        "checkpoint.mode",
        mode,
        f"with --checkpoint.monitor {monitor} this keeps the worst: use {right}",
    )
