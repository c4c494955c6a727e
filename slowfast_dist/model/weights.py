"""Weights for a model: read the file without running anything in it, fit it in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.model.description import NetworkDescription
from slowfast_dist.model.foreign.names import few
from slowfast_dist.model.foreign.recognise import Weights, read_weights, unknown_names
from slowfast_dist.model.heads import HeadStart, describe_head, match_rows

HEAD = ("blocks.6.proj.weight", "blocks.6.proj.bias")
"""Names of the head's weight and bias."""


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights and what is known of it: the classes of its head's rows in their order, the
    --model.name that it was saved from, and the network that it is of. None: not known."""

    path: Path
    classes: tuple[str, ...] | None = None
    model: str | None = None
    description: NetworkDescription | None = None
    content: Weights | None = field(default=None, compare=False, repr=False)
    """What was read of it, where it was read already."""
    sha256: str | None = None
    """Of the file that ``content`` was read of, where that is known."""


@dataclass(frozen=True)
class LoadReport:
    """What the user reads of a model's start, a line an entry, and how its head began; and the
    SHA-256 of the file that was read, where that is known."""

    lines: list[str]
    head: HeadStart | None = None
    sha256: str | None = None


def load_weights(
    model: nn.Module, config: ModelConfig, classes: tuple[str, ...] | None, known: WeightsFile
) -> LoadReport:
    """Fill `model` from the file of --model.weights or of the hub, its head as --model.head says.

    ``classes``: the names of the model's own. Raises UserError if the file cannot be read, if it
    holds numbers that are not finite, or if anything but the head is missing from it.
    """
    flag, path = "--model.weights" if config.weights else "--model.pretrained", known.path
    content = known.content or read_weights(path, flag)
    state = content.tensors
    if content.description is None:
        raise UserError(
            f"{flag} {path}: {unknown_names(state)}: give a file of one of these, or rename them"
        )
    own = model.state_dict()
    shapes = {key: value.shape for key, value in own.items()}
    fits = {key: value for key, value in state.items() if value.shape == shapes.get(key)}
    if lacking := [key for key in own if key not in fits and key not in HEAD]:
        name = known.model or content.description.name
        if name != config.name:
            raise UserError(
                f"{flag} {path}: is a {name} and does not fit --model.name {config.name}: "
                f"give --model.name {name}"
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
    lines = content.lines(path) if known.content else []
    lines.append(f"{config.name}: loaded {len(fits)} of {len(own)} tensors from {path}")
    lines.append(describe_head(head, config.head))
    if left_out:
        lines.append(f"left out, the model has no such tensor: {few(left_out)}")
    return LoadReport(lines, head, known.sha256)


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
    """The tensors of a file by our names, as `read_weights`."""
    return read_weights(path, flag).tensors


def _misfits(own: dict[str, Tensor], state: dict[str, Tensor], lacking: list[str]) -> str:
    missing = [key for key in lacking if key not in state]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in lacking
        if key in state
    ]
    what = [f"lacks {few(missing)}"] if missing else []
    what += [f"has another shape for {few(shapes)}"] if shapes else []
    return " and ".join(what)
