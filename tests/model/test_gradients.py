"""Gradients of convolutions by our own ways against those of torch's convolution in float64."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slowfast_dist.model import convolution
from slowfast_dist.model.blocks import apart, weight_of_pairs
from slowfast_dist.model.convolution import Layer, bottleneck, convolve, fits_bottleneck
from slowfast_dist.model.folding import fold
from slowfast_dist.model.gradients import fp32_gradients, input_way, matmul_is_faster

LAST = torch.channels_last_3d

# Size of the weights, stride, padding; how the input's gradient is made, whether the weights' is a
# product.
WAYS: list[tuple[Any, Any, Any, str, bool]] = [
    ((6, 5, 1, 1, 1), (1, 1, 1), (0, 0, 0), "product", True),
    ((6, 5, 1, 1, 1), (1, 2, 2), (0, 0, 0), "", True),
    ((7, 5, 3, 1, 1), (1, 1, 1), (1, 0, 0), "mirrored", True),
    ((130, 128, 3, 1, 1), (1, 1, 1), (1, 0, 0), "mirrored", True),
    ((6, 5, 7, 1, 1), (4, 1, 1), (3, 0, 0), "", True),
    ((6, 5, 5, 1, 1), (8, 1, 1), (2, 0, 0), "", True),
    ((6, 5, 1, 3, 3), (1, 1, 1), (0, 1, 1), "mirrored", True),
    ((6, 5, 1, 3, 3), (1, 2, 2), (0, 1, 1), "", False),
    ((6, 5, 1, 3, 3), (1, 1, 1), (0, 0, 0), "mirrored", False),
    ((66, 8, 1, 3, 3), (1, 1, 1), (0, 1, 1), "", False),
    ((8, 12, 5, 4, 4), (1, 1, 1), (2, 0, 0), "mirrored", False),
]


def test_several_threads_take_products_where_channels_are_many() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        of_one_pixel = (1, 1, 1), (1, 0, 0)
        assert matmul_is_faster((256, 640, 3, 1, 1), *of_one_pixel)
        assert not matmul_is_faster((8, 32, 3, 1, 1), *of_one_pixel)
        assert not matmul_is_faster((8, 8, 1, 3, 3), (1, 1, 1), (0, 1, 1))
    finally:
        torch.set_num_threads(threads)
    assert input_way((512, 2048, 3, 1, 1), *of_one_pixel) == ""  # the weights take too long to turn


@pytest.mark.parametrize("instructions", ["AVX2", "AVX512"])
@pytest.mark.parametrize("frames", [1, 8])
@pytest.mark.parametrize(("size", "stride", "padding", "way", "products"), WAYS)
def test_every_way_gives_the_convolutions_gradients(
    monkeypatch: pytest.MonkeyPatch, size: Any, stride: Any, padding: Any, way: str, products: bool,
    frames: int, instructions: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: instructions)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    products |= size[2:] == (5, 4, 4) and instructions == "AVX2"
    assert (input_way(size, stride, padding), matmul_is_faster(size, stride, padding)) == (
        way, products
    )  # fmt: skip
    torch.manual_seed(0)
    x = torch.randn(2, size[1], frames, 9, 7).contiguous(memory_format=LAST)
    weight, bias = torch.randn(size).contiguous(memory_format=LAST), torch.randn(size[0])
    inputs = [t.double().requires_grad_() for t in (x, weight, bias)]
    result = F.conv3d(inputs[0], inputs[1], inputs[2], stride, padding)
    direction = torch.randn(result.shape).contiguous(memory_format=LAST)
    exact = torch.autograd.grad(result, inputs, direction.double())
    others = torch.randn_like(x)
    total = others.clone(memory_format=torch.preserve_format)
    for added in (None, total):
        found = fp32_gradients(direction, x, weight, stride, padding, (True, True, True), added)
        of_x = exact[0] if added is None else exact[0] + others.double()
        for mine, other in zip(found, (of_x, *exact[1:]), strict=True):
            assert mine is not None
            torch.testing.assert_close(mine.double(), other, rtol=1e-5, atol=1e-4)
    assert found[0] is not None and found[0].data_ptr() == total.data_ptr()
    for wanted in ((True, False, False), (False, True, False), (False, False, True)):
        some = fp32_gradients(direction, x, weight, stride, padding, wanted)
        assert tuple(gradient is not None for gradient in some) == wanted


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


@pytest.mark.parametrize("width", [12, 13])
def test_pixels_in_pairs_are_the_same_convolution(width: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 12, 6, 9, width + 3).contiguous(memory_format=LAST)
    weight = torch.randn(8, 12, 5, 4, 4, requires_grad=True)
    bias = torch.randn(8)
    expected = F.relu(F.conv3d(x, weight, bias, 1, (2, 0, 0)))
    even = expected[..., : width // 2 * 2]  # blocks.stem takes pairs where all pixels are in one
    pairs = convolve(x, weight_of_pairs(weight), bias.repeat(2), (1, 1, 2), (2, 0, 0), relu=True)
    found = apart(pairs)
    torch.testing.assert_close(found, even, rtol=1e-4, atol=1e-4)
    direction = torch.randn_like(even)
    (theirs,) = torch.autograd.grad(even, weight, direction)
    (mine,) = torch.autograd.grad(found, weight, direction)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)


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
