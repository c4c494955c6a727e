"""Names of PySlowFast's SlowFast, as s1.pathway0_stem.conv.weight: a pure renaming.

Source: slowfast/models/ video_model_builder.py, stem_helper.py, resnet_helper.py and head_helper.py
of facebookresearch/SlowFast (March 2026).
"""

import re

from slowfast_dist.model.foreign import names

FIRST = ("s1.pathway0_stem.conv.weight",)
"""The name by which the layout is known."""

_STEM = re.compile(r"s1\.pathway([01])_stem\.(conv|bn)\.(\w+)")
_FUSION = re.compile(r"s([1-4])_fuse\.(conv_f2s|bn)\.(\w+)")
_BLOCK = re.compile(
    r"s([2-5])\.pathway([01])_res(\d{1,3})\.(branch1|branch1_bn|branch2\.[abc]|branch2\.[abc]_bn)"
    r"\.(\w+)"
)
_HEAD = re.compile(r"head\.projection\.(weight|bias)")

_LAYERS = {
    "conv": "conv", "bn": "norm", "conv_f2s": "conv_fast_to_slow",
    "branch1": "branch1_conv", "branch1_bn": "branch1_norm",
} | {
    f"branch2.{letter}{theirs}": f"branch2.{ours}_{letter}"
    for letter in "abc" for theirs, ours in (("", "conv"), ("_bn", "norm"))
}  # fmt: skip


def our_name(name: str) -> str | None:
    """pytorchvideo's name of a tensor; None for one that SlowFast has not."""
    if found := _STEM.fullmatch(name):
        pathway, layer, leaf = found.groups()
        return f"{names.stem(int(pathway))}{_LAYERS[layer]}.{leaf}"
    if found := _FUSION.fullmatch(name):
        stage, layer, leaf = found.groups()
        return f"{names.fusion(int(stage) - 1)}{_LAYERS[layer]}.{leaf}"
    if found := _BLOCK.fullmatch(name):
        stage, pathway, index, layer, leaf = found.groups()
        return f"{names.block(int(stage) - 1, int(pathway), int(index))}{_LAYERS[layer]}.{leaf}"
    if found := _HEAD.fullmatch(name):
        return names.HEAD + found[1]
    return None
