"""The network of a training, from the settings or a checkpoint to the device."""

from dataclasses import replace

import torch
from accelerate import Accelerator

from slowfast_dist.checkpoint import Checkpoint
from slowfast_dist.config import ModelConfig, UserError
from slowfast_dist.distributed import on_main, say
from slowfast_dist.hardware import compile_network, summary
from slowfast_dist.model import (
    SlowFast,
    build_model,
    freeze,
    resolve_norm,
    set_norm,
    starts_pretrained,
)
from slowfast_dist.weights import hub_file

COMPILED_ON_CPU = (
    "warning: --model.compile on a CPU: compiling takes minutes before the first step, and no "
    "faster step was measured than without"
)


def set_up_network(
    config: ModelConfig, num_classes: int, accelerator: Accelerator, checkpoint: Checkpoint | None
) -> SlowFast:
    """Collective: the network in training mode, outside any wrapper, its norm decided.

    Weights come from ``checkpoint`` where there is one, for `TrainingState.restore`.
    Raises UserError for settings that this model or machine has not.
    """
    if checkpoint is not None:  # needs no other weights, and its norm is decided
        norm = checkpoint.state["norm"] if config.norm == "auto" else config.norm
        config = replace(config, pretrained=False, weights=None, norm=norm)
    if starts_pretrained(config) and config.weights is None:
        on_main(accelerator, lambda: str(hub_file(config.name)))  # one download, not W
    network, report = build_model(config, num_classes)
    for line in report if checkpoint is None else ():
        say(accelerator, line)
    norm = resolve_norm(config, starts_pretrained(config))
    if norm == "sync" and accelerator.device.type != "cuda":
        raise UserError("--model.norm sync needs GPUs: use local or frozen on a CPU")
    # All of it before prepare(): DistributedDataParallel would not notice the change later.
    set_norm(network, norm)
    freeze(network, config.freeze)
    network.to(accelerator.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    network.checkpoint_activations = config.checkpoint_activations
    if config.compile:
        compile_network(network)
    say(accelerator, summary(accelerator, network, config.compile))
    if config.compile and accelerator.device.type == "cpu":
        say(accelerator, COMPILED_ON_CPU)
    return network.train()
