"""The network as other programs take it: one tensor of pixels in, logits out, all else inside."""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from slowfast_dist.model import MEAN, STD, SlowFast, slow_indices

InputType = Literal["uint8", "float32"]

FOLDING_SIDE = 32
"""Pixels of the frames with which `fold_batchnorm` looks at the network: any will do."""


class ExportGraph(nn.Module):
    """video (B, 3, T, H, W), RGB, uint8 in 0..255 or float32 in 0..1 -> logits (B, K).

    Normalisation and the split into pathways are inside, BatchNorm is folded into the convolutions.
    The network that it is made from stays as it is.
    """

    def __init__(self, network: SlowFast, num_frames: int, input_type: InputType) -> None:
        super().__init__()
        self.num_frames, self.input_type = num_frames, input_type
        self.slow: Tensor
        self.register_buffer("slow", slow_indices(num_frames))
        self.blocks = copy.deepcopy(network.blocks)
        self.eval()
        self.requires_grad_(False)
        fold_batchnorm(self, self.example(1, FOLDING_SIDE))

    def example(self, batch: int, side: int) -> Tensor:
        """An input of black frames, of this graph's type and number of frames."""
        dtype = getattr(torch, self.input_type)
        return torch.zeros(batch, 3, self.num_frames, side, side, dtype=dtype)

    def forward(self, video: Tensor) -> Tensor:
        pixels = video.to(torch.float32)
        if self.input_type == "uint8":
            pixels = pixels / 255
        fast = (pixels - MEAN) / STD
        # A fresh list: pytorchvideo's blocks write into it.
        x: Any = [fast.index_select(2, self.slow), fast]
        for block in self.blocks:
            x = block(x)
        return x


def fold_batchnorm(module: nn.Module, example: Tensor) -> int:
    """Move each BatchNorm in evaluation mode into the convolution before it; returns how many.

    Which is before which is seen while ``example`` goes through. A convolution whose output goes
    elsewhere as well must not occur. y = (conv(x) - mean) / sqrt(var + eps) * weight + bias is a
    convolution itself (Jacob et al. 2018, arXiv:1712.05877, section 3.2); computed in float64.
    """
    made: dict[int, tuple[nn.Conv3d, Tensor]] = {}  # with the output, so that its id stays its own
    pairs: list[tuple[nn.Conv3d, str, nn.BatchNorm3d]] = []

    def see_output(conv: nn.Conv3d, _: Any, output: Tensor) -> None:
        made[id(output)] = conv, output

    def see_input(norm: nn.BatchNorm3d, inputs: tuple[Tensor]) -> None:
        if id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], names[norm], norm))

    names: dict[nn.Module, str] = {part: name for name, part in module.named_modules()}
    hooks: list[Any] = []
    for part in names:
        if isinstance(part, nn.Conv3d):
            hooks.append(part.register_forward_hook(see_output))
        elif isinstance(part, nn.BatchNorm3d):
            hooks.append(part.register_forward_pre_hook(see_input))
    try:
        with torch.no_grad():
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
    for conv, name, norm in pairs:
        _fold(conv, norm)
        module.set_submodule(name, nn.Identity())
    return len(pairs)


def _fold(conv: nn.Conv3d, norm: nn.BatchNorm3d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None and not norm.training
    scale = norm.weight.double() / torch.sqrt(variance.double() + norm.eps)
    bias = 0.0 if conv.bias is None else conv.bias.double()
    weight = conv.weight.double() * scale.view(-1, 1, 1, 1, 1)
    shift = norm.bias.double() + (bias - mean.double()) * scale
    conv.weight = nn.Parameter(weight.float(), requires_grad=False)
    conv.bias = nn.Parameter(shift.float(), requires_grad=False)
