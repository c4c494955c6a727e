"""MMAction2's Python configuration -> flags: each row of docs/migrating.md, From MMAction2."""

from typing import Any

from slowfast_dist.commands.adopt.flags import Flags, as_number
from slowfast_dist.model.foreign.source_facts import SourceFacts, mmaction_steps

ELSEWHERE = (
    "model", "train_pipeline", "val_pipeline", "test_pipeline", "train_dataloader",
    "val_dataloader", "test_dataloader", "dataset_type", "file_client_args", "val_cfg", "test_cfg",
    "val_evaluator", "test_evaluator", "default_scope", "env_cfg", "vis_backends", "visualizer",
    "log_processor", "log_level", "default_hooks.logger", "default_hooks.timer",
    "default_hooks.param_scheduler", "default_hooks.runtime_info", "default_hooks.sampler_seed",
    "default_hooks.sync_buffers", "launcher", "train_cfg", "optim_wrapper", "param_scheduler",
    "data_root", "data_root_val", "ann_file_train", "ann_file_val", "ann_file_test",
)  # fmt: skip
"""Settings that are looked at by name below, or that the launcher and the weights tell here."""

SAME = {
    "model.cls_head.dropout_ratio": "model.dropout",
    "train_dataloader.batch_size": "micro-batch-size",
    "train_dataloader.num_workers": "data.num-workers",
    "train_cfg.max_epochs": "epochs",
    "train_cfg.val_interval": "evaluation.every",
    "optim_wrapper.optimizer.lr": "optimizer.lr",
    "optim_wrapper.optimizer.momentum": "optimizer.momentum",
    "optim_wrapper.optimizer.weight_decay": "optimizer.weight-decay",
    "optim_wrapper.clip_grad.max_norm": "optimizer.clip-norm",
    "default_hooks.checkpoint.interval": "checkpoint.every-epochs",
    "default_hooks.checkpoint.max_keep_ckpts": "checkpoint.keep",
    "randomness.seed": "seed",
}
"""Settings whose values are those of a flag."""


def convert(flags: Flags, facts: SourceFacts) -> None:
    """Fill ``flags``."""
    for key in ELSEWHERE:
        flags.get(key)
    for key, flag in SAME.items():
        flags.copy(key, flag)
    _pipeline(flags, list(mmaction_steps(flags.config, ("train",))))
    _network(flags, facts)
    _optimizer(flags)
    _schedule(flags)
    _lists(flags)
    flags.preset_off()
    if not any(line.startswith("--mixed-precision") for line in flags.lines):
        flags.add("mixed-precision", "no")
    if not any(line.startswith("--optimizer.clip-norm") for line in flags.lines):
        flags.add("optimizer.clip-norm", "none")
    flags.add("model.norm", "local")


def _pipeline(flags: Flags, steps: list[dict[str, Any]]) -> None:
    of = {step["type"]: step for step in steps if isinstance(step.get("type"), str)}
    if sample := of.get("SampleFrames"):
        for theirs, ours in (("clip_len", "num-frames"), ("frame_interval", "sampling-rate")):
            if (value := as_number(sample.get(theirs))) is not None:
                flags.add(f"data.{ours}", value)
        flags.add("data.frame-rate", as_number(sample.get("target_fps")) or "video")
        loops = sample.get("out_of_bound_opt", "loop") == "loop"
        flags.add("data.short-videos", "loop" if loops else "repeat-last")
    sizes = [step.get("scale") for step in steps if step.get("type") == "Resize"]
    sides = [
        scale for scale in sizes
        if isinstance(scale, list | tuple) and [type(side) for side in scale] == [int, int]
    ]  # fmt: skip
    short = next((max(scale) for scale in sides if -1 in scale), None)
    crop = next((scale[0] for scale in sides if scale[0] == scale[1]), None)
    if crop is None:
        found: Any = of.get("RandomCrop", {})
        crop = found.get("size")
    if isinstance(short, int):
        flags.add("data.short-side", short, short)
    if isinstance(crop, int):
        flags.add("data.crop-size", crop)
    if "RandomResizedCrop" in of:
        flags.note("RandomResizedCrop: here a random place at a size of --data.short-side")
    flags.add("data.flip", "true" if "Flip" in of else "false")
    known = {
        "DecordInit", "DecordDecode", "SampleFrames", "Resize", "RandomResizedCrop", "RandomCrop",
        "Flip", "FormatShape", "PackActionInputs", "PyAVInit", "PyAVDecode", "OpenCVInit",
        "OpenCVDecode", "Normalize", "Collect", "ToTensor",
    }  # fmt: skip
    if unknown := [kind for kind in of if kind not in known]:
        flags.note(f"steps that are not converted: {', '.join(unknown)}")


