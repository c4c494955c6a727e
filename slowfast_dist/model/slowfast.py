"""SlowFast as one module from uint8 frames to logits: build it, freeze it, set its BatchNorms.

The network is pytorchvideo's, entry for entry of its state_dict, so that published weights load.
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.fields import ModelName
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.model.blocks import pathway_blocks, stage, stem
from slowfast_dist.model.convolution import are_fused, compute_dtype
from slowfast_dist.model.description import (
    ARCHITECTURES,
    NetworkDescription,
    from_json,
    network_defaults,
)
from slowfast_dist.model.hub import hub_file, is_published
from slowfast_dist.model.inputs import pathways, raw_pathways
from slowfast_dist.model.weights import LoadReport, WeightsFile, load_weights

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
        with warnings.catch_warnings():
            # From torch 2.14 on, on every start: fvcore scripts losses that are never used here.
            warnings.filterwarnings("ignore", "`torch.jit.script`")
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

def plain_network(
    network: NetworkDescription, num_classes: int, dropout: float = 0.5
) -> nn.Module:
    """pytorchvideo's network, which takes [slow, fast] clips, with the laterals of ``network``."""
    plain: Any = create_slowfast(
        model_num_class=num_classes, dropout_rate=dropout, head_pool=nn.AdaptiveAvgPool3d,
        slowfast_fusion_conv_kernel_size=(network.fusion_kernel, 1, 1),
        slowfast_fusion_conv_stride=(network.alpha, 1, 1), **ARCHITECTURES[network.name],
    )  # fmt: skip
    for block in plain.blocks[: STAGES - 1]:
        fusion = block.multipathway_fusion
        if not network.lateral_norm:
            fusion.norm = None
        if not network.lateral_activation:
            fusion.activation = None
    assert isinstance(plain, nn.Module)
    return plain


class SlowFast(nn.Module):
    """uint8 frames (B, T, 3, H, W), T a multiple of alpha -> logits (B, num_classes).

    The head's weights start as nn.Linear's own, from torch's random state.
    """

    __module__ = "slowfast_dist.model"  # what every best_model_architecture.pth names, old and new

    checkpoint_activations = False
    """Whether training keeps only the inputs of residual blocks and computes the rest again."""

    def __init__(
        self, description: NetworkDescription | str, num_classes: int, dropout: float
    ) -> None:
        """``description``: or the name of a published network."""
        super().__init__()
        if isinstance(description, str):
            description = network_defaults(description)
        self.description, self.num_classes, self.dropout = description, num_classes, dropout
        self.norm: Norm = "local"
        self.frozen_stages = 0
        self.blocks: Any = plain_network(description, num_classes, dropout).blocks
        self.head.proj.reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Conv3d):  # pytorchvideo's np.int64 break torch.compile's graph
                module.stride = tuple(map(int, module.stride))
        if self.name == "slowfast_tiny":
            self._open_residual_branches()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a best_model_architecture.pth; older versions knew the published networks alone."""
        if "description" not in state:
            state = state | {"description": network_defaults(state["name"])}
        super().__setstate__({key: value for key, value in state.items() if key != "name"})

    @property
    def name(self) -> str:
        """Of its architecture."""
        return self.description.name

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
        return self.head(self._pooled(frames))

    def logits_and_features(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` and `features` give, of one pass."""
        pooled = self._pooled(frames)
        return self.head(pooled), pooled.float().mean(dim=(2, 3, 4))

    def features(self, frames: Tensor) -> Tensor:
        """float32 (B, F) of uint8 frames (B, T, 3, H, W): the last linear layer's input, both
        pathways joined; the mean where the pooling leaves several places, of which the layer makes
        the same logits."""
        return self._pooled(frames).float().mean(dim=(2, 3, 4))

    def _pooled(self, frames: Tensor) -> Tensor:
        """What the head is given: (B, F, T, H, W)."""
        if self.channels_last and are_fused(frames.device):
            normalising = partial(stem, network=self.description)
            return self._pooled_pathways(raw_pathways(frames, self.description), normalising)
        memory_format = torch.channels_last_3d if self.channels_last else torch.contiguous_format
        # On a CPU the first convolution converts.
        dtype = compute_dtype(torch.float32, frames.device) if frames.is_cuda else torch.float32
        return self._pooled_pathways(pathways(frames, self.description, memory_format, dtype))

    def pathway_features(self, clips: Sequence[Tensor]) -> Tensor:
        """As `features`, of normalised [slow (B, 3, T/alpha, H, W), fast (B, 3, T, H, W)]."""
        return self._pooled_pathways(list(clips)).float().mean(dim=(2, 3, 4))

    def _pooled_pathways(
        self, x: list[Tensor], first: Callable[[Any, Tensor], Tensor] = stem
    ) -> Tensor:
        recompute = self.checkpoint_activations and self.training
        x = pathway_blocks(self.blocks[0], x, first)
        for block in self.blocks[1:STAGES]:
            x = pathway_blocks(block, x, partial(stage, recompute=recompute))
        pool = self.blocks[STAGES]
        pooled: Tensor = pool(x)
        return pooled

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


def stage_parameters(model: nn.Module) -> list[list[nn.Parameter]]:
    """The backbone's parameters, those of each of the STAGES, the stem first."""
    return [list(block.parameters()) for block in slowfast(model).blocks[:STAGES]]


