"""Flags of a tree of dataclasses: their names and types, and settings applied to it by tyro.

tyro parses and converts; what it refuses becomes one line that names flag, value and remedy.
"""

import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from slowfast_dist.config.errors import UserError
from slowfast_dist.distributed.environment import rank

T = TypeVar("T")
SEE_HELP = ": --help lists them all"
"""The remedy for a name that no flag resembles."""


@dataclass(frozen=True)
class Setting:
    """The values of one flag, as text, and where they were written."""

    flag: str
    """Name without dashes in front: ``data.short-side``."""
    values: tuple[str, ...]
    source: str
    """What a message puts before the values: ``--epochs`` or ``my.yaml:3: epochs:``."""


def apply(settings: Sequence[Setting], base: T, types: Mapping[str, Any]) -> T:
    """A copy of the dataclass ``base`` with the settings in place; of one flag the last counts.

    ``types`` are those of `flag_types`. Raises UserError for a value that its flag cannot take.
    """
    if not settings:
        return base
    for setting in settings:
        # Lone surrogates stand for the bytes of a word of the command line that are no UTF-8.
        if re.search("[\0\ud800-\udfff]", shown := " ".join(setting.values)):
            raise UserError(f"{setting.source} {shown!a}: give UTF-8 without null characters")
    try:
        return _parse([word for setting in settings for word in _words(setting, types)], base)
    except _RefusedError as refused:
        for setting in settings:
            try:
                _parse(_words(setting, types), base)
            except _RefusedError:
                shown, remedy = " ".join(setting.values), describe(types[setting.flag])
                raise UserError(f"{setting.source} {shown}: give {remedy}") from None
        raise UserError(str(refused)) from None


def print_help(base: object, prog: str, description: str) -> None:
    """Print every flag with its help and, as its default, the value that it has in ``base``. Of
    several processes rank 0 alone prints."""
    if rank() != 0:
        return
    try:
        _tyro(["--help"], base, prog=prog, description=description)
    except SystemExit:
        return
    except BrokenPipeError:  # "--help | head"; Python's own last flush must not fail either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _RefusedError(Exception):
    """tyro did not take the words; its text is tyro's own message without the frame."""


def _parse(words: Sequence[str], base: T) -> T:
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            return _tyro(words, base)
    except SystemExit:
        text = re.sub(r"[─│╭╮╰╯]", " ", printed.getvalue())
        raise _RefusedError(" ".join(text.split())) from None


def _tyro(words: Sequence[str], base: T, **texts: Any) -> T:
    plain = (tyro.conf.FlagConversionOff,)  # booleans are written as _spelling says, below
    return tyro.cli(type(base), args=words, default=base, config=plain, registry=_REGISTRY, **texts)


def _words(setting: Setting, types: Mapping[str, Any]) -> list[str]:
    """The setting as tyro takes it; "=" keeps a value that starts with a dash."""
    values = setting.values
    if most_values(types[setting.flag]) is None and values == ("none",):
        values = ()
    if not values and get_origin(types[setting.flag]) in (Union, UnionType):  # also a switch
        values = ("true",)
    if not values:
        return [f"--{setting.flag}"]
    return [f"--{setting.flag}={values[0]}", *values[1:]]


def most_values(kind: Any) -> int | None:
    """How many words a flag of this type takes at most; None: any number."""
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        return None if Ellipsis in parts else len(parts)
    if get_origin(kind) in (Union, UnionType):
        counts = [most_values(part) for part in get_args(kind)]
        return None if None in counts else max(count for count in counts if count is not None)
    return 1


def is_switch(kind: Any) -> bool:
    """Whether a flag of this type may stand without a value, and then means true."""
    return kind is bool or bool in get_args(kind)


def describe(kind: Any) -> str:
    """What to give for a flag of this type, in words: ``a whole number or auto``."""
    *others, last = _alternatives(kind)
    return f"{', '.join(others)} or {last}" if others else last


def _alternatives(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    if get_origin(kind) in (Union, UnionType):
        return [name for part in get_args(kind) for name in _alternatives(part)]
    if get_origin(kind) is tuple:
        if get_args(kind) == _BOX:
            return ["four numbers"]
        if most_values(kind) is None:
            return ["any number of words"]
        return ["two numbers" if float in get_args(kind) else "two whole numbers"]
    if kind is bool:
        return ["true", "false"]
    names = {
        int: "a whole number", float: "a number", str: "a word",
        Path: "a path", NoneType: "none",
    }  # fmt: skip
    return [names[kind]]


def did_you_mean(name: str, names: Iterable[str], before: str = "") -> str:
    """``: did you mean --data.num-frames?`` for what is nearest to ``name``, else nothing.

    The last part of a name is enough: ``lr`` finds ``optimizer.lr``; and where one command has a
    flag for what another has a group for, the first: ``model.name`` finds ``model``.
    """
    names = list(names)
    leaf = name.rpartition(".")[2]
    leaves = {other: other.rpartition(".")[2] for other in names}
    found = [other for other in names if leaves[other] == leaf]
    found = found or get_close_matches(name, names, n=1, cutoff=0.7)
    if not found and (near := get_close_matches(leaf, leaves.values(), n=1, cutoff=0.7)):
        found = [other for other in names if leaves[other] == near[0]]
    group = name.partition(".")[0]
    if not found and group in names and not any(one.startswith(f"{group}.") for one in names):
        found = [group]
    return f": did you mean {' or '.join(before + other for other in found)}?" if found else ""


_BOX = (float, float, float, float)
"""Types of a region of interest."""

_REGISTRY = ConstructorRegistry()


@_REGISTRY.primitive_rule
def _spelling(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """How values are written of the types for which tyro has another way."""
    choices: tuple[str, ...] | None = None
    kind: type
    nargs: int | tuple[int, ...]
    read: Callable[[list[str]], Any]
    if info.type is bool:  # --x, --x true, --x false and --x=false
        kind, nargs, metavar, read = bool, (0, 1), "[true|false]", _read_switch
    elif info.type is NoneType:  # none, as YAML's null becomes, beside tyro's and wandb's None
        kind, nargs, metavar, read = NoneType, 1, "none", lambda words: None
        choices = ("none", "None")
    elif info.type_origin is tuple and get_args(info.type) == (int, int):
        kind, nargs, metavar, read = tuple, (1, 2), "INT INT", _read_pair
    elif info.type_origin is tuple and get_args(info.type) == _BOX:
        kind, nargs, metavar, read = tuple, (1, 2, 3, 4), "X Y W H", _read_box
    else:
        return None
    return PrimitiveConstructorSpec(
        nargs=nargs, metavar=metavar, choices=choices, instance_from_str=read,
        is_instance=lambda value: isinstance(value, kind),
        str_from_instance=lambda value: written(value).split(),
    )  # fmt: skip


def _read_switch(words: list[str]) -> bool:
    word = " ".join(words).lower() if words else "true"
    if word not in ("true", "false"):
        raise ValueError(word)
    return word == "true"


def _read_pair(words: list[str]) -> tuple[int, int]:
    """``256 320``, also as one word, as a wandb sweep writes it: ``[256, 320]``."""
    first, second = re.split(r"[\s,]+", " ".join(words).strip("[]() "))
    return int(first), int(second)


def _read_box(words: list[str]) -> tuple[float, ...]:
    """As `_read_pair`, of x, y, w and h."""
    x, y, w, h = map(float, re.split(r"[\s,]+", " ".join(words).strip("[]() ")))
    return x, y, w, h


def written(value: Any) -> str:
    """A value as the command line takes it, as true, none or 256 320."""
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
