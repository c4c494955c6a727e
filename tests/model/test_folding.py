"""The fast forward pass against the plain one: pytorchvideo's own modules, layer by layer."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast_dist.model.blocks import (
    apart,
    frames_at_once,
    is_stem,
    space_to_depth,
    stem_layer,
)
from slowfast_dist.model.convolution import convolve, fused_dtypes
from slowfast_dist.model.folding import fold, folded
from slowfast_dist.model.inputs import pathways, slow_indices
from slowfast_dist.model.slowfast import SlowFast, freeze, set_norm
from tests.model.test_slowfast import random_frames

BF16 = torch.bfloat16
LABELS = torch.tensor([0, 3])

needs_bf16 = pytest.mark.skipif(
    BF16 not in fused_dtypes(), reason="this CPU's convolutions have no bf16"
)


def in_bf16() -> AbstractContextManager[object]:
    return torch.autocast("cpu", BF16)


def network(norm: str = "frozen", size: int = 4) -> SlowFast:
    """One whose BatchNorms do something: their scales, shifts and statistics are not 1 and 0."""
    torch.manual_seed(0)
    model = SlowFast("slowfast_tiny", size, 0.0)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    set_norm(model, norm)  # type: ignore[arg-type]
    return model.train()


def plain_forward(model: SlowFast, frames: Tensor) -> Tensor:
    """What create_slowfast's network computes of frames normalised in float."""
    clip = ((frames.float() / 255 - 0.45) / 0.225).permute(0, 2, 1, 3, 4)
    x: Any = [clip[:, :, slow_indices(frames.shape[1], model.description)], clip]
    for block in model.blocks:
        x = block(x)
    return x


def step(
    model: SlowFast,
    forward: Callable[[Tensor], Tensor],
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    frames: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of a micro-batch."""
    model.zero_grad()
    with autocast():
        logits = forward(random_frames() if frames is None else frames).float()
    loss = F.cross_entropy(logits, LABELS)
    loss.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return loss.detach(), grads


def distance(grads: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    """Root mean square over all tensors of each one's relative error."""
    assert grads.keys() == truth.keys()
    errors = [((grads[n] - t).norm() / t.norm().clamp(min=1e-12)) ** 2 for n, t in truth.items()]
    return float(torch.stack(errors).mean().sqrt())


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("norm", ["frozen", "local"])
@pytest.mark.parametrize("size", [32, 33])
def test_loss_gradients_and_statistics_are_the_plain_steps(
    norm: str, channels_last: bool, size: int
) -> None:
    plain = network(norm)
    ours = copy.deepcopy(plain)
    if channels_last:
        ours.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    frames = random_frames(height=size, width=size + 1)
    expected, truth = step(plain, lambda x: plain_forward(plain, x), frames=frames)
    loss, grads = step(ours, ours, frames=frames)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for name, grad in truth.items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-3, atol=1e-4 * float(grad.norm()))
    buffers = dict(ours.named_buffers())
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(buffers[name], buffer, rtol=1e-5, atol=1e-6)


