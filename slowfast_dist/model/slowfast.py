"""SlowFast as one module from uint8 frames to logits: build it, freeze it, set its BatchNorms.

The network is pytorchvideo's, entry for entry of its state_dict, so that published weights load.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast_dist.config.data import RESNET_ALPHA
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.model.blocks import pathway_blocks, stage, stem
from slowfast_dist.model.convolution import compute_dtype
from slowfast_dist.model.inputs import NORMALISATION, pathways
from slowfast_dist.model.weights import HUB_FILES, LoadReport, WeightsFile, hub_file, load_weights

STAGES = 5
"""blocks 0 (stem) to 4 have parameters, 5 pools, 6 is the head."""

Norm = Literal["local", "sync", "frozen"]


def _without_torchvision() -> Any:
    """pytorchvideo's SlowFast builder, imported with an empty stand-in for torchvision.

    pytorchvideo.models needs the name torchvision.ops.RoIAlign, for detection heads that are never
    built here, and a torchvision that does not match torch fails to import half-way. So the real
    one is used only where it is loaded already. The stand-in goes out again: torch.onnx and others
    look for torchvision and would take it for the real one.
    """
    before = {name: module for name, module in sys.modules.items() if _is_torchvision(name)}
    stand_in = not {"torchvision", "torchvision.ops"} <= before.keys()
    if stand_in:
        package, ops = ModuleType("torchvision"), ModuleType("torchvision.ops")
        vars(ops)["RoIAlign"] = None
        sys.modules.update({"torchvision": package, "torchvision.ops": ops})
    try:
        from pytorchvideo.models.slowfast import create_slowfast
    finally:
        if stand_in:
            for name in [name for name in sys.modules if _is_torchvision(name)]:
                del sys.modules[name]
            sys.modules.update(before)
    return create_slowfast


def _is_torchvision(name: str) -> bool:
    return name == "torchvision" or name.startswith("torchvision.")


create_slowfast = _without_torchvision()

_CONV_A_16X8 = ((1, 1, 1), (1, 1, 1), ((3, 1, 1),) * 6 + ((1, 1, 1),) * 17, (3, 1, 1))
_CONV_A_16X8_FAST = ((3, 1, 1), (3, 1, 1), ((3, 1, 1),) * 6 + ((1, 1, 1),) * 17, (3, 1, 1))

ARCHITECTURES: dict[str, dict[str, Any]] = {
    # The first three as in pytorchvideo/models/hub/slowfast.py, but for the pooling before the
    # head: there it has a fixed size, here it is adaptive (equal where the fixed one fits).
    "slowfast_r50": {"model_depth": 50, "slowfast_fusion_conv_kernel_size": (7, 1, 1)},
    "slowfast_r101": {"model_depth": 101, "slowfast_fusion_conv_kernel_size": (5, 1, 1)},
    "slowfast_16x8_r101_50_50": {
        "model_depth": 101, "slowfast_fusion_conv_kernel_size": (5, 1, 1),
        "stage_conv_a_kernel_sizes": (_CONV_A_16X8, _CONV_A_16X8_FAST),
    },
    # One block a stage, a quarter of the slow channels. Forward and backward of 16 clips of 16
    # frames at 64 x 64: .24 s on 2 CPU cores. Twice the fast channels: slower, and no better.
    "slowfast_tiny": {
        "model_depth": 18, "slowfast_fusion_conv_kernel_size": (7, 1, 1),
        "stem_dim_outs": (16, 4), "slowfast_channel_reduction_ratio": 4,
    },
}  # fmt: skip


class SlowFast(nn.Module):
    """uint8 frames (B, T, 3, H, W), T a multiple of 4 -> logits (B, num_classes).

    The head's weights start as nn.Linear's own, from torch's random state.
    """

    __module__ = "slowfast_dist.model"  # what every best_model_architecture.pth names, old and new

    checkpoint_activations = False
    """Whether training keeps only the inputs of residual blocks and computes the rest again."""

    def __init__(self, name: str, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.name, self.num_classes, self.dropout = name, num_classes, dropout
        self.norm: Norm = "local"
        self.frozen_stages = 0
        network = create_slowfast(
            model_num_class=num_classes, dropout_rate=dropout, head_pool=nn.AdaptiveAvgPool3d,
            **ARCHITECTURES[name],
        )  # fmt: skip
        self.blocks = network.blocks
        self.head.proj.reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Conv3d):  # pytorchvideo's np.int64 break torch.compile's graph
                module.stride = tuple(map(int, module.stride))
        if name == "slowfast_tiny":
            self._open_residual_branches()

    @property
    def head(self) -> Any:
        """Dropout, the linear layer `proj`, and the average over what is left of time and space."""
        return self.blocks[-1]

    @property
    def channels_last(self) -> bool:
        """Whether the weights lie in memory so; then activations do as well."""
        weight = self.blocks[0].multipathway_blocks[0].conv.weight
        return weight.is_contiguous(memory_format=torch.channels_last_3d)

    def _open_residual_branches(self) -> None:
        """Start them at scale 1; pytorchvideo starts them at 0, which helps deep nets. 192
        synthetic videos, batch 8, 10 epochs, one seed: validation accuracy .73 instead of .44."""
        for module in self.modules():
            if isinstance(module, _BatchNorm) and getattr(module, "block_final_bn", False):
                nn.init.ones_(module.weight)

    def forward(self, frames: Tensor) -> Tensor:
        memory_format = torch.channels_last_3d if self.channels_last else torch.contiguous_format
        # On a CPU the first convolution converts while it rearranges.
        dtype = compute_dtype(torch.float32, frames.device) if frames.is_cuda else torch.float32
        x = pathways(frames, memory_format, dtype)
        recompute = self.checkpoint_activations and self.training
        x = pathway_blocks(self.blocks[0], x, stem)
        for block in self.blocks[1:STAGES]:
            x = pathway_blocks(block, x, partial(stage, recompute=recompute))
        pool = self.blocks[STAGES]
        return self.head(pool(x))

    def train(self, mode: bool = True) -> Self:
        """As usual, but BatchNorms whose statistics are frozen stay in evaluation mode."""
        super().train(mode)
        live = {id(module) for module in live_batchnorms(self)}
        for module in self.modules():
            if isinstance(module, _BatchNorm) and id(module) not in live:
                module.eval()
        return self


def slowfast(model: nn.Module) -> SlowFast:
    """The SlowFast inside DistributedDataParallel, torch.compile or nothing at all."""
    found = next((module for module in model.modules() if isinstance(module, SlowFast)), None)
    assert found is not None, type(model)
    return found


def head_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Weight and bias of the new linear layer; every other parameter is the backbone."""
    return list(slowfast(model).head.parameters())


