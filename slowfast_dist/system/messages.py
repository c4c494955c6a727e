"""Values as bytes for another process, and back: plain data, of which nothing is ever executed.

A message is the length of its JSON (8 bytes, little-endian), the JSON, and the bytes of its arrays.
In place of pickle, as who can alter a pickled message can run any program where it is read.
"""

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.system.signals import StopRequested

T = TypeVar("T")

LENGTH_BYTES = 8
"""Bytes of the number in front that says how long the JSON is."""

_KINDS = "biuf"
"""Kinds of arrays that are their bytes: truth values, integers, floats. Not objects."""

ALIGNMENT = 8
"""Bytes of which each array's place is a multiple: the largest numbers have as many."""

_classes: dict[str, type] = {cls.__name__: cls for cls in (UserError, RunError, StopRequested)}


def sendable(cls: type[T]) -> type[T]:
    """Class decorator: its objects may be sent, by their attributes. Those must be sendable, too;
    `decode` makes an object without calling its constructor."""
    _classes[cls.__name__] = cls
    return cls


def encode(value: object) -> bytes:
    """Raises TypeError for what is not plain data: None, truth values, numbers, text, bytes, Path,
    arrays, lists, tuples, dicts and `sendable` objects of those."""
    buffers: list[bytes] = []
    text = json.dumps(_plain(value, buffers), separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return b"".join([len(text).to_bytes(LENGTH_BYTES, "little"), text, *buffers])


def decode(message: bytes | bytearray | memoryview) -> Any:
    """The value of which `encode` made the message. Arrays are read-only where ``message`` is.
    Raises ValueError for what is no message."""
    content = memoryview(message)
    start = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    try:
        return _value(json.loads(bytes(content[LENGTH_BYTES:start])), content[start:])
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(f"not a message: {error!r}") from None


def _plain(value: object, buffers: list[bytes]) -> Any:
    """In JSON's types: what those lack becomes a dict of one key, its kind."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list):
        return [_plain(one, buffers) for one in value]
    if isinstance(value, tuple):
        return {"tuple": [_plain(one, buffers) for one in value]}
    if isinstance(value, dict):
        pairs = value.items()
        return {"dict": [[_plain(k, buffers), _plain(v, buffers)] for k, v in pairs]}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, bytes):
        return {"bytes": _place(value, buffers)}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in _KINDS:
        array = np.ascontiguousarray(value)
        place = _place(array.tobytes(), buffers)
        return {"array": [array.dtype.str, list(np.shape(value)), place]}
    if _classes.get(type(value).__name__) is not type(value):
        raise TypeError(f"{type(value).__name__} cannot be sent: is it plain data?")
    if isinstance(value, Exception):
        return {"error": [type(value).__name__, str(value)]}
    state: Any = value.__getstate__()
    return {"object": [type(value).__name__, _plain(state or {}, buffers)]}


def _place(content: bytes, buffers: list[bytes]) -> list[int]:
    """Put ``content`` behind the buffers; [first byte, end]."""
    first = sum(map(len, buffers))
    buffers += [content, bytes(-len(content) % ALIGNMENT)]
    return [first, first + len(content)]


def _value(plain: Any, buffers: memoryview) -> Any:
    if isinstance(plain, list):
        return [_value(one, buffers) for one in plain]
    if not isinstance(plain, dict):
        return plain
    [(kind, content)] = plain.items()
    if kind == "tuple":
        return tuple(_value(one, buffers) for one in content)
    if kind == "dict":
        return {_value(key, buffers): _value(value, buffers) for key, value in content}
    if kind == "path":
        return Path(content)
    if kind == "bytes":
        return bytes(buffers[content[0] : content[1]])
    if kind == "array":
        name, shape, (first, end) = content
        dtype = np.dtype(name)
        if dtype.kind not in _KINDS:
            raise ValueError(f"not a message: an array of {name!a:.20}")
        return np.frombuffer(buffers[first:end], dtype).reshape(shape)[()]
    cls = _classes[content[0]]
    if kind == "error" and issubclass(cls, Exception):
        return cls(content[1])
    if kind != "object" or issubclass(cls, Exception):
        raise ValueError(f"not a message: {kind!a:.20}")
    made = cls.__new__(cls)
    vars(made).update(_value(content[1], buffers))
    return made
