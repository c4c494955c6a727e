"""Parameter groups, optimizers and learning rate schedules, counted in optimizer steps."""

from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from slowfast_dist.config.training import OptimizerConfig, ScheduleConfig
from slowfast_dist.model.slowfast import STAGES, head_parameters, stage_parameters


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """At most four groups: backbone and head, each with weight decay and without; with a
    layer_decay below 1 each stage of the backbone has two of its own.

    Without weight decay are BatchNorm's scale and shift and all biases, the parameters of one
    dimension, as in PySlowFast's recipe. Frozen parameters are in no group; a group without
    parameters is left out. Every group has its "name".
    """
    parts = _parts(model, config)
    groups: dict[tuple[str, bool], dict[str, Any]] = {
        (part, decays): {
            "name": f"{part}/{'decay' if decays else 'no_decay'}",
            "params": [],
            "lr": rate,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for part, (rate, _) in parts.items()
        for decays in (True, False)
    }
    part_of = {id(p): part for part, (_, members) in parts.items() for p in members}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups[part_of[id(parameter)], parameter.ndim > 1]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def _parts(
    model: nn.Module, config: OptimizerConfig
) -> dict[str, tuple[float, list[nn.Parameter]]]:
    """Parts of the network with one learning rate each, which is beside its parameters.

    With layer_decay d the last stage has the backbone's rate times d, the one before times d^2, and
    so on, as BEiT (Bao et al. 2021) and MAE count from the head down.
    """
    rate, head = config.lr * config.backbone_lr_scale, head_parameters(model)
    if config.layer_decay == 1:
        of_head = {id(parameter) for parameter in head}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in of_head]
        return {"backbone": (rate, rest), "head": (config.lr, head)}
    stages = {
        f"stage{stage + 1}": (rate * config.layer_decay ** (STAGES - stage), list(members))
        for stage, members in enumerate(stage_parameters(model))
    }
    return {**stages, "head": (config.lr, head)}


def make_optimizer(
    groups: list[dict[str, Any]], config: OptimizerConfig, fused: bool | None = None
) -> Optimizer:
    """The optimizer that ``config.name`` names, over groups with their "lr" and "weight_decay". One
    more is a case here and a name in OptimizerConfig; nothing else knows the names."""
    match config.name:
        case "adam":
            return Adam(groups, fused=fused)
        case "adamw":
            return AdamW(groups, fused=fused)
        case "sgd":
            nesterov = config.momentum > 0  # torch refuses Nesterov without momentum
            return SGD(groups, momentum=config.momentum, nesterov=nesterov, fused=fused)


def build_optimizer(model: nn.Module, config: OptimizerConfig, fused: bool = True) -> Optimizer:
    """The optimizer of ``config`` over `parameter_groups`.

    ``fused`` updates all parameters in one kernel, on CUDA and on CPUs (2 cores, slowfast_r50:
    Adam 150 ms a step, 224 without; SGD 61, 119). Switch it off for fp16 with a gradient scaler:
    a fused step decides by itself whether to skip, so Accelerate's step_was_skipped stays False.
    """
    return make_optimizer(parameter_groups(model, config), config, fused or None)


def values_per_parameter(config: OptimizerConfig) -> int:
    """How many numbers a training keeps for each number of a parameter beside its gradient: the
    optimizer of ``config``, and averages of the weights."""
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.zeros(2)
    optimizer = make_optimizer([{"params": [parameter]}], config)
    optimizer.step()
    kept = optimizer.state[parameter].values()
    averages = (config.ema > 0) + (config.average_last > 0)
    return averages + sum(
        isinstance(value, Tensor) and value.shape == parameter.shape for value in kept
    )


def learning_rates(optimizer: Any) -> dict[str, float]:
    """Those of the next update: "lr", the head's, and "lr_backbone" if the backbone trains: with
    layer_decay that of its last stage."""
    groups = optimizer.param_groups  # the first stage first
    return {
        "lr" if group["name"].startswith("head/") else "lr_backbone": group["lr"]
        for group in groups
    }


def average_and_clip(gradients: list[Tensor], weight: Tensor, clip_norm: float | None) -> Tensor:
    """Divide ``gradients`` by ``weight`` (), then clip their norm; returns the norm before that.

    To a rounding torch's clip_grad_norm_ after a division, in two passes over the gradients in
    place of three. None of it waits for a GPU.
    """
    weight = weight.clamp(min=1e-12)
    norm = get_total_norm(gradients) / weight
    factor = (clip_norm or float("inf")) / (norm + 1e-6)
    torch._foreach_mul_(gradients, factor.clamp(max=1.0) / weight)
    return norm


def build_schedule(
    optimizer: Optimizer, config: ScheduleConfig, steps_per_epoch: int, epochs: int
) -> LambdaLR:
    """Linear warm-up to each group's rate, then cosine, step or constant; step it once a step."""
    total = steps_per_epoch * epochs
    warmup = round(config.warmup_epochs * steps_per_epoch)
    return LambdaLR(optimizer, lambda step: rate_factor(config.name, step, warmup, total))


def rate_factor(name: str, step: int, warmup: int, total: int) -> float:
    """What optimizer step ``step`` (from 0) of ``total`` multiplies the peak rate with.

    Warm-up: 1/(warmup + 1), 2/(warmup + 1), ... so that step ``warmup`` is the first at the peak.
    cosine would be 0 at step ``total``, one after the last. step: a tenth from half of ``total``
    on, a hundredth from three quarters on.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if name == "cosine":
        return 0.5 * (1 + cos(pi * min(1.0, (step - warmup) / max(1, total - warmup))))
    if name == "step":
        return 0.1 ** ((2 * step >= total) + (4 * step >= 3 * total))
    return 1.0
