"""Weights for a model: read the file without running anything in it, fit it in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.model.description import NetworkDescription, ShortVideos
from slowfast_dist.model.finite import describe_broken
from slowfast_dist.model.heads import HeadStart, describe_head, match_rows

HEAD = ("blocks.6.proj.weight", "blocks.6.proj.bias")
"""Names of the head's weight and bias."""
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")  # of DistributedDataParallel, torch.compile


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights and what is known of it: the classes of its head's rows in their order, the
    --model.name that it was saved from, the network that it is of, and what its clips did beyond
    the end of a short video. None: not known."""

    path: Path
    classes: tuple[str, ...] | None = None
    model: str | None = None
    description: NetworkDescription | None = None
    short_videos: ShortVideos | None = None


@dataclass(frozen=True)
class LoadReport:
    """What the user reads of a model's start, a line an entry, and how its head began."""

    lines: list[str]
    head: HeadStart | None = None


def load_weights(
    model: nn.Module, config: ModelConfig, classes: tuple[str, ...] | None, known: WeightsFile
) -> LoadReport:
    """Fill `model` from the file of --model.weights or of the hub, its head as --model.head says.

    ``classes``: the names of the model's own. Raises UserError if the file cannot be read, if it
    holds numbers that are not finite, or if anything but the head is missing from it.
    """
    flag, path = "--model.weights" if config.weights else "--model.pretrained", known.path
    state = read_state_dict(path, flag)
    own = model.state_dict()
    shapes = {key: value.shape for key, value in own.items()}
    fits = {key: value for key, value in state.items() if value.shape == shapes.get(key)}
    if lacking := [key for key in own if key not in fits and key not in HEAD]:
        if known.model not in (None, config.name):
            raise UserError(
                f"{flag} {path}: is a {known.model} and does not fit --model.name {config.name}: "
                f"give --model.name {known.model}"
            )
        raise UserError(
            f"{flag} {path}: does not fit --model.name {config.name}, as it "
            f"{_misfits(own, state, lacking)}: give the --model.name that the file was saved from"
        )
    outputs = len(own[HEAD[1]])
    head = match_rows(config.head, classes, outputs, known.classes, _head_rows(own, state), path)
    if head.any_kept:
        fits |= {key: _filled(own[key], state[key], head.rows) for key in HEAD}
    else:
        fits = {key: value for key, value in fits.items() if key not in HEAD}
    model.load_state_dict(fits, strict=False)
    left_out = [key for key in state if key not in own]
    lines = [f"{config.name}: loaded {len(fits)} of {len(own)} tensors from {path}"]
    lines.append(describe_head(head, config.head))
    if left_out:
        lines.append(f"left out, the model has no such tensor: {_few(left_out)}")
    return LoadReport(lines, head)


def _head_rows(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> int | None:
    """The number of classes of the file's head; None where it has none that fits."""
    weight, bias = (state.get(key) for key in HEAD)
    if weight is None or bias is None or weight.shape[1:] != own[HEAD[0]].shape[1:]:
        return None
    return len(weight) if weight.shape[:1] == bias.shape else None


def _filled(own: Tensor, theirs: Tensor, rows: tuple[int | None, ...]) -> Tensor:
    """``own`` (K, ...) with these rows of ``theirs``; None: as it is."""
    filled = own.clone()
    for place, row in enumerate(rows):
        if row is not None:
            filled[place] = theirs[row]
    return filled


def read_state_dict(path: Path, flag: str = "--model.weights") -> dict[str, Tensor]:
    """The tensors of a checkpoint by name: .safetensors, a hub file, or a bare state_dict.

    Nothing in the file is executed: pickled objects other than tensors are refused.
    Raises UserError, naming ``flag`` and the file, for whatever is wrong with it, also for numbers
    that are not finite.
    """
    if not path.is_file():
        raise UserError(f"{flag} {path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises nearly anything
        raise UserError(f"{flag} {path}: {_reason(error)}") from error
    for key in ("model_state", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not any(isinstance(v, Tensor) for v in content.values()):
        raise UserError(
            f"{flag} {path}: holds no tensors by name: give a file written by "
            "torch.save(model.state_dict(), ...), or a pytorchvideo hub file"
        )
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if broken := describe_broken({str(key): value for key, value in tensors.items()}):
        raise UserError(
            f"{flag} {path}: {broken}: what wrote it diverged, or it is damaged, and its answers "
            "would mean nothing: give other weights, as those of an earlier epoch"
        )
    return {_WRAPPERS.sub("", str(key)): value for key, value in tensors.items()}


def _reason(error: Exception) -> str:
    """Why a file was not read, and the remedy, from what torch.load or safetensors said."""
    refused = re.search(r"(?i:unsupported global):?(?: GLOBAL)? ([\w.]+)", str(error))
    if refused:
        return (
            f"holds a pickled Python object ({refused[1]}), which could run code, and was not "
            "opened: give a file of weights alone, as best_model_weights.pth, written by "
            "torch.save(model.state_dict(), ...)"
        )
    said = str(error).split("\n")[0].split(". ")[0]
    if isinstance(error, UnpicklingError) or len(said) < 8:  # a page about torch.load, or a number
        said = "it starts like no known format"
    return f"is damaged, or no file of weights ({said}): replace it"


def _misfits(own: dict[str, Tensor], state: dict[str, Tensor], lacking: list[str]) -> str:
    missing = [key for key in lacking if key not in state]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in lacking
        if key in state
    ]
    what = [f"lacks {_few(missing)}"] if missing else []
    what += [f"has another shape for {_few(shapes)}"] if shapes else []
    return " and ".join(what)


def _few(names: list[str]) -> str:
    """The first names and how many there are."""
    return ", ".join(names[:3]) + (f", ... ({len(names)} in all)" if len(names) > 3 else "")
