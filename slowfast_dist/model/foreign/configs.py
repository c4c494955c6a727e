"""Configurations of PySlowFast (YAML) and MMAction2 (Python), read as data: neither is executed.

A file of MMAction2 is a Python program, but of those that are written only some expressions count:
numbers, text, lists, dicts and ``dict(...)``, names of earlier assignments and arithmetic on
numbers. Anything else, as a call, becomes an `Unknown`, which no setting is read from.
"""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from slowfast_dist.model.foreign.pickles import FileFault
from slowfast_dist.system import parsing

MOST_CHARACTERS = 200_000
"""Of a configuration, also of one in a file of weights; a complete one that MMAction2 writes has
about 10,000. Python takes a second and 120 MB to parse so many."""

MOST_BASES = 5
"""Files in a chain of _base_; the longest in MMAction2 has 3."""

MOST_MERGED = 100
"""Entries that ``**name`` copies; more than a step of a pipeline ever has, and not enough to fill
the memory by copies of copies."""

MOST_MERGES = 10_000
"""Dicts that are merged into those of a _base_; a configuration has about 30."""

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


class Unknown:
    """An expression that is not evaluated."""


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a .yaml or .py, those of its _base_ files below its own. Raises FileFault."""
    if path.suffix in (".yaml", ".yml"):
        return parse_yaml(_text(path))
    if path.suffix == ".py":
        return _with_bases(path, MOST_BASES, count(1))
    raise FileFault("is neither the .yaml of PySlowFast nor the .py of MMAction2")


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_CHARACTERS + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise FileFault(f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise FileFault("is no text") from None
    _require_short(content)
    return text


def _require_short(text: str | bytes) -> None:
    if len(text) > MOST_CHARACTERS:
        raise FileFault(f"has more than {MOST_CHARACTERS:,} characters")


def parse_yaml(text: str) -> dict[str, Any]:
    """A mapping of plain YAML. Raises FileFault."""
    try:
        content = parsing.parse_yaml(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        why = f" ({problem})" if problem.startswith(("more than", "nested")) else ""
        raise FileFault(f"is no plain YAML{line}{why}") from None
    if not isinstance(content, dict):
        raise FileFault("holds no settings by name")
    return content


def parse_python(text: str) -> dict[str, Any]:
    """What a file of assignments assigns. Raises FileFault."""
    _require_short(text)
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise FileFault(f"is no Python{line}") from None
    found: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.With):
            raise FileFault(
                "takes others in by 'with read_base()': give the complete configuration, which "
                "MMAction2 writes into its work_dirs"
            )
        if isinstance(statement, ast.Assign):
            try:
                value = _value(statement.value, found)
            except RecursionError:
                raise FileFault(f"is nested too deep, line {statement.lineno}") from None
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = value
    return found


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """What an expression of plain values is; `Unknown` for any other."""
    match node:
        case ast.Constant(value=constant):
            return constant
        case ast.Name(id=name):
            return names.get(name, Unknown())
        case ast.List(elts=items):
            return [_value(item, names) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item, names) for item in items)
        case ast.Dict(keys=keys, values=values):
            made: dict[str, Any] = {}
            for key, value in zip(keys, values, strict=True):
                _put(made, None if key is None else _value(key, names), _value(value, names))
            return made
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            made = {}
            for keyword in keywords:
                _put(made, keyword.arg, _value(keyword.value, names))
            return made
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _value(operand, names)
            return -value if _is_number(value) else Unknown()
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _arithmetic(type(op), _value(left, names), _value(right, names))
        case _:
            return Unknown()


def _put(made: dict[str, Any], key: Any, value: Any) -> None:
    """An entry, or, without a key, those of ``**value``."""
    if key is None and isinstance(value, dict) and len(value) <= MOST_MERGED:
        made.update(value)
    elif isinstance(key, str):
        made[key] = value


def _arithmetic(kind: type[ast.operator], left: Any, right: Any) -> Any:
    if not (_is_number(left) and _is_number(right)) or max(abs(left), abs(right)) > 1e15:
        return Unknown()
    try:
        return _ARITHMETIC[kind](left, right)
    except (ZeroDivisionError, OverflowError):
        return Unknown()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _with_bases(path: Path, most: int, merges: Iterator[int]) -> dict[str, Any]:
    own = parse_python(_text(path))
    given = own.pop("_base_", ())
    bases = [given] if isinstance(given, str) else given if isinstance(given, list | tuple) else ()
    merged: dict[str, Any] = {}
    for base in bases:
        place = path.parent / base if isinstance(base, str) else path.parent
        named = base if isinstance(base, str) else "what is no name"
        if most == 0 or not place.is_file():
            raise FileFault(
                f"builds on {named}, which is not beside it: give the complete configuration, "
                "which MMAction2 writes into its work_dirs"
            )
        merged = _merged(merged, _with_bases(place, most - 1, merges), merges)
    return _merged(merged, own, merges)


def _merged(base: dict[str, Any], own: dict[str, Any], merges: Iterator[int]) -> dict[str, Any]:
    """``own`` over ``base`` as mmengine does it: dict into dict, unless it says _delete_."""
    if next(merges) > MOST_MERGES:
        raise FileFault("has more settings in each other than any configuration")
    result = dict(base)
    for key, value in own.items():
        below = result.get(key)
        if isinstance(value, dict) and isinstance(below, dict) and not value.get("_delete_"):
            result[key] = _merged(below, value, merges)
        else:
            result[key] = value
    return result
