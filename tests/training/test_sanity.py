"""The check before training finds a gradient that does not arrive, and leaves no trace."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from slowfast_dist.config.errors import UserError
from slowfast_dist.model.slowfast import SlowFast, freeze, set_norm
from slowfast_dist.training.sanity import check_gradients

LABELS = torch.tensor([0, 3, 1])


def tiny() -> SlowFast:
    torch.manual_seed(0)
    return SlowFast("slowfast_tiny", 4, dropout=0.5)


def random_frames() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 8, 3, 32, 32), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("training", [True, False])
def test_it_changes_nothing(training: bool) -> None:
    model = tiny().train(training)
    model.head.proj.weight.grad = torch.ones_like(model.head.proj.weight)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    check_gradients(model, random_frames(), LABELS, nullcontext)
    after = model.state_dict()
    assert list(after) == list(weights)
    assert all(torch.equal(value, weights[key]) for key, value in after.items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    grads = {name for name, p in model.named_parameters() if p.grad is not None}
    assert grads == {"blocks.6.proj.weight"}
    assert torch.equal(model.head.proj.weight.grad, torch.ones_like(model.head.proj.weight))


def test_it_finds_what_a_training_step_would_find() -> None:
    model = tiny().train()
    random = torch.get_rng_state()
    found, head_norm = check_gradients(model, random_frames(), LABELS, nullcontext)
    torch.set_rng_state(random)
    loss = nn.functional.cross_entropy(model(random_frames()), LABELS)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.head.parameters(), float("inf"))
    assert found == pytest.approx(loss.item())
    assert head_norm == pytest.approx(norm.item())


def test_frozen_parts_are_no_fault() -> None:
    model = tiny()
    set_norm(model, "frozen")
    freeze(model, "backbone")
    assert check_gradients(model.train(), random_frames(), LABELS, nullcontext)[1] > 0


def test_a_weight_that_is_not_finite_stops_the_run() -> None:
    model = tiny().train()
    with torch.no_grad():
        model.blocks[1].multipathway_blocks[0].res_blocks[0].branch1_conv.weight[0, 0] = torch.nan
    with pytest.raises(UserError, match=r"check: blocks\.1\..*branch1_conv\.weight \(1 of its "):
        check_gradients(model, random_frames(), LABELS, nullcontext)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("bad", [float("nan"), 1e30])
def test_what_fused_kernels_hide_in_a_frozen_backbone_stops_the_run(bad: float) -> None:
    """No gradient tells of it, and the loss is a number."""
    model = tiny().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    inner = model.blocks[1].multipathway_blocks[0].res_blocks[0].branch2
    with torch.no_grad():
        inner.conv_a.weight[0, 0] = bad
        inner.conv_b.weight[:, 0] = bad
        inner.conv_b.weight[::2, 0] = -bad
    set_norm(model, "frozen")
    freeze(model, "backbone")
    with pytest.raises(UserError, match="sanity check: .* not finite"):
        check_gradients(model.train(), random_frames(), LABELS, nullcontext)


def test_a_head_without_gradient_is_named() -> None:
    model = tiny().train()
    model.head.proj.register_forward_hook(lambda module, inputs, output: output * 0)
    with pytest.raises(UserError, match=r"proj\.weight is zero and blocks\.6\.proj\.bias is zero"):
        check_gradients(model, random_frames(), LABELS, nullcontext)


def test_synchronised_norm_needs_no_other_process() -> None:
    """Only the main process checks: a collective would hang, and on a CPU it would raise."""
    model = tiny()
    set_norm(model, "sync")
    local = check_gradients(tiny().train(), random_frames(), LABELS, nullcontext)
    assert check_gradients(model.train(), random_frames(), LABELS, nullcontext) == local
