"""Networks of other frameworks against a forward pass that is written here, convolution by
convolution, from the tensors' names alone."""

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.model.description import NetworkDescription, network_defaults
from slowfast_dist.model.folding import folded
from slowfast_dist.model.inputs import normalise, normalise_in_one, slow_indices
from slowfast_dist.model.slowfast import (
    SlowFast,
    build_model,
    describe,
    rebuild,
    set_norm,
)
from slowfast_dist.model.weights import WeightsFile
from tests.model.test_description import MMACTION2
from tests.model.test_folding import BF16, in_bf16, needs_bf16, step
from tests.model.test_slowfast import random_frames

FOUR_BY_SIXTEEN = NetworkDescription("slowfast_tiny", 8, 5)
"""PySlowFast's SLOWFAST_4x16_R50, but narrow."""

OPEN_MMLAB = replace(MMACTION2, name="slowfast_tiny", alpha=4)
"""MMAction2's default laterals, slow frames, mean and std."""

VARIANTS = {
    "4x16": FOUR_BY_SIXTEEN,
    "mmaction2": OPEN_MMLAB,
    "mmaction2 lateral_norm": replace(OPEN_MMLAB, lateral_norm=True, lateral_activation=True),
    "norm alone": replace(FOUR_BY_SIXTEEN, lateral_activation=False),
    "activation alone": replace(FOUR_BY_SIXTEEN, lateral_norm=False),
}
variants = pytest.mark.parametrize("network", VARIANTS.values(), ids=VARIANTS)