@needs_bf16
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_in_bf16_clips_shorter_than_the_kernel_get_right_gradients(
    layout: torch.memory_format, frames: int
) -> None:
    """Freed memory is full of NaN here, and oneDNN's own padding lets that into the gradients."""
    torch.manual_seed(0)
    x = torch.randn(2, 64, frames, 4, 4).bfloat16().contiguous(memory_format=layout)
    weight = (0.05 * torch.randn(64, 64, 3, 1, 1)).bfloat16()
    direction = torch.randn(2, 64, frames, 4, 4).bfloat16()

    def gradients(forward: Callable[..., Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
        inputs = [tensor.to(dtype).requires_grad_() for tensor in (x, weight)]
        y = forward(*inputs, None, (1, 1, 1), (1, 0, 0))
        sizes = [4096 << power for power in range(9)]
        garbage = [torch.full((size,), float("nan")).to(dtype) for size in sizes]
        del garbage
        return torch.autograd.grad(y, inputs, direction.to(dtype))

    expected = gradients(F.conv3d, torch.float32)
    for _ in range(5):
        for ours, exact in zip(gradients(convolve, torch.bfloat16), expected, strict=True):
            atol = 0.02 * float(exact.std())
            torch.testing.assert_close(ours.float(), exact, rtol=0.02, atol=atol)


@needs_bf16
@pytest.mark.parametrize("norm", ["frozen", "local"])
def test_in_bf16_it_is_no_further_from_the_truth_than_the_plain_step(norm: str) -> None:
    model = network(norm)
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    frames = random_frames(time=16)  # of fewer the plain step's gradients may be wrong: pad_short
    exact, truth = step(model, lambda x: plain_forward(model, x), frames=frames)
    plain_loss, plain = step(model, lambda x: plain_forward(model, x), in_bf16, frames)
    loss, ours = step(model, model, in_bf16, frames)
    assert distance(ours, truth) < 1.2 * distance(plain, truth)
    # Over the few values of this batch local statistics are not smooth: .4 in bf16, plain or ours.
    assert distance(ours, truth) < (0.2 if norm == "frozen" else 0.6)
    assert abs(loss - exact) < abs(plain_loss - exact) + 0.01


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_training_goes_the_plain_way(optimizer: type[torch.optim.Optimizer]) -> None:
    plain = network()
    ours = copy.deepcopy(plain)
    rate = 1e-2 if optimizer is torch.optim.SGD else 1e-4

    def losses(model: SlowFast, forward: Callable[[Tensor], Tensor]) -> list[float]:
        steps = optimizer(model.parameters(), lr=rate)  # type: ignore[call-arg]
        found = []
        for _ in range(4):
            found.append(float(step(model, forward)[0]))
            steps.step()
        return found

    expected = losses(plain, lambda x: plain_forward(plain, x))
    assert expected[0] - expected[-1] > 0.01  # it trains
    assert losses(ours, ours) == pytest.approx(expected, abs=1e-3)


def test_the_state_dict_and_who_trains_stay_pytorchvideos() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _, grads = step(model, model)
    assert grads.keys() == dict(model.named_parameters()).keys()
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_stages_that_do_not_train_get_no_gradients_and_the_others_the_same() -> None:
    model = network()
    _, whole = step(model, model)
    freeze(model, 2)
    _, part = step(model, model)
    assert part.keys() == {name for name in whole if name[7] >= "2"}
    assert all(torch.equal(part[name], whole[name]) for name in part)


@pytest.mark.parametrize("autocast", [nullcontext, pytest.param(in_bf16, marks=needs_bf16)])
@pytest.mark.parametrize("norm", ["frozen", "local"])
def test_activations_computed_again_change_nothing_to_the_bit(
    norm: str, autocast: Callable[[], AbstractContextManager[object]]
) -> None:
    model = network(norm)
    other = copy.deepcopy(model)
    other.checkpoint_activations = True
    loss, grads = step(model, model, autocast)
    again, others = step(other, other, autocast)
    assert torch.equal(loss, again)
    assert all(torch.equal(grads[name], others[name]) for name in grads)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
def test_one_pass_is_convolution_sum_and_relu(relu: bool, with_residual: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 4, 6, 6, dtype=torch.float32, requires_grad=True)
    weight = torch.randn(7, 5, 3, 1, 1, requires_grad=True)
    bias = torch.randn(7, requires_grad=True)
    residual = torch.randn(2, 7, 4, 3, 3, requires_grad=True) if with_residual else None
    inputs = [t for t in (x, weight, bias, residual) if t is not None]
    ours = convolve(x, weight, bias, (1, 2, 2), (1, 0, 0), relu=relu, residual=residual)
    expected = F.conv3d(x, weight, bias, (1, 2, 2), (1, 0, 0))
    expected = expected if residual is None else expected + residual
    expected = F.relu(expected) if relu else expected
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(expected)
    theirs = torch.autograd.grad(expected, inputs, direction)
    for mine, other in zip(torch.autograd.grad(ours, inputs, direction), theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("autocast", [nullcontext, pytest.param(in_bf16, marks=needs_bf16)])
@pytest.mark.parametrize("points", [(1, 1, 1), (2, 1, 1), (1, 3, 2), (2, 4, 4)])
@pytest.mark.parametrize("channels", [1, 8])
def test_one_pass_takes_every_layout_and_few_points(autocast, points, channels) -> None:
    """The kernels refuse some; the network of contiguous memory, or of tiny clips, has those."""
    torch.manual_seed(0)
    weight, bias = torch.randn(channels, channels, 1, 1, 1), torch.randn(channels)
    formats = (torch.contiguous_format, torch.channels_last_3d)
    for of_x, of_residual in product(formats, formats):
        x = torch.randn(2, channels, *points).contiguous(memory_format=of_x).requires_grad_()
        residual = torch.randn(2, channels, *points).contiguous(memory_format=of_residual)
        expected = F.relu(F.conv3d(x, weight, bias) + residual)
        with autocast():
            found = convolve(x, weight, bias, (1, 1, 1), (0, 0, 0), relu=True, residual=residual)
        torch.testing.assert_close(found.float(), expected, rtol=0.03, atol=0.06)
        (gradient,) = torch.autograd.grad(found.float().sum(), x)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 12), (7, 13), (224, 33)])
