"""Where in a file the tensors of a network lie: a state_dict at any place, or a whole model."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from slowfast_dist.model.foreign.pickles import FileFault, Inert
from slowfast_dist.model.foreign.rebuild import RawArray, StoredTensor

DEEPEST = 4
"""Dicts in each other in which tensors are looked for: {"state_dict": {...}}, or
{"model": {"module": {...}}} and the like."""

MOST_STATES = 1000
"""Dicts that are looked at; of a file with more, those behind are none of a network."""

MOST_MODULES = 10_000
"""Modules of a whole model; SlowFast-R101 has about 1,000."""

Entries = dict[str, StoredTensor | RawArray]


@dataclass(frozen=True)
class State:
    """Tensors by name, and where they lie: "" for the whole file, else the keys that lead there."""

    place: str
    entries: Entries
    whole_model: bool = False


def find_states(content: Any) -> Iterator[State]:
    """Every dict of tensors in what a file holds, the outermost first, and every whole model.

    Raises FileFault for a model that is endless.
    """
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    seen: set[int] = set()
    for _ in range(MOST_STATES):
        if not waiting:
            return
        place, value, depth = waiting.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Inert) and isinstance(value.state, dict):
            if "_modules" in value.state:
                yield State(place, dict(_tensors_of(value)), whole_model=True)
            continue
        if not isinstance(value, dict):
            continue
        entries = {name: inner for name, inner in value.items() if _is_tensor(inner)}
        if entries:
            yield State(place, entries)
        if depth < DEEPEST:
            for name, inner in value.items():
                if isinstance(inner, dict | Inert):
                    waiting.append((f"{place}.{name}".lstrip("."), inner, depth + 1))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, StoredTensor) or (isinstance(value, RawArray) and value.is_plain())


def _tensors_of(model: Inert) -> Iterator[tuple[str, StoredTensor | RawArray]]:
    """What model.state_dict() would give, from the attributes that torch.nn.Module keeps."""
    waiting = [("", model)]
    for _ in range(MOST_MODULES):
        if not waiting:
            return
        prefix, module = waiting.pop()
        state = module.state if isinstance(module.state, dict) else {}
        for kind in ("_parameters", "_buffers"):
            found = state.get(kind)
            for name, value in found.items() if isinstance(found, dict) else ():
                if _is_tensor(value):
                    yield prefix + name, value
        children = state.get("_modules")
        for name, child in children.items() if isinstance(children, dict) else ():
            if isinstance(child, Inert):
                waiting.append((f"{prefix}{name}.", child))
                if len(prefix) > 1000:
                    raise FileFault("holds a model that contains itself")
    raise FileFault(f"holds a model of more than {MOST_MODULES:,} modules")
