"""safetensors: the weights alone, by the names of the state_dict, with the metadata as header."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from slowfast_dist.config import RunError


def to_safetensors(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The content of a .safetensors file."""
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    return save(tensors, {**metadata, "format": "pt"})  # "format": what other programs look for


def check_safetensors(
    path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Raise RunError unless the file at ``path`` holds these tensors, bit for bit, and metadata."""
    with safe_open(path, framework="pt") as file:
        if not metadata.items() <= (file.metadata() or {}).items():
            raise RunError(f"{path}: its metadata are not those that were written")
        names = set(file.keys())
        wrong = [
            name
            for name, tensor in state.items()
            if name not in names or not _same_bits(file.get_tensor(name), tensor)
        ]
    if wrong or len(names) != len(state):
        named = wrong or sorted(names - state.keys())
        raise RunError(f"{path}: {named[0]} is not as it was written ({len(named)} such tensors)")


def _same_bits(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(*(x.reshape(-1).contiguous().view(torch.uint8) for x in (a, b)))
