"""Whose weights a file holds: every layout gives the same tensors, its network and its line.

The names are made by tests/helpers/foreign_weights.py from the frameworks' sources; that real
checkpoints of PySlowFast and MMAction2 give the frameworks' own logits is in docs/migrating.md.
"""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from slowfast_dist.config.errors import UserError
from slowfast_dist.model.description import NetworkDescription, network_defaults
from slowfast_dist.model.foreign import mmaction
from slowfast_dist.model.foreign.recognise import read_weights
from slowfast_dist.model.slowfast import SlowFast
from tests.helpers.foreign_weights import (
    State,
    as_caffe2,
    as_mmaction,
    as_pyslowfast,
    random_state,
)

MMACTION: dict[str, Any] = {"slow_frames": "stride", "mean": mmaction.MEAN, "std": mmaction.STD}


def state_of(network: NetworkDescription | str, classes: int = 3) -> State:
    return random_state(SlowFast(network, classes, 0.5).state_dict())


@pytest.fixture(scope="module")
def tiny() -> State:
    return state_of("slowfast_tiny")


def assert_same(found: dict[str, torch.Tensor], expected: State) -> None:
    assert found.keys() >= expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


PYSLOWFAST_CFG = """
DATA: {MEAN: [0.5, 0.5, 0.5], STD: [0.2, 0.2, 0.2], NUM_FRAMES: 16, SAMPLING_RATE: 4}
SLOWFAST: {ALPHA: 4, FUSION_KERNEL_SZ: 7}
"""


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", ["", "module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_pyslowfast(tiny: State, tmp_path: Path, wrap: str, zipped: bool) -> None:
    path = tmp_path / "checkpoint_epoch_00003.pyth"
    named = {wrap + name: value for name, value in as_pyslowfast(tiny).items()}
    saved = {"epoch": 2, "model_state": named, "optimizer_state": {"state": {0: 1}}}
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    found = read_weights(path)
    assert_same(found.tensors, tiny)
    assert (found.framework, found.description) == ("PySlowFast", network_defaults("slowfast_tiny"))
    assert found.clip["frame_rate"] == 30.0 and found.clip["short_videos"] == "repeat-last"


def test_pyslowfast_tells_its_settings(tiny: State, tmp_path: Path) -> None:
    torch.save({"model_state": as_pyslowfast(tiny), "cfg": PYSLOWFAST_CFG}, tmp_path / "a.pyth")
    found = read_weights(tmp_path / "a.pyth")
    assert found.description == replace(
        network_defaults("slowfast_tiny"), mean=(0.5,) * 3, std=(0.2,) * 3
    )
    assert (found.clip["num_frames"], found.clip["sampling_rate"]) == (16, 4)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pkl_of_the_zoo_is_its_pyth(tiny: State, tmp_path: Path, protocol: int) -> None:
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps({"blobs": as_caffe2(tiny)}, protocol))
    torch.save({"model_state": as_pyslowfast(tiny)}, tmp_path / "zoo.pyth")
    zoo, pyth = (read_weights(tmp_path / f"zoo.{end}") for end in ("pkl", "pyth"))
    assert zoo.description == pyth.description
    counters = {name for name in tiny if name.endswith("num_batches_tracked")}
    assert_same(zoo.tensors, {name: pyth.tensors[name] for name in tiny.keys() - counters})
    assert all(zoo.tensors[name] == 0 for name in counters)
    assert zoo.tensors.keys() - tiny.keys() == {"lr", "model_iter"}


MMACTION_CFG = """
file_client_args = dict(io_backend='disk')
model = dict(
    backbone=dict(type='ResNet3dSlowFast', resample_rate=4, speed_ratio=4),
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[51, 51, 51]))
test_pipeline = [
    dict(type='DecordInit', **file_client_args),
    dict(type='SampleFrames', clip_len=16, frame_interval=3, num_clips=10, test_mode=True,
         out_of_bound_opt='repeat_last'),
    dict(type='Resize', scale=(-1, 128)), dict(type='ThreeCrop', crop_size=112)]
"""


@pytest.mark.parametrize("norm", [True, False])
def test_mmaction(tmp_path: Path, norm: bool) -> None:
    network = replace(
        network_defaults("slowfast_tiny"), lateral_norm=norm, lateral_activation=norm, **MMACTION
    )
    state = state_of(network)
    saved = {"meta": {"epoch": 3, "tool": Path("x")}, "state_dict": as_mmaction(state)}
    torch.save(saved, tmp_path / "epoch_3.pth")
    found = read_weights(tmp_path / "epoch_3.pth")
    assert_same(found.tensors, state)
    assert found.description == network
    assert found.clip["frame_rate"] == "video" and found.clip["short_videos"] == "loop"
    assert "alpha 4 is what published networks" in found.lines(tmp_path)[0]

    meta = {"cfg": MMACTION_CFG, "dataset_meta": {"classes": ["a", "b", "c"]}}
    torch.save({"meta": meta, "state_dict": as_mmaction(state)}, tmp_path / "epoch_4.pth")
    told = read_weights(tmp_path / "epoch_4.pth")
    assert told.description == replace(network, mean=(0.5,) * 3, std=(0.2,) * 3)
    assert told.classes == ("a", "b", "c") and not told.notes
    expected = {"num_frames": 16, "sampling_rate": 3, "frame_rate": "video", "short_side": 128,
                "crop_size": 112, "short_videos": "repeat-last"}  # fmt: skip
    assert {name: told.clip[name] for name in expected} == expected


