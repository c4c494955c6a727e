"""Names of MMAction2's SlowFast, as backbone.slow_path.conv1.conv.weight, and its head's columns.

Source: mmaction/models/backbones/resnet3d_slowfast.py, resnet3d.py and heads/slowfast_head.py of
open-mmlab/mmaction2 1.2.0.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from slowfast_dist.model.foreign import names

FIRST = ("backbone.slow_path.conv1.conv.weight", "slow_path.conv1.conv.weight")
"""Names by which the layout is known: of a recogniser, and of a backbone alone."""

MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
"""Of red, green and blue in 0..1: ImageNet's, as all of its SlowFast configurations have them."""

STD = (58.395 / 255, 57.12 / 255, 57.375 / 255)
"""As MEAN, the standard deviations."""

_STEM = re.compile(r"(slow|fast)_path\.conv1\.(conv|bn)\.(\w+)")
_FUSION = re.compile(r"slow_path\.(?:conv1|layer([1-3]))_lateral\.(conv|bn)\.(\w+)")
_BLOCK = re.compile(
    r"(slow|fast)_path\.layer([1-4])\.(\d{1,3})\.(conv1|conv2|conv3|downsample)\.(conv|bn)\.(\w+)"
)
_HEAD = re.compile(r"cls_head\.fc_cls\.(weight|bias)")
_KINDS = {"conv": "conv", "bn": "norm"}
_PATHWAYS = {"slow": 0, "fast": 1}


def our_name(name: str) -> str | None:
    """pytorchvideo's name of a tensor; None for one that SlowFast has not."""
    inner = name.removeprefix("backbone.")
    if found := _STEM.fullmatch(inner):
        pathway, kind, leaf = found.groups()
        return f"{names.stem(_PATHWAYS[pathway])}{_KINDS[kind]}.{leaf}"
    if found := _FUSION.fullmatch(inner):
        stage, kind, leaf = found.groups()
        layer = "norm" if kind == "bn" else "conv_fast_to_slow"
        return f"{names.fusion(int(stage or 0))}{layer}.{leaf}"
    if found := _BLOCK.fullmatch(inner):
        pathway, stage, index, layer, kind, leaf = found.groups()
        letter = "" if layer == "downsample" else "abc"[int(layer[-1]) - 1]
        part = f"branch2.{_KINDS[kind]}_{letter}" if letter else f"branch1_{_KINDS[kind]}"
        return f"{names.block(int(stage), _PATHWAYS[pathway], int(index))}{part}.{leaf}"
    if found := _HEAD.fullmatch(name):
        return names.HEAD + found[1]
    return None


def reorder_head(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``tensors`` by our names, the columns of the head slow before fast: MMAction2 joins the
    pathways the other way round."""
    key = f"{names.HEAD}weight"
    last = tensors.get(f"{names.block(4, 1, 0)}branch2.conv_c.weight")
    if key not in tensors or last is None:
        return dict(tensors)
    fast, slow = tensors[key][:, : len(last)], tensors[key][:, len(last) :]
    return {**tensors, key: torch.cat([slow, fast], dim=1)}