def live_batchnorms(model: nn.Module) -> Iterator[_BatchNorm]:
    """The BatchNorms whose statistics update in training, whatever the mode is now."""
    net = slowfast(model)
    if net.norm != "frozen":
        modules = net.blocks[net.frozen_stages :].modules()
        yield from (module for module in modules if isinstance(module, _BatchNorm))


def freeze(model: nn.Module, what: int | Literal["none", "backbone", "auto"]) -> None:
    """No gradients and no new BatchNorm statistics for the first `what` of 5 stages, or for all;
    auto was decided before."""
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
    return config.weights is not None or is_published(config.published, config.name)


def resolve_norm(config: ModelConfig, loaded: bool) -> Norm:
    """The norm that is used: auto is frozen where a backbone was loaded, else local."""
    if config.norm != "auto":
        return config.norm
    return "frozen" if loaded else "local"


def choose_network(config: ModelConfig, known: WeightsFile | None) -> NetworkDescription:
    """The network that a training starts with: that of the file of --model.weights where it is
    known, else the one published under --model.name.

    Raises UserError where the file is of another one than a --model.name that was asked for.
    """
    if known is None or known.description is None:
        return network_defaults(config.name)
    found = known.description
    same = ARCHITECTURES[found.name] == ARCHITECTURES[config.name]
    if not same and config.name != ModelConfig().name:  # who gives none takes what the file is
        raise UserError(
            f"--model.weights {known.path}: is a {found.name} and does not fit --model.name "
            f"{config.name}: give --model.name {found.name}"
        )
    return found


def network_line(network: NetworkDescription, config: ModelConfig) -> str | None:
    """What to tell where a network is not the one published under --model.name; else None."""
    if network == network_defaults(config.name):
        return None
    unlike = network.differences(network_defaults(network.name))
    what = f"{network.name}{' with ' if unlike else ''}{', '.join(unlike)}"
    return f"the network is that of the weights: {what}"


def _published_file(config: ModelConfig) -> Path:
    assert config.published is not None
    return hub_file(config.published, config.name)


def build_model(
    config: ModelConfig, classes: int | Sequence[str], known: WeightsFile | None = None
) -> tuple[SlowFast, LoadReport]:
    """The model with the weights that `config` asks for, and the load report.

    ``classes``: their names, or how many; ``known``: the file of --model.weights and what is known
    of it; its description, where it has one, is the network. Does not freeze and does not set the
    norm: see `freeze`, `set_norm`, `resolve_norm`. Raises UserError for weights that cannot be had,
    read or fitted.
    """
    names = None if isinstance(classes, int) else tuple(classes)
    num_classes = classes if isinstance(classes, int) else len(classes)
    model = SlowFast(choose_network(config, known), num_classes, config.dropout)
    if starts_pretrained(config):
        if known is None:
            known = WeightsFile(config.weights or _published_file(config))
        name = cast(ModelName, model.description.name)
        report = load_weights(model, replace(config, name=name), names, known)
        told = known.content is not None and known.content.lines(known.path)
        line = None if told else network_line(model.description, config)
        return model, replace(report, lines=[*([line] if line else []), *report.lines])
    reason = "has no published weights" if config.published else "--model.pretrained is off"
    if config.head == "keep":
        raise UserError(
            f"--model.head keep: {config.name} starts from scratch ({reason}), so there is no head "
            "to keep: give --model.weights"
        )
    return model, LoadReport([f"{config.name}: starts from scratch ({reason})"])


def describe(model: nn.Module) -> dict[str, Any]:
    """What `rebuild` needs, and how the model takes its frames, in JSON's types."""
    net = slowfast(model)
    sizes = {"num_classes": net.num_classes, "dropout": net.dropout}
    return net.description.as_json() | sizes


_DRAWN = {
    Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_normal_,
    nn.init.kaiming_uniform_,
}  # fmt: skip
"""What fills new weights at random."""


class _Undrawn(TorchFunctionMode):
    """Tensors that would be filled at random stay as they are: whatever was in their memory."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        if func in _DRAWN:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def rebuild_empty(description: Mapping[str, Any]) -> SlowFast:
    """`rebuild` without drawing weights, which `take_over` is to give: .3 CPU seconds of
    slowfast_r50. (On the device meta it would take 1: findings/torch_meta_weights_import_sympy.sh.)
    Raises as that."""
    with _Undrawn():
        return rebuild(description)


def take_over(network: SlowFast, state: Mapping[str, Tensor]) -> None:
    """Give the network these weights, in the memory in which they are where type and order are the
    network's own. Raises RuntimeError for weights that do not fit."""
    kinds = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    own = {
        name: tensor.to(kinds.get(name, tensor.dtype)).contiguous()
        for name, tensor in state.items()
    }
    network.load_state_dict(own, assign=True)


def rebuild(description: Mapping[str, Any]) -> SlowFast:
    """The network that `describe` described, without its weights, in evaluation mode.

    Raises UserError for one that this version does not know.
    """
    try:
        network = from_json(description)
    except ValueError as error:
        remedy = "use the version of slowfast_dist that trained it"
        raise UserError(f"model {error}: {remedy}") from None
    return SlowFast(network, description["num_classes"], description["dropout"]).eval()
