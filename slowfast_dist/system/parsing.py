"""JSON and YAML that others may have written, bounded in nesting: files of runs, exports, presets,
lists of classes and configurations in files of weights. Annotations have readers of their own
(`annotations`), and what processes of one run send each other is their own.

How many bytes are read of a file at all its reader says (`runs.reading`, `cli.presets`).
"""

import json
from itertools import chain
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError, SafeConstructor

MOST_NESTING = 32
"""Levels of lists and objects in each other at most: a run's deepest file has 6. What is nested
more deeply could not be written, shown or compared, as all that walks through it has a limit."""

MOST_YAML_BYTES = 100_000
"""Size of the largest file of settings that is read: all settings with their help take 10,000, and
PyYAML reads so many in a second."""

MOST_YAML_NESTING = 8
"""Levels of a file of settings at most: groups and lists in them are three."""

MOST_ALIASES = 50
"""Places of a file of settings at most that repeat another one (``*name``): a file of 100 kB in
which each of 10,000 lines repeats a group of 10,000 would take hours."""

MOST_YAML_MERGED = 1_000
"""Entries at most that a group has once ``<<: *name`` copied those of others into it: groups that
merge each other twice double with each line, and the largest of settings has about 50."""


def parse_json(text: str | bytes) -> Any:
    """What a JSON text holds. Raises ValueError where it is none, or nested beyond MOST_NESTING."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if isinstance(text, str):
        opened = text.count("[") + text.count("{")
    else:
        opened = text.count(b"[") + text.count(b"{")
    if opened > MOST_NESTING:  # so few cannot be nested more deeply, and most texts have no more
        _check_nesting(value)
    return value


def _check_nesting(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_NESTING):
        parts = (one.values() if isinstance(one, dict) else one for one in level)
        level = [part for part in chain.from_iterable(parts) if isinstance(part, dict | list)]
    if level:
        raise ValueError("nested too deeply")


def compose_yaml(text: str) -> yaml.Node | None:
    """The nodes of a YAML text, None for an empty one: nothing of it is constructed.

    Raises yaml.YAMLError where it is none, too large, nested too deeply, or repeats too much.
    """
    if len(text) > MOST_YAML_BYTES:
        raise yaml.YAMLError(f"more than {MOST_YAML_BYTES:,} characters")
    try:
        return yaml.compose(text, Loader=_Composer)
    except (RecursionError, ValueError) as error:  # as for a character that YAML has not
        raise yaml.YAMLError(str(error)) from None


def parse_yaml(text: str) -> Any:
    """The plain values of a YAML text. Raises yaml.YAMLError as `compose_yaml`, for what is not
    plain, and where ``<<`` copies too much."""
    node = compose_yaml(text)
    try:
        return None if node is None else _Constructor().construct_document(node)
    except (RecursionError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise yaml.YAMLError(str(error)) from None  # as for "!!int x", "!!timestamp x"


class _Constructor(SafeConstructor):
    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST_YAML_MERGED:
            problem = f"more than {MOST_YAML_MERGED:,} entries in one group"
            raise ConstructorError(None, None, problem, node.start_mark)


class _Composer(yaml.SafeLoader):
    nesting = 0
    aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.aliases += self.check_event(yaml.AliasEvent)
        self.nesting += 1
        for number, most, problem in (
            (self.nesting, MOST_YAML_NESTING, "nested too deeply"),
            (self.aliases, MOST_ALIASES, f"more than {MOST_ALIASES} aliases"),
        ):
            if number > most:
                mark = self.peek_event().start_mark
                raise ComposerError(None, None, problem, mark)
        node = super().compose_node(parent, index)
        self.nesting -= 1
        return node
