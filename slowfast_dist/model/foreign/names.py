"""Names of the tensors of a SlowFast as pytorchvideo has them, which are ours, and helpers."""

from collections.abc import Mapping
from typing import Any

HEAD = "blocks.6.proj."
"""The last linear layer."""


def stem(pathway: int) -> str:
    """What the names of a pathway's convolution and BatchNorm begin with; 0: the slow one."""
    return f"blocks.0.multipathway_blocks.{pathway}."


def fusion(stage: int) -> str:
    """What those of the lateral connection behind a stage begin with; 0 is the stem."""
    return f"blocks.{stage}.multipathway_fusion."


def block(stage: int, pathway: int, index: int) -> str:
    """What those of a residual block begin with; stages are 1 to 4."""
    return f"blocks.{stage}.multipathway_blocks.{pathway}.res_blocks.{index}."


def few(names: list[str]) -> str:
    """The first names and how many there are."""
    return ", ".join(names[:3]) + (f", ... ({len(names)} in all)" if len(names) > 3 else "")


def descend(content: Any, *keys: str) -> Any:
    """What lies at these keys of dicts in each other; None where there is nothing."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
