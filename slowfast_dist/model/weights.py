"""Weights for a model: find the file, read it without running anything in it, fit it in."""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.model.finite import describe_broken
from slowfast_dist.model.heads import HeadStart, describe_head, match_rows

HUB_URL = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"
"""As in pytorchvideo/models/hub/slowfast.py."""

HUB_FILES = {
    "slowfast_r50": "SLOWFAST_8x8_R50.pyth",
    "slowfast_r101": "SLOWFAST_8x8_R101.pyth",
    "slowfast_16x8_r101_50_50": "SLOWFAST_16x8_R101_50_50.pyth",
}

DOWNLOAD_TIMEOUT = 30.0
"""Seconds without a byte after which a download is given up; torch.hub itself waits for ever."""

MOST_DOWNLOAD = 10**9
"""Bytes of a file of the hub at most: the largest network has 63 million numbers of 4 bytes, and
with what an optimizer keeps of each it would have three times as many."""

KINETICS_CLASSES = 400

_HEAD = ("blocks.6.proj.weight", "blocks.6.proj.bias")
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")  # of DistributedDataParallel, torch.compile


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights and what is known of it: the classes of its head's rows in their order, and
    the --model.name that it was saved from. None: not known."""

    path: Path
    classes: tuple[str, ...] | None = None
    model: str | None = None


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
    if lacking := [key for key in own if key not in fits and key not in _HEAD]:
        if known.model not in (None, config.name):
            raise UserError(
                f"{flag} {path}: is a {known.model} and does not fit --model.name {config.name}: "
                f"give --model.name {known.model}"
            )
        raise UserError(
            f"{flag} {path}: does not fit --model.name {config.name}, as it "
            f"{_misfits(own, state, lacking)}: give the --model.name that the file was saved from"
        )
    outputs = len(own[_HEAD[1]])
    head = match_rows(config.head, classes, outputs, known.classes, _head_rows(own, state), path)
    if head.any_kept:
        fits |= {key: _filled(own[key], state[key], head.rows) for key in _HEAD}
    else:
        fits = {key: value for key, value in fits.items() if key not in _HEAD}
    model.load_state_dict(fits, strict=False)
    left_out = [key for key in state if key not in own]
    lines = [f"{config.name}: loaded {len(fits)} of {len(own)} tensors from {path}"]
    lines.append(describe_head(head, config.head))
    if left_out:
        lines.append(f"left out, the model has no such tensor: {_few(left_out)}")
    return LoadReport(lines, head)


def _head_rows(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> int | None:
    """The number of classes of the file's head; None where it has none that fits."""
    weight, bias = (state.get(key) for key in _HEAD)
    if weight is None or bias is None or weight.shape[1:] != own[_HEAD[0]].shape[1:]:
        return None
    return len(weight) if weight.shape[:1] == bias.shape else None


def _filled(own: Tensor, theirs: Tensor, rows: tuple[int | None, ...]) -> Tensor:
    """``own`` (K, ...) with these rows of ``theirs``; None: as it is."""
    filled = own.clone()
    for place, row in enumerate(rows):
        if row is not None:
            filled[place] = theirs[row]
    return filled


def hub_file(name: str) -> Path:
    """The Kinetics-400 checkpoint in torch.hub's cache, downloaded if it is not there yet.

    Raises UserError if it can be neither found nor downloaded.
    """
    file = HUB_FILES[name]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if path.is_file():
        return path
    url = f"{HUB_URL}/{file}"
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        arrived = path.with_name(f".{file}.{os.getpid()}.tmp")
        try:
            torch.hub.download_url_to_file(url, str(arrived))
            check_download(arrived, name, url, KINETICS_CLASSES)
            os.replace(arrived, path)
        finally:
            arrived.unlink(missing_ok=True)
    except (OSError, HTTPException) as error:
        raise UserError(
            f"--model.name {name}: its Kinetics-400 weights are not here and {url} cannot be "
            f"downloaded ({error}): put {file} at {path}, or give its place with "
            "--model.weights, or start from scratch with --model.pretrained false"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return path


def check_download(path: Path, name: str, url: str, classes: int) -> None:
    """Raise UserError unless a file that was downloaded for model ``name`` can be its weights:
    tensors alone, finite, with a head of as many ``classes``. Whether all names and shapes are
    those of the model `load_weights` tells.

    Its publisher names no checksum with which it could be compared.
    """
    if path.stat().st_size > MOST_DOWNLOAD:
        raise UserError(f"--model.name {name}: {url} gave more than {MOST_DOWNLOAD:,} bytes")
    try:
        state = read_state_dict(path, url)
    except UserError as error:
        said = str(error).replace(f"{url} {path}: ", "")
        raise UserError(f"--model.name {name}: what {url} gave {said}") from None
    rows = [len(state[key]) if key in state and state[key].ndim else None for key in _HEAD]
    if rows != [classes] * 2:
        raise UserError(
            f"--model.name {name}: what {url} gave are other weights, as their head is none of "
            f"{classes} classes: give the right file with --model.weights"
        )


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
