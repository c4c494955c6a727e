"""The network of a training, from the settings or a checkpoint to the device."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from slowfast_dist.config.checks import require
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.distributed.collectives import run_on_main
from slowfast_dist.model import slowfast
from slowfast_dist.model.convolution import fused_dtypes
from slowfast_dist.model.description import NetworkDescription, from_json, network_defaults
from slowfast_dist.model.hub import hub_file, is_published
from slowfast_dist.model.slowfast import SlowFast, live_batchnorms
from slowfast_dist.model.weights import LoadReport
from slowfast_dist.runs.checkpoint import Checkpoint
from slowfast_dist.system.log import logger
from slowfast_dist.training.start_weights import find_weights, other_clips


def network_of(state: Mapping[str, Any], name: str) -> NetworkDescription:
    """The network of a checkpoint's state; older versions, which did not write it, knew the one
    published under ``name`` alone. Raises RunError for what no version wrote."""
    try:
        return from_json(state["network"]) if "network" in state else network_defaults(name)
    except (AttributeError, TypeError, ValueError) as error:
        raise RunError(
            f"the checkpoint's network is not one of this version ({error}): remove the checkpoint "
            "to go on from the one before, or start over in a new --output-dir"
        ) from error


def check_frames(
    network: NetworkDescription, num_frames: int, flag: str = "data.num-frames"
) -> None:
    """Raise UserError where the slow pathway cannot take one frame in alpha of a clip."""
    alpha = network.alpha
    remedy = f"give a multiple of {alpha}, as the slow pathway of this {network.name} takes one "
    require(num_frames % alpha == 0, flag, num_frames, f"{remedy}frame in {alpha}")


def compile_network(network: nn.Module, mode: str | None = None) -> None:
    """torch.compile for shapes that do not change: a short last batch is compiled by itself.
    ``mode``: torch.compile's; None is its default.

    A second start is quick (slowfast_tiny on a CPU: 5 CPU seconds in place of 148), as the result
    is not in torch's own place for it, /tmp, which a restart of the machine empties.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "slowfast_dist" / "compiled"))
    network.compile(dynamic=False, mode=mode)


def summary(accelerator: Accelerator, network: SlowFast, compiled: bool) -> str:
    """One line for the user: what a step is computed with on this machine."""
    device, threads = accelerator.device.type, torch.get_num_threads()
    name = f"{device}, {threads} thread{'s' if threads > 1 else ''}"
    parts = [
        _describe_precision(device, accelerator.mixed_precision),
        "channels_last_3d" if network.channels_last else "contiguous",
        _describe_norm(network),
    ]
    if compiled:
        parts.append("compiled")
    elif device == "cpu" and fused_dtypes():
        parts.append("convolutions with sum and ReLU in one pass")
    if network.checkpoint_activations:
        parts.append("activations computed again")
    return f"{torch.cuda.get_device_name() if device == 'cuda' else name}: {', '.join(parts)}"


def _describe_precision(device: str, precision: str) -> str:
    if precision == "no":
        return "fp32 (TF32)" if device == "cuda" else "fp32"
    if device != "cpu":
        return precision
    if torch.cpu._is_amx_tile_supported():
        return f"{precision} (AMX)"
    if torch.cpu._is_avx512_bf16_supported():
        return f"{precision} (AVX512-bf16)"
    return f"{precision} (emulated, so slow: --mixed-precision no is faster here)"


def _describe_norm(network: SlowFast) -> str:
    if not any(live_batchnorms(network)):
        return "frozen BatchNorm folded into the convolutions"
    words = f"BatchNorm {'synchronised' if network.norm == 'sync' else 'local'}"
    stages = network.frozen_stages
    return f"{words}, folded in the {stages} frozen stages" if stages else words


def set_up_network(
    config: ModelConfig, classes: int | Sequence[str], accelerator: Accelerator,
    checkpoint: Checkpoint | None, data: DataConfig | None = None,
) -> tuple[SlowFast, LoadReport]:  # fmt: skip
    """Collective: the network in training mode, outside any wrapper, its norm decided; and what
    was loaded.

    ``classes``: their names, or how many. Network and weights come from ``checkpoint`` where there
    is one, for `TrainingState.restore`. Where those of a run saw other clips than ``data`` cuts,
    that is said. Raises UserError for settings that this model or machine has not.
    """
    clip: dict[str, Any] | None = None
    if checkpoint is not None:  # needs no other weights, and its norm is decided
        norm = checkpoint.state["norm"] if config.norm == "auto" else config.norm
        config = replace(config, pretrained=False, weights=None, head="auto", norm=norm)
        count = classes if isinstance(classes, int) else len(classes)
        description = network_of(checkpoint.state, config.name)
        network, report = SlowFast(description, count, config.dropout), LoadReport([])
    else:
        known, clip = find_weights(config.weights) if config.weights else (None, None)
        published = config.published
        if known is None and published and is_published(published, config.name):
            run_on_main(accelerator, lambda: str(hub_file(published, config.name)))  # one download
        if data:  # before the weights are read, which may take long
            check_frames(slowfast.choose_network(config, known), data.num_frames)
        network, report = slowfast.build_model(config, classes, known)
    for line in report.lines:
        logger.info(line)
    if clip and data and (differences := other_clips(clip, data)):
        logger.warning(f"--model.weights {config.weights} saw other clips: {differences}")
    norm = slowfast.resolve_norm(config, slowfast.starts_pretrained(config))
    if norm == "sync" and accelerator.device.type != "cuda":
        raise UserError("--model.norm sync needs GPUs: use local or frozen on a CPU")
    # All of it before prepare(): DistributedDataParallel would not notice the change later.
    slowfast.set_norm(network, norm)
    slowfast.freeze(network, config.freeze)
    network.to(accelerator.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    network.checkpoint_activations = config.checkpoint_activations
    if config.compile:
        compile_network(network)
    logger.info(summary(accelerator, network, config.compile))
    if config.compile and accelerator.device.type == "cpu":
        logger.warning(
            "--model.compile on a CPU: compiling takes minutes before the first step, and no "
            "faster step was measured than without"
        )
    return network.train(), report
