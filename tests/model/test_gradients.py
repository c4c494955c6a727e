"""Gradients of convolutions by our own ways against those of torch's convolution in float64."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slowfast_dist.model import convolution
from slowfast_dist.model.convolution import (
    Layer,
    bottleneck,
    convolve,
    fits_bottleneck,
    pad_short,
)
from slowfast_dist.model.folding import fold
from slowfast_dist.model.gradients import convolution_gradients, input_way, weight_way

LAST = torch.channels_last_3d

# Size of the weights, stride, padding; how the gradients of input and weights are made on one
# thread, in float32 and in bf16.
Way = tuple[str, str]
WAYS: list[tuple[Any, Any, Any, Way, Way]] = [
    ((6, 5, 1, 1, 1), (1, 1, 1), (0, 0, 0), ("product", "pixels"), ("", "")),
    ((64, 65, 1, 1, 1), (1, 1, 1), (0, 0, 0), ("product", "pixels"), ("product", "")),
    ((512, 513, 1, 1, 1), (1, 1, 1), (0, 0, 0), ("product", "pixels"), ("product", "pixels")),
    ((6, 5, 1, 1, 1), (1, 2, 2), (0, 0, 0), ("strided", "pixels"), ("strided", "pixels")),
    ((6, 5, 1, 1, 1), (2, 2, 2), (0, 0, 0), ("strided", "pixels"), ("strided", "")),
    ((7, 5, 3, 1, 1), (1, 1, 1), (1, 0, 0), ("mirrored", "pixels"), ("", "")),
    ((130, 128, 3, 1, 1), (1, 1, 1), (1, 0, 0), ("mirrored", "pixels"), ("", "")),
    ((512, 513, 3, 1, 1), (1, 1, 1), (1, 0, 0), ("", "pixels"), ("", "pixels")),
    ((512, 513, 3, 1, 1), (1, 1, 1), (2, 0, 0), ("", "pixels"), ("", "")),
    ((6, 5, 7, 1, 1), (4, 1, 1), (3, 0, 0), ("", "pixels"), ("", "")),
    ((6, 5, 5, 1, 1), (8, 1, 1), (2, 0, 0), ("", "pixels"), ("", "")),
    ((6, 5, 1, 3, 3), (1, 1, 1), (0, 1, 1), ("mirrored", "frames"), ("", "")),
    ((6, 5, 1, 3, 3), (1, 2, 2), (0, 1, 1), ("", ""), ("", "")),
    ((256, 257, 1, 3, 3), (1, 2, 2), (0, 1, 1), ("", "windows"), ("", "windows")),
    ((256, 257, 1, 3, 3), (1, 1, 1), (0, 1, 1), ("", ""), ("", "")),
    ((512, 513, 1, 3, 3), (1, 1, 1), (0, 1, 1), ("", "windows"), ("", "windows")),
    ((6, 5, 1, 3, 3), (1, 1, 1), (0, 0, 0), ("mirrored", ""), ("", "")),
    ((66, 8, 1, 3, 3), (1, 1, 1), (0, 1, 1), ("", ""), ("", "")),
    ((8, 12, 5, 4, 4), (1, 1, 1), (2, 0, 0), ("mirrored", ""), ("", "")),
]


def test_several_threads_take_products_where_channels_are_many() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        of_one_pixel = (1, 1, 1), (1, 0, 0), torch.float32
        assert weight_way((256, 640, 3, 1, 1), *of_one_pixel) == "pixels"
        assert weight_way((8, 32, 3, 1, 1), *of_one_pixel) == ""
        assert weight_way((8, 8, 1, 3, 3), (1, 1, 1), (0, 1, 1), torch.float32) == ""
    finally:
        torch.set_num_threads(threads)
    assert input_way((512, 2048, 3, 1, 1), *of_one_pixel) == ""  # the weights take too long to turn


@pytest.mark.parametrize("kind", ["AVX2", "AVX512", "bf16"])
@pytest.mark.parametrize("frames", [1, 8])
@pytest.mark.parametrize(("size", "stride", "padding", "fp32", "bf16"), WAYS)
def test_every_way_gives_the_convolutions_gradients(
    monkeypatch: pytest.MonkeyPatch, size: Any, stride: Any, padding: Any, fp32: Way, bf16: Way,
    frames: int, kind: str,
) -> None:  # fmt: skip
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    if dtype not in convolution.fused_dtypes():
        pytest.skip(f"no fused convolutions of {dtype} here")
    capability = kind if dtype == torch.float32 else "AVX512"
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    expected = bf16 if dtype == torch.bfloat16 else fp32
    if kind == "AVX2" and size[2:] == (5, 4, 4):
        expected = (expected[0], "stem")
    way = tuple(choose(size, stride, padding, dtype) for choose in (input_way, weight_way))
    assert way == expected
    torch.manual_seed(0)
    x = torch.randn(2, size[1], frames, 9, 7).to(dtype).contiguous(memory_format=LAST)
    if not way[1]:  # by oneDNN, whose gradient of weights in bf16 is wrong of clips that are short
        x, padding = pad_short(x, size[2:], padding)
        x = x.contiguous(memory_format=LAST)
    weight = torch.randn(size).to(dtype).contiguous(memory_format=LAST)
    bias = torch.randn(size[0]).to(dtype)
    inputs = [t.double().requires_grad_() for t in (x, weight, bias)]
    result = F.conv3d(inputs[0], inputs[1], inputs[2], stride, padding)
    direction = torch.randn(result.shape).to(dtype).contiguous(memory_format=LAST)
    exact = torch.autograd.grad(result, inputs, direction.double())
    others = torch.randn_like(x)
    total = others.clone(memory_format=torch.preserve_format)
    for added in (None, total):
        geometry = stride, padding
        found = convolution_gradients(direction, x, weight, *geometry, (True, True, True), added)
        of_x = exact[0] if added is None else exact[0] + others.double()
        for mine, other in zip(found, (of_x, *exact[1:]), strict=True):
            assert mine is not None
            assert mine.dtype == dtype
            # A bf16 has 8 bits; with the total it is rounded once more.
            rtol, share = (2e-2, 4e-3) if dtype == torch.bfloat16 else (1e-5, 3e-6)
            atol = max(1e-4, share * float(other.abs().max()))
            torch.testing.assert_close(mine.double(), other, rtol=rtol, atol=atol)
    assert found[0] is not None and found[0].data_ptr() == total.data_ptr()
    for wanted in ((True, False, False), (False, True, False), (False, False, True)):
        some = convolution_gradients(direction, x, weight, stride, padding, wanted)
        assert tuple(gradient is not None for gradient in some) == wanted


@pytest.mark.skipif(
    torch.bfloat16 not in convolution.fused_dtypes(), reason="no fused convolutions of bf16 here"
)
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_many_weights_in_bf16_of_clips_shorter_than_the_kernel(frames: int) -> None:
    """Which `pad_short` pads, so that the input is longer than the result."""
    torch.manual_seed(0)
    x = torch.randn(2, 1024, frames, 4, 3).contiguous(memory_format=LAST)
    weight = (0.02 * torch.randn(512, 1024, 3, 1, 1)).requires_grad_()
    exact = F.conv3d(x, weight, None, 1, (1, 0, 0))
    direction = torch.randn_like(exact)
    (theirs,) = torch.autograd.grad(exact, weight, direction)
    with torch.autocast("cpu", torch.bfloat16):
        found = convolve(x, weight, None, (1, 1, 1), (1, 0, 0))
    (mine,) = torch.autograd.grad(found, weight, direction.to(found.dtype))
    assert float((mine.float() - theirs).norm() / theirs.norm()) < 0.02


def layers(own_shortcut: bool, stride: int) -> list[nn.Conv3d]:
    torch.manual_seed(0)
    convs = [
        nn.Conv3d(16, 8, (3, 1, 1), padding=(1, 0, 0)),
        nn.Conv3d(8, 8, (1, 3, 3), (1, stride, stride), (0, 1, 1)),
        nn.Conv3d(8, 16, 1),
    ]
    if own_shortcut:
        convs.append(nn.Conv3d(16, 16, 1, (1, stride, stride)))
    return convs


def plain(x: Tensor, convs: list[nn.Conv3d]) -> Tensor:
    a, b, c, *rest = convs
    shortcut = rest[0](x) if rest else x
    return F.relu(c(F.relu(b(F.relu(a(x))))) + shortcut)


def ours(x: Tensor, convs: list[nn.Conv3d], in_place: bool = False) -> Tensor:
    assert fits_bottleneck(x, convs)
    parts: list[Any] = [(conv.weight, conv.bias, conv.stride, conv.padding) for conv in convs]
    return bottleneck(x, [Layer(*part) for part in parts], in_place)


@pytest.mark.skipif(not convolution.fused_dtypes(), reason="no fused convolutions here")
@pytest.mark.parametrize(("own_shortcut", "stride"), [(False, 1), (True, 1), (True, 2)])
@pytest.mark.parametrize("trained", ["all", "weights", "last", "x"])
def test_a_block_as_one_function_is_its_layers(
    own_shortcut: bool, stride: int, trained: str
) -> None:
    convs = layers(own_shortcut, stride)
    x = torch.randn(2, 16, 4, 6, 6).contiguous(memory_format=LAST)
    x.requires_grad_(trained in ("all", "x"))
    for number, conv in enumerate(convs):
        conv.requires_grad_(trained in ("all", "weights") or (trained == "last" and number == 2))
    expected, found = plain(x, convs), ours(x, convs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    inputs = [t for t in (x, *(p for conv in convs for p in conv.parameters())) if t.requires_grad]
    # As cat hands it on: a part of a larger one, and still used by others, so not to be written to.
    whole = torch.randn(2, 20, *found.shape[2:]).contiguous(memory_format=LAST)
    direction, before = whole[:, :16], whole.clone()
    theirs = torch.autograd.grad(expected, inputs, direction)
    mine = torch.autograd.grad(found, inputs, direction)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert torch.equal(whole, before)


@pytest.mark.skipif(not convolution.fused_dtypes(), reason="no fused convolutions here")
def test_without_gradients_a_block_may_take_its_inputs_memory() -> None:
    convs = layers(False, 1)
    x = torch.randn(2, 16, 4, 6, 6).contiguous(memory_format=LAST)
    before = x.clone()
    with torch.inference_mode():
        expected = plain(x, convs)
        kept = ours(x, convs)
        assert torch.equal(x, before) and kept.data_ptr() != x.data_ptr()
        found = ours(x, convs, in_place=True)
    assert found.data_ptr() == x.data_ptr() and torch.equal(found, kept)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_block_does_not_take_what_its_kernels_cannot() -> None:
    convs = layers(False, 1)
    x = torch.randn(2, 16, 4, 6, 6)
    assert not fits_bottleneck(x, convs)  # contiguous
    assert not fits_bottleneck(x[:, :, :1, :1, :1].contiguous(memory_format=LAST), convs)
    short = x[:, :, :2].contiguous(memory_format=LAST)
    with torch.autocast("cpu", torch.bfloat16):
        assert not fits_bottleneck(short, convs)  # pad_short


@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
def test_folded_weights_train_as_their_parts(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(5, 6, (3, 1, 1)).to(memory_format=layout)  # type: ignore[call-overload]
    norm = nn.BatchNorm3d(6).eval()
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    assert norm.running_var is not None and norm.running_mean is not None
    norm.running_var.uniform_(0.5, 2)
    parameters = [conv.weight, norm.weight]
    weight, _ = fold(conv, norm)
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    expected = conv.weight * scale.view(-1, 1, 1, 1, 1)
    assert torch.equal(weight, expected)
    direction = torch.randn_like(expected)
    theirs = torch.autograd.grad(expected, parameters, direction)
    for mine, other in zip(torch.autograd.grad(weight, parameters, direction), theirs, strict=True):
        torch.testing.assert_close(mine, other)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = fold(conv, norm)
    assert torch.equal(half, expected.bfloat16())
    mine_half = torch.autograd.grad(half, parameters, direction.bfloat16())
    exact = torch.autograd.grad(
        conv.weight * (norm.weight * torch.rsqrt(norm.running_var + norm.eps)).view(-1, 1, 1, 1, 1),
        parameters, direction.bfloat16().float(),
    )  # fmt: skip
    for one, other in zip(mine_half, exact, strict=True):
        torch.testing.assert_close(one, other)
