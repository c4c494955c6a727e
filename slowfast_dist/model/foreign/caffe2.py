"""Names of the blobs in PySlowFast's model zoo, as t_res2_0_branch2a_bn_s: files of Caffe2.

Source: slowfast/utils/c2_model_loading.py of facebookresearch/SlowFast (March 2026), which the test
of this module was held against. ``riv`` is read as the variance, as there.
"""

import re

from slowfast_dist.model.foreign import names

FIRST = ("conv1_w",)
"""The name by which the layout is known, beside t_conv1_w: conv1_w alone may be any network's."""

_LEAVES = {"w": "weight", "s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}
_STEM = re.compile(r"(t_)?(conv1|res_conv1_bn)_(w|s|b|rm|riv)")
_FUSION = re.compile(r"t_(?:pool1|res([2-4])_\d{1,3}_branch2c_bn)_subsample(_bn)?_(w|s|b|rm|riv)")
_BLOCK = re.compile(r"(t_)?res([2-5])_(\d{1,3})_branch(1|2[abc])(_bn)?_(w|s|b|rm|riv)")
_HEAD = re.compile(r"pred_(w|b)")


def our_name(name: str) -> str | None:
    """pytorchvideo's name of a tensor; None for momentum, learning rate and whatever else is no
    part of the network."""
    if found := _STEM.fullmatch(name):
        fast, layer, leaf = found.groups()
        kind = "conv" if layer == "conv1" else "norm"
        return f"{names.stem(int(fast is not None))}{kind}.{_LEAVES[leaf]}"
    if found := _FUSION.fullmatch(name):
        stage, norm, leaf = found.groups()
        kind = "norm" if norm else "conv_fast_to_slow"
        return f"{names.fusion(int(stage or 1) - 1)}{kind}.{_LEAVES[leaf]}"
    if found := _BLOCK.fullmatch(name):
        fast, stage, index, layer, norm, leaf = found.groups()
        kind = "norm" if norm else "conv"
        part = f"branch1_{kind}" if layer == "1" else f"branch2.{kind}_{layer[1]}"
        place = names.block(int(stage) - 1, int(fast is not None), int(index))
        return f"{place}{part}.{_LEAVES[leaf]}"
    if found := _HEAD.fullmatch(name):
        return names.HEAD + _LEAVES[found[1]]
    return None
