"""``python -m slowfast_dist.cli.reference``: prints docs/flags.md, every flag of every command.

All of it is read from the settings: names, types, bounds, defaults, and the text under each field.
"""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from itertools import pairwise
from operator import attrgetter
from typing import Any

from typing_extensions import Doc

from slowfast_dist.cli.commands import COMMANDS, Command
from slowfast_dist.cli.flags import describe, written
from slowfast_dist.cli.parser import DEFAULT_PRESET, defaults
from slowfast_dist.cli.presets import preset_names, preset_summary
from slowfast_dist.config.checks import bounds, flag_types, metadata

HEADER = """\
# Flags

Every flag of every command, as `--help` shows them. This file is written by
`python -m slowfast_dist.cli.reference > docs/flags.md`: change the settings in
`slowfast_dist/config/`, not this text.

A flag is written `--x VALUE` or `--x=VALUE`, with `-` or `_` between its words; a switch also as
`--x` alone, for true. `train.py` is `python -m slowfast_dist train`. A `--config` file has the
same names, with each group indented below its name."""


def reference() -> str:
    """The text of docs/flags.md."""
    lines = [HEADER]
    for command in COMMANDS.values():
        flags = " [flags]" if command.settings else ""
        lines += ["", f"## {command.name}", "", f"`{command.usage_line}{flags}`", ""]
        lines += _command(command) if command.settings else [command.summary]
    return "\n".join(lines) + "\n"


def _command(command: Command) -> Iterator[str]:
    settings = defaults(command)
    yield command.summary if command.preset else inspect.cleandoc(f"{type(settings).__doc__}")
    if command.note:
        yield f"\n{command.note}"
    if command.trains and not command.preset:
        yield f"\nPRESET is one of these; without one it is {DEFAULT_PRESET}, as in the table:\n"
        yield from (f"- `{name}`: {preset_summary(name)}" for name in preset_names())
    yield "\n| flag | value | bounds | default | what it does |\n|---|---|---|---|---|"
    types = flag_types(type(settings))
    for flag, hint in flag_types(type(settings), annotated=True).items():
        limits = "; ".join(remedy.removeprefix("give ") for _, remedy in bounds(hint))
        default = written(attrgetter(flag.replace("-", "_"))(settings))
        cells = (f"`--{flag}`", describe(types[flag]), limits, f"`{default}`")
        row = " | ".join((*cells, _help(settings, flag, hint).replace("|", r"\|")))
        yield f"| {row} |"


def _help(settings: Any, flag: str, hint: Any) -> str:
    """What --help says of the flag: the text under its field, or that of the field's type."""
    group, _, name = flag.replace("-", "_").rpartition(".")
    owner = attrgetter(group)(settings) if group else settings
    shared = (item.documentation for item in metadata(hint) if isinstance(item, Doc))
    texts = _field_texts(type(owner))  # type: ignore[arg-type]
    return " ".join((texts.get(name) or next(shared, "")).split())


@cache
def _field_texts(kind: type) -> dict[str, str]:
    """The text under each field of a dataclass that has one, also of fields that it inherits."""
    texts = _field_texts(kind.__base__) if is_dataclass(kind.__base__) else {}
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    return texts | {
        ast.unparse(field.target): str(ast.literal_eval(text.value))
        for field, text in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


if __name__ == "__main__":
    print(reference(), end="")
