"""The state_dict of a SlowFast under the names of other frameworks, written from their sources."""

import re

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

State = dict[str, Tensor]

_LEAF = {"conv": "conv", "norm": "bn"}


def random_state(state: State, seed: int = 7) -> State:
    """Random weights and BatchNorm statistics for a network of these shapes, tame enough that
    logits stay near 1."""
    torch.manual_seed(seed)
    made: State = {}
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            made[name] = torch.tensor(3)
        elif value.ndim > 1:
            fan = value[0].numel()
            made[name] = torch.randn_like(value) * (2 / fan) ** 0.5
        elif name.endswith("running_var"):
            made[name] = torch.rand_like(value) + 0.5
        else:
            made[name] = torch.rand_like(value) * 0.5 + 0.1
    return made


def as_pyslowfast(state: State) -> State:
    return {_pyslowfast(name): value for name, value in state.items()}


def _pyslowfast(name: str) -> str:
    """s1.pathway0_stem.conv.weight, s2.pathway1_res0.branch2.a_bn.bias, s1_fuse.conv_f2s.weight."""
    if name.startswith("blocks.6.proj."):
        return name.replace("blocks.6.proj.", "head.projection.")
    _, stage, rest = name.split(".", 2)
    number = int(stage) + 1
    if rest.startswith("multipathway_fusion."):
        rest = rest.removeprefix("multipathway_fusion.")
        rest = rest.replace("conv_fast_to_slow.", "conv_f2s.").replace("norm.", "bn.")
        return f"s{number}_fuse.{rest}"
    _, pathway, rest = rest.split(".", 2)
    if number == 1:
        return f"s1.pathway{pathway}_stem.{rest.replace('norm.', 'bn.')}"
    _, block, rest = rest.split(".", 2)
    rest = rest.replace("branch1_conv.", "branch1.").replace("branch1_norm.", "branch1_bn.")
    rest = re.sub(r"conv_([abc])\.", r"\1.", rest)
    rest = re.sub(r"norm_([abc])\.", r"\1_bn.", rest)
    return f"s{number}.pathway{pathway}_res{block}.{rest}"


def as_caffe2(state: State) -> dict[str, NDArray[np.float32]]:
    """Blobs of the zoo's .pkl: no counts of batches, and the learning rate beside."""
    blobs = {
        _caffe2(_pyslowfast(name), state): value.numpy()
        for name, value in state.items() if not name.endswith("num_batches_tracked")
    }  # fmt: skip
    return blobs | {"lr": np.ones(1, "f4"), "model_iter": np.ones(1, "i8")}


def _caffe2(name: str, state: State) -> str:
    """conv1_w, t_res2_0_branch2a_bn_rm, t_res3_3_branch2c_bn_subsample_w, pred_b."""
    leaf = name.rpartition(".")[2]
    norm = "bn" in name
    short = {"bias": "b", "running_mean": "rm", "running_var": "riv"}
    end = short.get(leaf, "s" if norm else "w")
    if name.startswith("head."):
        return f"pred_{end}"
    if found := re.match(r"s([1-4])_fuse", name):
        stage = int(found[1])
        blocks = rf"blocks\.{stage - 1}\.multipathway_blocks\.1\.res_blocks\.(\d+)"
        numbers = [int(part[1]) for key in state if (part := re.match(blocks, key))]
        place = "pool1" if stage == 1 else f"res{stage}_{max(numbers)}_branch2c_bn"
        return f"t_{place}_subsample_{'bn_' * norm}{end}"
    found = re.match(r"s(\d)\.pathway(\d)_(?:stem|res(\d+))\.?(.*)", name)
    assert found is not None, name
    fast = "t_" * int(found[2])
    if found[1] == "1":
        return f"{fast}res_conv1_bn_{end}" if norm else f"{fast}conv1_w"
    letter = "1" if "branch1" in name else f"2{re.search(r'branch2.([abc])', name)[1]}"  # type: ignore[index]
    return f"{fast}res{found[1]}_{found[3]}_branch{letter}_{'bn_' * norm}{end}"


def as_mmaction(state: State) -> State:
    """backbone.slow_path.layer1.0.conv1.bn.weight; the head's columns fast before slow."""
    made = {_mmaction(name): value for name, value in state.items()}
    slow = len(state["blocks.4.multipathway_blocks.0.res_blocks.0.branch2.conv_c.weight"])
    head = made["cls_head.fc_cls.weight"]
    return made | {"cls_head.fc_cls.weight": torch.cat([head[:, slow:], head[:, :slow]], 1)}


def _mmaction(name: str) -> str:
    if name.startswith("blocks.6.proj."):
        return name.replace("blocks.6.proj.", "cls_head.fc_cls.")
    _, stage, rest = name.split(".", 2)
    if rest.startswith("multipathway_fusion."):
        kind = "conv" if "conv_fast_to_slow" in rest else "bn"
        place = "conv1" if stage == "0" else f"layer{stage}"
        return f"backbone.slow_path.{place}_lateral.{kind}.{rest.rpartition('.')[2]}"
    _, pathway, rest = rest.split(".", 2)
    path = f"backbone.{('slow', 'fast')[int(pathway)]}_path"
    if stage == "0":
        kind, leaf = rest.split(".")
        return f"{path}.conv1.{_LEAF[kind]}.{leaf}"
    _, block, rest = rest.split(".", 2)
    leaf = rest.rpartition(".")[2]
    kind = "conv" if "conv" in rest else "bn"
    letter = re.search(r"(?:conv|norm)_([abc])", rest)
    layer = f"conv{'abc'.index(letter[1]) + 1}" if letter else "downsample"
    return f"{path}.layer{stage}.{block}.{layer}.{kind}.{leaf}"