def with_statistics(model: SlowFast) -> SlowFast:
    """BatchNorms that do something: scales, shifts and statistics are not 1 and 0."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return model


def made(network: NetworkDescription, classes: int = 4) -> SlowFast:
    torch.manual_seed(0)
    model = with_statistics(SlowFast(network, classes, 0.0))
    set_norm(model, "frozen")
    return model.eval()


def reference(model: SlowFast, frames: Tensor) -> Tensor:
    """Logits (B, K) of uint8 frames (B, T, 3, H, W), from the description and the state_dict."""
    network, state = model.description, model.state_dict()
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (network.mean, network.std))
    clip = frames.double().div(255).sub(mean.view(3, 1, 1)).div(std.view(3, 1, 1)).float()
    clip = clip.permute(0, 2, 1, 3, 4)
    count = clip.shape[2] // network.alpha
    chosen = [network.alpha * index for index in range(count)]
    if network.slow_frames == "linspace":
        chosen = torch.linspace(0, clip.shape[2] - 1, count).long().tolist()

    def conv(x: Tensor, name: str, time: int = 1, space: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        around = tuple(size // 2 for size in weight.shape[2:])
        return F.conv3d(x, weight, None, (time, space, space), around)

    def norm(x: Tensor, name: str) -> Tensor:
        values = (state[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *values)

    x = [clip[:, :, chosen], clip]
    for stage in range(5):
        for way in (0, 1):
            at = f"blocks.{stage}.multipathway_blocks.{way}"
            if stage == 0:
                stem = F.relu(norm(conv(x[way], f"{at}.conv", space=2), f"{at}.norm"))
                x[way] = F.max_pool3d(stem, (1, 3, 3), (1, 2, 2), (0, 1, 1))
                continue
            block = 0
            while f"{at}.res_blocks.{block}.branch2.conv_a.weight" in state:
                name, y = f"{at}.res_blocks.{block}", x[way]
                space = 2 if block == 0 and stage > 1 else 1
                if f"{name}.branch1_conv.weight" in state:
                    y = conv(y, f"{name}.branch1_conv", space=space)
                    y = norm(y, f"{name}.branch1_norm")
                z = F.relu(norm(conv(x[way], f"{name}.branch2.conv_a"), f"{name}.branch2.norm_a"))
                z = conv(z, f"{name}.branch2.conv_b", space=space)
                z = F.relu(norm(z, f"{name}.branch2.norm_b"))
                z = norm(conv(z, f"{name}.branch2.conv_c"), f"{name}.branch2.norm_c")
                x[way], block = F.relu(y + z), block + 1
        if stage < 4:
            at = f"blocks.{stage}.multipathway_fusion"
            lateral = conv(x[1], f"{at}.conv_fast_to_slow", time=network.alpha)
            if network.lateral_norm:
                lateral = norm(lateral, f"{at}.norm")
            if network.lateral_activation:
                lateral = F.relu(lateral)
            x[0] = torch.cat([x[0], lateral], 1)
    features = torch.cat([way.mean((2, 3, 4)) for way in x], 1)
    return F.linear(features, state["blocks.6.proj.weight"], state["blocks.6.proj.bias"])


@variants
def test_logits_are_those_of_the_reference_plain_and_folded(network: NetworkDescription) -> None:
    model, frames = made(network), random_frames(time=16)
    expected = reference(model, frames)
    assert expected.std() > 0.01
    with torch.inference_mode():
        torch.testing.assert_close(model(frames), expected, rtol=1e-4, atol=1e-5)
        last = copy.deepcopy(model).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        for one in (folded(model), folded(last)):
            torch.testing.assert_close(one(frames), expected, rtol=1e-4, atol=1e-5)


@variants
@pytest.mark.parametrize("norm", ["frozen", "local"])
def test_loss_and_gradients_are_those_of_plain_modules(
    network: NetworkDescription, norm: str
) -> None:
    torch.manual_seed(0)
    plain = with_statistics(SlowFast(network, 4, 0.0))
    set_norm(plain, norm)  # type: ignore[arg-type]
    ours = copy.deepcopy(plain.train())
    frames = random_frames(time=16)  # of 8 local statistics would be of two values, and not smooth

    def layer_by_layer(_: Tensor) -> Tensor:
        clip = normalise(frames, network)
        x: Any = [clip[:, :, slow_indices(16, network)], clip]
        for block in plain.blocks:
            x = block(x)
        return x

    expected, truth = step(plain, layer_by_layer, frames=frames)
    loss, grads = step(ours, ours, frames=frames)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    assert truth.keys() == grads.keys()
    for name, grad in truth.items():
        # A shift before a BatchNorm of the batch's own mean has none but rounding.
        atol = 1e-6 + 1e-4 * float(grad.norm())
        torch.testing.assert_close(grads[name], grad, rtol=1e-3, atol=atol)


@needs_bf16
@variants
def test_in_bf16_folded_is_as_near_as_not_folded(network: NetworkDescription) -> None:
    model, frames = made(network), random_frames(time=16)
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    expected = reference(model, frames)
    with torch.inference_mode(), in_bf16():
        torch.testing.assert_close(folded(model)(frames).float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.slow
def test_4x16_is_the_network_of_pytorchvideo_with_its_arguments() -> None:
    """What PySlowFast's configs/Kinetics/pytorchvideo/SLOWFAST_4x16_R50.yaml makes of it."""
    from slowfast_dist.model.slowfast import create_slowfast

    theirs = create_slowfast(
        slowfast_fusion_conv_kernel_size=(5, 1, 1), slowfast_fusion_conv_stride=(8, 1, 1),
        head_pool_kernel_sizes=((4, 7, 7), (32, 7, 7)),
    ).eval()  # fmt: skip
    torch.manual_seed(0)
    ours = with_statistics(SlowFast("slowfast_r50_4x16", 400, 0.5)).eval()
    theirs.load_state_dict(ours.state_dict())
    frames = random_frames(1, 32, 224, 224)
    clip = ((frames.float() / 255 - 0.45) / 0.225).permute(0, 2, 1, 3, 4)
    with torch.no_grad():
        expected = theirs([clip[:, :, torch.linspace(0, 31, 4).long()], clip])
        torch.testing.assert_close(ours(frames), expected, rtol=1e-4, atol=1e-4)
        small = random_frames(1, 32, 64, 64)
        torch.testing.assert_close(ours(small), reference(ours, small), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_one_operation_each_value_is_the_exact_one_rounded(dtype: torch.dtype) -> None:
    """What a GPU does, on a CPU, for all 256 values of each channel."""
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 1, 16, 16)
    for network in (OPEN_MMLAB, FOUR_BY_SIXTEEN):
        one = normalise_in_one(values, network, torch.channels_last_3d, dtype)
        exact = (values.double() / 255).squeeze(0).squeeze(1)
        for channel, (mean, std) in enumerate(zip(network.mean, network.std, strict=True)):
            expected = ((exact[channel] - mean) / std).to(dtype)
            wrong = one[0, channel, 0] != expected
            assert wrong.sum() <= 1, (dtype, channel)  # a tie in float32 is none in float64
            torch.testing.assert_close(one[0, channel, 0], expected)