def live_batchnorms(model: nn.Module) -> Iterator[_BatchNorm]:
    """The BatchNorms whose statistics update in training, whatever the mode is now."""
    net = slowfast(model)
    if net.norm != "frozen":
        modules = net.blocks[net.frozen_stages :].modules()
        yield from (module for module in modules if isinstance(module, _BatchNorm))


def freeze(model: nn.Module, what: int | Literal["none", "backbone"]) -> None:
    """No gradients and no new BatchNorm statistics for the first `what` of 5 stages, or for all."""
    net = slowfast(model)
    net.frozen_stages = {"none": 0, "backbone": STAGES}[what] if isinstance(what, str) else what
    for index, block in enumerate(net.blocks):
        block.requires_grad_(index >= net.frozen_stages)
    net.train(net.training)


def set_norm(model: nn.Module, norm: Norm) -> None:
    """BatchNorm statistics: local of each micro-batch, sync of all processes, frozen as they are.

    Scale and shift train in all three. Call it before DistributedDataParallel; sync trains on GPUs
    only, and stays SyncBatchNorm.
    """
    net = slowfast(model)
    net.norm = norm
    if norm == "sync":
        nn.SyncBatchNorm.convert_sync_batchnorm(net)
    net.train(net.training)


def starts_pretrained(config: ModelConfig) -> bool:
    """Whether `build_model` loads a backbone."""
    return config.weights is not None or (config.pretrained and config.name in HUB_FILES)


def resolve_norm(config: ModelConfig, loaded: bool) -> Norm:
    """The norm that is used: auto is frozen where a backbone was loaded, else local."""
    if config.norm != "auto":
        return config.norm
    return "frozen" if loaded else "local"


def build_model(
    config: ModelConfig, classes: int | Sequence[str], known: WeightsFile | None = None
) -> tuple[SlowFast, LoadReport]:
    """The model with the weights that `config` asks for, and the load report.

    ``classes``: their names, or how many; ``known``: the file of --model.weights and what is known
    of it. Does not freeze and does not set the norm: see `freeze`, `set_norm`, `resolve_norm`.
    Raises UserError for weights that cannot be had, read or fitted.
    """
    names = None if isinstance(classes, int) else tuple(classes)
    num_classes = classes if isinstance(classes, int) else len(classes)
    model = SlowFast(config.name, num_classes, config.dropout)
    if starts_pretrained(config):
        known = known or WeightsFile(config.weights or hub_file(config.name))
        return model, load_weights(model, config, names, known)
    reason = "has no published weights" if config.pretrained else "--model.pretrained is off"
    if config.head == "keep":
        raise UserError(
            f"--model.head keep: {config.name} starts from scratch ({reason}), so there is no head "
            "to keep: give --model.weights"
        )
    return model, LoadReport([f"{config.name}: starts from scratch ({reason})"])


def describe(model: nn.Module) -> dict[str, Any]:
    """What `rebuild` needs, and how the model takes its frames, in JSON's types."""
    net = slowfast(model)
    return {
        "name": net.name, "num_classes": net.num_classes, "dropout": net.dropout,
        "alpha": RESNET_ALPHA, "normalisation": NORMALISATION,
    }  # fmt: skip


def rebuild(description: Mapping[str, Any]) -> SlowFast:
    """The architecture that `describe` described, without its weights, in evaluation mode."""
    name = description.get("name")
    if name not in ARCHITECTURES:
        raise UserError(f"model name {name!r}: not one of {', '.join(ARCHITECTURES)}")
    return SlowFast(name, description["num_classes"], description["dropout"]).eval()
