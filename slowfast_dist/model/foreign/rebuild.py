"""The allow-list of `pickles`: of which calls of a pickle something is made, and what.

Tensors and arrays stay descriptions of bytes until somebody asks for one (`torch_files`,
`RawArray.tensor`): those of an optimizer are never read. All arguments come from a file, so each is
looked at, by type and by size, before anything is made of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slowfast_dist.model.foreign.pickles import FileFault, Inert, Name, Rebuild, text_entries

MOST_DIMENSIONS = 8
"""Dimensions of a tensor; convolutions over time and space have 5."""

MOST_NUMBERS = 2**48
"""Numbers of one tensor, so that products of sizes stay small integers; no file has as many."""

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}  # fmt: skip
"""The types of torch's storages that hold plain numbers."""

ARRAYS = {
    "f8": torch.float64, "f4": torch.float32, "f2": torch.float16, "i8": torch.int64,
    "i4": torch.int32, "i2": torch.int16, "i1": torch.int8, "u1": torch.uint8, "b1": torch.bool,
}  # fmt: skip
"""The types of numpy's arrays that hold plain numbers, as numpy codes them; never objects."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A block of numbers elsewhere in the file."""

    key: str
    dtype: torch.dtype
    numel: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor whose numbers lie in a storage, at these strides from this place on."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(slots=True)
class RawDtype:
    """numpy's description of a number; the byte order comes as its state."""

    code: str
    order: str = "="

    def set_state(self, state: Any) -> None:
        if type(state) is tuple and len(state) > 1 and state[1] in ("<", ">", "=", "|"):
            self.order = state[1]


@dataclass(frozen=True, slots=True)
class Latin1:
    """Bytes written as text, a letter each, as protocol 2 does; not yet turned back."""

    text: str

    def __len__(self) -> int:
        return len(self.text)


Raw = bytes | memoryview | str | Latin1
"""Bytes of a file; a str is one of Python 2, a letter a byte."""


@dataclass(slots=True)
class RawArray:
    """numpy's array; the rest than its class comes as its state."""

    shape: tuple[int, ...] = ()
    dtype: RawDtype | None = None
    fortran: bool = False
    content: Raw | None = None

    def set_state(self, state: Any) -> None:
        """(version, shape, dtype, Fortran's order, bytes); anything else leaves it empty."""
        if type(state) is tuple and len(state) == 5:
            _, shape, dtype, fortran, content = state
            self.fill(shape, dtype, fortran is True, content)

    def fill(self, shape: Any, dtype: Any, fortran: bool, content: Any) -> None:
        raw = type(content) in (bytes, memoryview, str, Latin1)
        if raw and type(dtype) is RawDtype and _are_sizes(shape):
            self.shape, self.dtype, self.fortran, self.content = shape, dtype, fortran, content

    def numel(self) -> int:
        return prod(self.shape) if self.is_plain() else 0

    def is_plain(self) -> bool:
        """Whether it is whole, and of plain numbers."""
        if self.dtype is None or self.content is None or self.dtype.code not in ARRAYS:
            return False
        return len(self.content) == prod(self.shape) * int(self.dtype.code[1])

    def tensor(self) -> Tensor:
        """A copy of its numbers. `is_plain` must hold. Raises FileFault for bytes that are none."""
        assert self.dtype is not None and self.content is not None
        content = self.content.text if isinstance(self.content, Latin1) else self.content
        try:
            raw = content.encode("latin-1") if isinstance(content, str) else content
        except UnicodeEncodeError:
            raise FileFault("is damaged: an array of text") from None
        order: Any = self.dtype.order
        kind = np.dtype(self.dtype.code).newbyteorder(order)
        array = np.frombuffer(raw, kind).reshape(self.shape, order="F" if self.fortran else "C")
        native: Any = kind.newbyteorder("=")
        return torch.from_numpy(np.array(array, native, order="C"))


def _are_sizes(value: Any) -> bool:
    """Whether it can be the shape of a tensor, or its strides."""
    if type(value) is not tuple or len(value) > MOST_DIMENSIONS:
        return False
    if not all(type(size) is int and 0 <= size <= MOST_NUMBERS for size in value):
        return False
    return prod(value) <= MOST_NUMBERS


def _tensor(arguments: tuple[Any, ...]) -> Any:
    """torch's (storage, offset, sizes, strides, ...). Of storages that are not read: a stand-in."""
    storage, offset, shape, stride = arguments[:4]
    if type(storage) is not Storage:
        return Inert(Name("torch", "Tensor"))
    strides = type(stride) is tuple and len(stride) <= MOST_DIMENSIONS
    strides = strides and all(type(s) is int and 0 <= s <= MOST_NUMBERS for s in stride)
    right = type(offset) is int and offset >= 0 and _are_sizes(shape) and strides
    if right and len(shape) == len(stride):
        last = offset + sum((size - 1) * s for size, s in zip(shape, stride, strict=True))
        count = prod(shape)
        # Not more numbers than the storage has, as a stride of 0 would make them.
        if count == 0 or (last < storage.numel and count <= storage.numel):
            return StoredTensor(storage, offset, shape, stride)
    raise FileFault("is damaged: a tensor that reaches beyond its numbers")


def _parameter(arguments: tuple[Any, ...]) -> Any:
    return arguments[0]


def _dictionary(arguments: tuple[Any, ...]) -> dict[str, Any]:
    """An OrderedDict, empty, or as Python 2 wrote it: of a list of pairs, which is used up."""
    made: dict[str, Any] = {}
    if arguments and type(arguments[0]) is list:
        pairs: list[Any] = arguments[0]
        made = text_entries(p for p in pairs if type(p) in (list, tuple) and len(p) == 2)
        pairs.clear()
    return made


def _encoded(arguments: tuple[Any, ...]) -> Any:
    text, encoding = arguments
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        return Inert(Name("_codecs", "encode"))
    return Latin1(text)


def _no_bytes(arguments: tuple[Any, ...]) -> Any:
    return b"" if not arguments else Inert(Name("builtins", "bytes"))


def _dtype(arguments: tuple[Any, ...]) -> Any:
    code = arguments[0]
    return RawDtype(code) if type(code) is str else Inert(Name("numpy", "dtype"))


def _array(arguments: tuple[Any, ...]) -> RawArray:
    return RawArray()


def _array_of_buffer(arguments: tuple[Any, ...]) -> RawArray:
    content, dtype, shape, order = arguments
    array = RawArray()
    array.fill(shape, dtype, order == "F", content)
    return array


def _named(modules: Sequence[str], name: str, rebuild: Rebuild) -> dict[Name, Rebuild]:
    return {Name(module, name): rebuild for module in modules}


_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")

REBUILDERS: dict[Name, Rebuild] = {
    **_named(("torch._utils",), "_rebuild_tensor", _tensor),
    **_named(("torch._utils",), "_rebuild_tensor_v2", _tensor),
    **_named(("torch._utils",), "_rebuild_parameter", _parameter),
    **_named(("torch._utils",), "_rebuild_parameter_with_state", _parameter),
    **_named(("collections",), "OrderedDict", _dictionary),
    **_named(("collections",), "defaultdict", lambda arguments: {}),
    **_named(("_codecs",), "encode", _encoded),
    **_named(("builtins", "__builtin__"), "bytes", _no_bytes),
    **_named(("numpy",), "dtype", _dtype),
    **_named(_MULTIARRAY, "_reconstruct", _array),
    **_named(_NUMERIC, "_frombuffer", _array_of_buffer),
}
"""All calls of which something is made. numpy's scalars and all else become stand-ins."""
