"""Files of weights as pickles, mutated in their bytes and in their opcodes.

A case makes one in an empty folder, drawn from its Random alone, and lets `read_weights` read it:
that must work or raise UserError. Python's audit events say what it did meanwhile: an import, a
call of `exec`, a new process, or a file opened beside the one that was given, is a fault.
"""

import pickle
import pickletools
import struct
import sys
import zipfile
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import nn

from slowfast_dist.model.foreign.recognise import read_weights
from tests.campaigns.mutations import mutate

FORBIDDEN = ("import", "exec", "pickle.find_class", "subprocess.", "os.", "shutil.", "socket.")
"""Beginnings of the names of audit events that no reading of a file has."""

INNOCENT = ("os.scandir", "os.listdir")
"""Events that a garbage collection or a thread of the machine around it may raise meanwhile."""

_events: list[str] = []
_watching: list[Path] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "import" and str(arguments[0]).startswith("encodings"):
        return  # zipfile's names
    if event.startswith(FORBIDDEN) and event not in INNOCENT:
        _events.append(f"{event} {arguments!r:.200}")
    if event == "open" and Path(str(arguments[0])).absolute() != _watching[0]:
        _events.append(f"open {arguments!r:.200}")


@cache
def _install() -> None:
    """Once a process: a hook cannot be taken away."""
    sys.addaudithook(_hear)


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """Raise AssertionError where something else happens than the reading of ``path``."""
    _install()
    _events.clear()
    _watching.append(path.absolute())
    try:
        yield
    finally:
        _watching.clear()
    assert not _events, _events


class Marker:
    """Unpickled by an unpickler that calls, it makes a folder in the current one."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path("executed").mkdir, ()


def _saved(content: object, zipped: bool = True) -> bytes:
    file = BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


@cache
def seeds() -> tuple[bytes, ...]:
    """Small files as frameworks write them."""
    tensors = {
        "s1.pathway0_stem.conv.weight": torch.ones(2, 3, 1, 2, 2),
        "head.projection.bias": torch.zeros(3),
    }
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    foreign = {
        "state_dict": OrderedDict(tensors),
        "meta": {"cfg": "model = dict(a=1)", "seed": np.int64(3)},
        "message_hub": {"log": deque([1.0, 2.0], 3), "marker": Marker(), "set": {1, 2}},
    }
    arrays = np.ones((2, 3), "f4"), np.zeros((2, 3), ">f8"), np.ones(1)
    blobs = dict(zip(("conv1_w", "t_conv1_w", "lr"), arrays, strict=True))
    pickles = [pickle.dumps({"blobs": blobs}, protocol) for protocol in range(6)]
    contents = (tensors, foreign, net, {"model_state": tensors, "cfg": "DATA: {MEAN: [1, 2, 3]}"})
    zipped = [_saved(content) for content in contents]
    return (*pickles, *zipped, *(_saved(content, zipped=False) for content in contents))


def _in_pickle(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """``content`` with the pickle in it changed, and the sums of a zip right again."""
    if not content.startswith(b"PK"):
        return change(content)
    target = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(data) if name.endswith("data.pkl") else data)
    return target.getvalue()


_OPCODES = [ord(opcode.code) for opcode in pickletools.opcodes]
_LENGTHS = (0, 1, 255, 2**16, 2**31 - 1, 2**32 - 1)


def _odd_opcodes(data: bytes, draw: Random) -> bytes:
    """A few opcodes anywhere: put in, in place of another byte, doubled many times, or a length."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(changed))
        match draw.randrange(5):
            case 0:
                changed[place:place] = bytes([draw.choice(_OPCODES)])
            case 1:
                changed[place] = draw.choice(_OPCODES)
            case 2:
                code = bytes([draw.choice(_OPCODES)])
                changed[place:place] = code * draw.choice((2, 100, 20_000))
            case 3:
                changed[place : place + 4] = struct.pack("<I", draw.choice(_LENGTHS))
            case _:
                end = place + draw.randrange(1, 200)
                changed[place:place] = changed[place:end] * draw.choice((1, 3, 50))
    return bytes(changed)


def _odd_byte(data: bytes, draw: Random) -> bytes:
    """One byte a little other: a size, a length, a letter of a name. Much of it still parses."""
    changed = bytearray(data)
    place = draw.randrange(len(changed))
    changed[place] = (changed[place] + draw.choice((-1, 1, 16))) % 256
    return bytes(changed)


def pickles(folder: Path, draw: Random) -> None:
    """--model.weights, adopt."""
    content, other = draw.choice(seeds()), draw.choice(seeds())
    if draw.random() < 0.4:
        content = _in_pickle(content, lambda data: _odd_byte(data, draw))
    elif draw.random() < 0.6:
        content = _in_pickle(content, lambda data: _odd_opcodes(data, draw))
    elif draw.random() < 0.7:
        content = _in_pickle(content, lambda data: mutate(data, other, draw)[1])
    else:
        content = mutate(content, other, draw)[1]
    path = folder / draw.choice(("weights.pth", "weights.pkl", "weights.safetensors"))
    path.write_bytes(content)
    with watched(path):
        read_weights(path)