def test_slow_frames_are_those_of_each_framework() -> None:
    assert slow_indices(32, MMACTION2).tolist() == [0, 8, 16, 24]
    assert slow_indices(32, replace(MMACTION2, alpha=4)).tolist() == list(range(0, 32, 4))
    for time in (8, 16, 32, 64):
        own = slow_indices(time, network_defaults("slowfast_r50_4x16"))
        assert own.tolist() == torch.linspace(0, time - 1, time // 8).long().tolist()


@variants
def test_json_rebuilds_the_network(network: NetworkDescription) -> None:
    model = made(network)
    again = rebuild(json.loads(json.dumps(describe(model))))
    again.load_state_dict(model.state_dict())
    frames = random_frames()
    assert torch.equal(again(frames), model(frames)) and again.description == network


def test_a_whole_model_of_an_older_version_is_the_published_one() -> None:
    model = made(network_defaults("slowfast_tiny"))
    state = {name: value for name, value in vars(model).items() if name != "description"}
    older = SlowFast.__new__(SlowFast)
    older.__setstate__({**state, "name": "slowfast_tiny"})
    assert older.description == network_defaults("slowfast_tiny") and older.name == "slowfast_tiny"
    assert torch.equal(older(random_frames()), model(random_frames()))


def test_weights_that_tell_their_network_decide_it(tmp_path: Any) -> None:
    model = made(OPEN_MMLAB)
    torch.save(model.state_dict(), tmp_path / "theirs.pth")
    known = WeightsFile(tmp_path / "theirs.pth", None, None, OPEN_MMLAB)
    config = ModelConfig(weights=known.path, head="keep", dropout=0.0)
    loaded, report = build_model(config, 4, known)
    assert report.lines[0] == (
        "the network is that of the weights: slowfast_tiny with fusion_kernel 5, slow_frames "
        "stride, lateral_norm false, lateral_activation false, mean 0.485 0.456 0.406, std 0.229 "
        "0.224 0.225"
    )
    frames = random_frames()
    assert torch.equal(loaded.eval()(frames), model(frames))
    asked = replace(config, name="slowfast_r101")
    with pytest.raises(UserError, match=r"is a slowfast_tiny and .* give --model.name slowfast_ti"):
        build_model(asked, 4, known)


def test_black_and_white_are_each_channels_own() -> None:
    frames = torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1, 1).expand(1, 2, 3, 2, 2)
    clip = normalise(frames, OPEN_MMLAB)
    mean, std = np.array(OPEN_MMLAB.mean), np.array(OPEN_MMLAB.std)
    np.testing.assert_allclose(clip[0, :, 0, 0, 0], -mean / std, rtol=1e-6)
    np.testing.assert_allclose(clip[0, :, 1, 0, 0], (1 - mean) / std, rtol=1e-6)
    assert normalise(frames, OPEN_MMLAB, dtype=BF16).dtype == BF16