def test_the_line_says_whose_it_is_and_what_that_sets(tmp_path: Path) -> None:
    network = replace(
        network_defaults("slowfast_tiny"), lateral_norm=False, lateral_activation=False, **MMACTION
    )
    path = tmp_path / "epoch_3.pth"
    torch.save({"state_dict": as_mmaction(state_of(network))}, path)
    assert read_weights(path).lines(path) == [
        f"{path}: weights of MMAction2: slowfast_tiny, alpha 4, lateral kernels of 7 with neither "
        "BatchNorm nor ReLU, slow frames every alpha-th, mean 0.485 0.456 0.406, std 0.229 0.224 "
        "0.225; alpha 4 is what published networks with lateral kernels of 7 have: the file does "
        "not tell"
    ]


@pytest.mark.parametrize(
    ("blocks", "kernel", "wide", "name", "alpha"),
    [
        (6, 7, 3, "slowfast_r50", 4), (6, 5, 3, "slowfast_r50_4x16", 8),
        (23, 5, 3, "slowfast_r101", 4), (23, 5, 1, "slowfast_16x8_r101_50_50", 4),
    ],
)  # fmt: skip
def test_the_network_shows_in_its_tensors(
    blocks: int, kernel: int, wide: int, name: str, alpha: int, tmp_path: Path
) -> None:
    state = {"blocks.0.multipathway_blocks.0.conv.weight": torch.ones(1)}
    state["blocks.0.multipathway_fusion.conv_fast_to_slow.weight"] = torch.ones(2, 1, kernel, 1, 1)
    state["blocks.0.multipathway_fusion.norm.weight"] = torch.ones(2)
    for block in range(blocks):
        for pathway in (0, 1):
            place = f"blocks.3.multipathway_blocks.{pathway}.res_blocks.{block}.branch2"
            state[f"{place}.conv_a.weight"] = torch.ones(1, 1, wide, 1, 1)
    torch.save(state, tmp_path / "a.pth")
    found = read_weights(tmp_path / "a.pth").description
    assert found == replace(network_defaults(name), alpha=alpha)
    del state["blocks.3.multipathway_blocks.1.res_blocks.2.branch2.conv_a.weight"]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match="networks of two depths are not built here"):
        read_weights(tmp_path / "a.pth")


class Module(nn.Module):
    """As a training of somebody's wraps a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.net, self.blocks_of_mine = network, nn.Linear(2, 2)


def test_wrapped_and_whole_and_safetensors(tiny: State, tmp_path: Path) -> None:
    network = SlowFast("slowfast_tiny", 3, 0.5)
    network.load_state_dict(tiny)
    torch.save(Module(network), tmp_path / "whole.pt")
    torch.save({"state_dict": Module(network).state_dict(), "callbacks": {Path: 1},
                "pytorch-lightning_version": "2.5"}, tmp_path / "lightning.ckpt")  # fmt: skip
    save_file(tiny, tmp_path / "weights.safetensors")
    save_file(as_pyslowfast(tiny), tmp_path / "misnamed.pth")
    for name in ("whole.pt", "lightning.ckpt", "weights.safetensors", "misnamed.pth"):
        found = read_weights(tmp_path / name)
        assert_same(found.tensors, tiny)
        more = found.tensors.keys() - tiny.keys()
        assert more <= {"blocks_of_mine.weight", "blocks_of_mine.bias"}, name


def test_a_whole_model_of_ours_keeps_its_description(tmp_path: Path) -> None:
    network = replace(network_defaults("slowfast_tiny"), alpha=8, **MMACTION)
    torch.save(SlowFast(network, 3, 0.5), tmp_path / "best_model_architecture.pth")
    assert read_weights(tmp_path / "best_model_architecture.pth").description == network


def test_what_cannot_be_fed_here_is_refused(tiny: State, tmp_path: Path) -> None:
    path = tmp_path / "a.pyth"
    cfg = PYSLOWFAST_CFG.replace("DATA: {", "DATA: {REVERSE_INPUT_CHANNEL: true, ")
    torch.save({"model_state": as_pyslowfast(tiny), "cfg": cfg}, path)
    with pytest.raises(UserError, match="blue first"):
        read_weights(path)


def test_names_that_nobody_knows_are_listed(tmp_path: Path) -> None:
    torch.save({"conv1_w": torch.ones(1), "layer.bias": torch.ones(1)}, tmp_path / "a.pth")
    found = read_weights(tmp_path / "a.pth")
    assert found.framework == "unknown" and found.description is None