def test_pixels_two_by_two_and_frames_in_pairs_are_the_same_convolution(
    height: int, width: int, at_once: int, kernel: int
) -> None:
    torch.manual_seed(0)
    clip = torch.randn(2, 3, 4, height, width)
    conv = nn.Conv3d(3, 6, (kernel, 7, 7), (1, 2, 2), (kernel // 2, 3, 3))
    assert is_stem(conv)
    expected = conv(clip)
    assert conv.bias is not None
    parameters = [conv.weight, conv.bias]
    direction = torch.randn_like(expected)
    theirs = torch.autograd.grad(expected, parameters, direction)
    weight, bias, stride, padding = stem_layer(conv, conv.weight, conv.bias, at_once)
    ours = apart(
        F.conv3d(space_to_depth(clip, clip.dtype, at_once), weight, bias, stride, padding), at_once
    )
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    mine = torch.autograd.grad(ours, parameters, direction)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=2e-3)


@pytest.mark.skipif(not fused_dtypes(), reason="no fused convolutions here")
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(BF16, marks=needs_bf16)])
@pytest.mark.parametrize("side", [32, 33])
@pytest.mark.parametrize("colours", ["alike", "each"])
def test_bytes_that_are_rearranged_first_are_normalised_alike(
    dtype: torch.dtype, side: int, colours: str
) -> None:
    """Bit for bit; of odd size too, where what lies around is 0 and not a normalised black."""
    model = network().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if colours == "each":
        model.description = replace(
            model.description, mean=(0.4, 0.45, 0.5), std=(0.2, 0.225, 0.25)
        )
    frames = torch.randint(0, 256, (2, 8, side, side, 3), dtype=torch.uint8)
    frames = frames.permute(0, 1, 4, 2, 3)  # as a clip lies in memory
    with torch.no_grad(), torch.autocast("cpu", BF16, enabled=dtype == BF16):
        clips = pathways(frames, model.description, torch.channels_last_3d)
        expected = model.pathway_features(clips)
        for given in (frames, frames.contiguous()):
            assert torch.equal(model.features(given), expected)


def test_frames_are_taken_in_pairs_where_they_come_out_even() -> None:
    fast, slow = (
        nn.Conv3d(3, out, (t, 7, 7), (1, 2, 2), (t // 2, 3, 3)) for out, t in ((8, 5), (64, 1))
    )
    assert frames_at_once(fast, 32) == 2
    assert frames_at_once(fast, 31) == frames_at_once(slow, 8) == 1
    fast.padding = (0, 3, 3)  # a result of fewer frames than the clip
    assert frames_at_once(fast, 32) == 1


def test_a_folded_copy_scores_alike_and_leaves_the_network_alone() -> None:
    model = network().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        expected = plain_forward(model, random_frames())
        copied = folded(model)
        torch.testing.assert_close(copied(random_frames()), expected, rtol=1e-4, atol=1e-5)
        # pytorchvideo's own modules take it as well, and so an exporter.
        again = plain_forward(copied, random_frames())
        torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, _BatchNorm) for module in copied.modules())
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    ours, theirs = model.head.proj.weight, copied.head.proj.weight
    assert ours.data_ptr() == theirs.data_ptr()  # what is not folded is not copied
    assert not copied.training and not any(p.requires_grad for p in copied.blocks[0].parameters())


@needs_bf16
def test_a_folded_copy_in_bf16_scores_as_the_network_does() -> None:
    model = network().eval()
    with torch.inference_mode():
        exact = plain_forward(model, random_frames())
        with in_bf16():
            plain = plain_forward(model, random_frames())
            ours = folded(model)(random_frames())
    assert ours.dtype == plain.dtype
    assert (ours.float() - exact).norm() < 1.2 * (plain.float() - exact).norm() + 0.01


def test_folding_a_network_in_training_takes_its_running_statistics() -> None:
    model = network("local")
    copied = folded(model)
    assert model.training and next(model.modules()).training
    model.eval()
    with torch.inference_mode():
        torch.testing.assert_close(
            copied(random_frames()), plain_forward(model, random_frames()), rtol=1e-4, atol=1e-5
        )


def test_a_convolution_with_a_bias_of_its_own_folds_too() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4).eval()
    nn.init.normal_(norm.weight)
    assert norm.running_mean is not None
    norm.running_mean.normal_()
    x = torch.randn(2, 3, 2, 4, 4)
    torch.testing.assert_close(F.conv3d(x, *fold(conv, norm)), norm(conv(x)))