def _network(flags: Flags, facts: SourceFacts) -> None:
    depths = [
        as_number(flags.get(f"model.backbone.{path}_pathway.depth")) or 50
        for path in ("slow", "fast")
    ]
    names = {(50, 4): "slowfast_r50", (50, 8): "slowfast_r50_4x16", (101, 4): "slowfast_r101"}
    name = names.get((int(depths[0]), facts.alpha or 8))
    if depths[0] != depths[1] or name is None:
        flags.note(f"depths {depths} with speed_ratio {facts.alpha}: no such --model.name")
    else:
        flags.add("model.name", name)
    weights = flags.get("load_from")
    if isinstance(weights, str) and weights:
        flags.add("model.weights", weights)
    else:
        flags.add("model.pretrained", "false")
        flags.note(
            "lateral_norm, mean and std: come with weights of MMAction2 (--model.weights); a "
            "training from scratch has PySlowFast's"
        )
    if flags.get("resume") is True:
        flags.note("resume: --resume auto, with the --output-dir to go on with")
    output = flags.get("work_dir")
    if isinstance(output, str) and output:
        flags.add("output-dir", output)


def _optimizer(flags: Flags) -> None:
    kind = flags.get("optim_wrapper.optimizer.type")
    if isinstance(kind, str) and kind.lower() in ("sgd", "adam", "adamw"):
        flags.add("optimizer.name", kind.lower())
        if kind == "SGD" and flags.get("optim_wrapper.optimizer.nesterov") is not True:
            flags.note("SGD: here with Nesterov's momentum")
    if flags.get("optim_wrapper.type") == "AmpOptimWrapper":
        flags.add("mixed-precision", "fp16")
    scale = flags.get("auto_scale_lr")
    base = as_number(scale.get("base_batch_size")) if isinstance(scale, dict) else None
    if isinstance(base, int):
        flags.add("global-batch-size", base)
        if scale.get("enable") is True:
            flags.note("auto_scale_lr: here the rate is never scaled")
    else:
        flags.note("--global-batch-size: batch_size times the number of GPUs")


def _schedule(flags: Flags) -> None:
    steps = flags.get("param_scheduler")
    steps = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    names = {"CosineAnnealingLR": "cosine", "MultiStepLR": "step", "StepLR": "step"}
    for step in steps:
        kind = step.get("type")
        if not isinstance(kind, str):
            continue
        end = as_number(step.get("end"))
        if kind == "LinearLR" and end is not None and step.get("by_epoch", True) is True:
            flags.add("schedule.warmup-epochs", end)
        elif kind in names:
            flags.add("schedule.name", names[kind])
        else:
            flags.note(f"param_scheduler {kind}: not converted")
        if kind == "MultiStepLR":
            flags.note("milestones: here the rate is a tenth from 1/2 of the epochs on, and at 3/4")


def _lists(flags: Flags) -> None:
    for side, flag in (("train", "train-dir"), ("val", "val-dir")):
        dataset = f"{side}_dataloader.dataset"
        listed = flags.get(f"{dataset}.ann_file")
        if isinstance(listed, str) and listed:
            flags.note(f"{side} list {listed}: give --data.{flag} a CSV of path,label")
    steps = list(mmaction_steps(flags.config, ("test",)))
    clips = [step.get("num_clips") for step in steps if step.get("type") == "SampleFrames"]
    crops = 3 if any(step.get("type") == "ThreeCrop" for step in steps) else 1
    if clips and isinstance(clips[0], int):
        flags.note(f"test: evaluate RUN --temporal-views {clips[0]} --spatial-crops {crops}")
