"""The network as other programs take it: one tensor of pixels in, logits out, all else inside."""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from slowfast_dist.clip_input import MEAN, STD, slow_indices
from slowfast_dist.folding import folded
from slowfast_dist.model import SlowFast

InputType = Literal["uint8", "float32"]


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
        self.blocks = copy.deepcopy(folded(network).blocks)
        self.requires_grad_(False)

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
