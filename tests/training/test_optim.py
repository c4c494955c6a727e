"""Optimizers against torch's own with hand-made groups, and schedules against closed forms."""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR

from slowfast_dist.config.training import OptimizerConfig, ScheduleConfig
from slowfast_dist.model.slowfast import SlowFast, freeze
from slowfast_dist.training.optim import (
    average_and_clip,
    build_optimizer,
    build_schedule,
    learning_rates,
    parameter_groups,
)


def tiny() -> SlowFast:
    torch.manual_seed(0)
    return SlowFast("slowfast_tiny", 4, 0.0)


def fake_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def names_of(model: nn.Module, group: dict[str, Any]) -> set[str]:
    members = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in members}


def test_groups_split_head_from_backbone_and_decay_from_none() -> None:
    model = tiny()
    config = OptimizerConfig(lr=0.1, weight_decay=0.01, backbone_lr_scale=0.5)
    groups = {group["name"]: group for group in parameter_groups(model, config)}
    assert {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()} == {
        "backbone/decay": (0.05, 0.01),
        "backbone/no_decay": (0.05, 0.0),
        "head/decay": (0.1, 0.01),
        "head/no_decay": (0.1, 0.0),
    }
    assert names_of(model, groups["head/decay"]) == {"blocks.6.proj.weight"}
    assert names_of(model, groups["head/no_decay"]) == {"blocks.6.proj.bias"}
    convolutions = {
        f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Conv3d)
    }
    assert names_of(model, groups["backbone/decay"]) == convolutions
    every = [parameter for group in groups.values() for parameter in group["params"]]
    assert len(every) == len(list(model.parameters())) == len({id(p) for p in every})


def test_layer_decay_lowers_the_rate_stage_by_stage_from_the_head_down() -> None:
    model = tiny()
    config = OptimizerConfig(lr=0.1, weight_decay=0.01, backbone_lr_scale=0.5, layer_decay=0.8)
    groups = {group["name"]: group for group in parameter_groups(model, config)}
    assert len(groups) == 12
    for stage in range(1, 6):
        for kind, decay in (("decay", 0.01), ("no_decay", 0.0)):
            group = groups[f"stage{stage}/{kind}"]
            assert group["lr"] == pytest.approx(0.1 * 0.5 * 0.8 ** (6 - stage), rel=1e-12)
            assert group["weight_decay"] == decay
            assert all(
                name.startswith(f"blocks.{stage - 1}.") for name in names_of(model, group)
            )
    assert groups["head/decay"]["lr"] == 0.1
    members = [p for group in groups.values() for p in group["params"]]
    assert len(members) == len({id(p) for p in members}) == len(list(model.parameters()))
    rates = learning_rates(build_optimizer(model, config))
    assert rates == {"lr": 0.1, "lr_backbone": pytest.approx(0.04)}
    freeze(model, 3)
    names = [group["name"] for group in parameter_groups(model, config)]
    assert names == [f"{part}/{kind}" for part in ("stage4", "stage5", "head")
                     for kind in ("decay", "no_decay")]  # fmt: skip


def test_frozen_parameters_are_in_no_group() -> None:
    model = tiny()
    freeze(model, "backbone")
    groups = parameter_groups(model, OptimizerConfig())
    assert [group["name"] for group in groups] == ["head/decay", "head/no_decay"]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("name", "momentum"), [("adam", 0.9), ("adamw", 0.9), ("sgd", 0.9), ("sgd", 0.0)]
)
def test_steps_equal_torchs_own_optimizer(
    name: Literal["adam", "adamw", "sgd"], momentum: float, fused: bool
) -> None:
    ours, theirs = tiny(), tiny()
    config = OptimizerConfig(name, lr=0.01, weight_decay=0.1, momentum=momentum)
    optimizer = build_optimizer(ours, config, fused=fused)
    no_decay = [p for n, p in theirs.named_parameters() if "norm" in n or n.endswith("bias")]
    known = {id(p) for p in no_decay}
    decay = [p for p in theirs.parameters() if id(p) not in known]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0}]
    reference: Optimizer
    if name == "sgd":
        reference = SGD(groups, lr=0.01, momentum=momentum, nesterov=momentum > 0)
    else:
        reference = (Adam if name == "adam" else AdamW)(groups, lr=0.01)
    for step in range(3):
        for model, stepper in ((ours, optimizer), (theirs, reference)):
            fake_gradients(model, step)
            stepper.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-5, atol=1e-6)


def head_rates(config: ScheduleConfig, steps_per_epoch: int, epochs: int) -> list[float]:
    """The learning rate that each optimizer step uses, for a peak of 1."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = build_schedule(optimizer, config, steps_per_epoch, epochs)
    rates = []
    for _ in range(steps_per_epoch * epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def reference_rates(schedule: Any, optimizer: Optimizer, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_schedules_equal_torchs_own_without_warm_up() -> None:
    parameter: Tensor = torch.zeros(1, requires_grad=True)
    optimizer = SGD([parameter], lr=1.0)
    cosine = reference_rates(CosineAnnealingLR(optimizer, T_max=20), optimizer, 20)
    assert head_rates(ScheduleConfig("cosine"), 4, 5) == pytest.approx(cosine)
    optimizer = SGD([parameter], lr=1.0)
    step = reference_rates(MultiStepLR(optimizer, milestones=[10, 15]), optimizer, 20)
    assert head_rates(ScheduleConfig("step"), 4, 5) == pytest.approx(step)
    assert head_rates(ScheduleConfig("constant"), 4, 5) == [1.0] * 20


def test_warm_up_rises_evenly_to_the_peak_and_the_rest_follows_from_there() -> None:
    rates = head_rates(ScheduleConfig("cosine", warmup_epochs=0.75), 4, 5)
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rest = reference_rates(CosineAnnealingLR(optimizer, T_max=17), optimizer, 17)
    assert rates[3:] == pytest.approx(rest)
    assert head_rates(ScheduleConfig("constant", 0.5), 4, 2)[:3] == pytest.approx([1 / 3, 2 / 3, 1])


def test_every_group_keeps_its_share_of_the_rate() -> None:
    model = tiny()
    optimizer = build_optimizer(model, OptimizerConfig(lr=0.2, backbone_lr_scale=0.1))
    build_schedule(optimizer, ScheduleConfig(warmup_epochs=1), 3, 2)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates["head/decay"] == pytest.approx(0.2 / 4)
    assert rates["backbone/decay"] == pytest.approx(0.02 / 4)


@pytest.mark.parametrize("clip_norm", [None, 0.5, 50.0])
def test_dividing_and_clipping_at_once_is_torchs_clipping_after_a_division(
    clip_norm: float | None,
) -> None:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (7,), (2, 2, 2))]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape) * 5
    gradients = [p.grad.clone() for p in parameters if p.grad is not None]
    weight = torch.tensor(6.0)
    norm = average_and_clip(gradients, weight, clip_norm)
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad /= weight
    expected = nn.utils.clip_grad_norm_(parameters, clip_norm or float("inf"))
    torch.testing.assert_close(norm, expected)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(gradient, parameter.grad)
