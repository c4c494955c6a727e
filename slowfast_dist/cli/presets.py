"""Presets and --config files: YAML in, settings out, each with the place where it was written.

A scalar is taken as it is spelled and parsed as the flag of that name would be, so that a file and
a flag mean the same: ``no`` stays the word, ``1e-4`` is a number (PyYAML alone would make them
False and a string).
"""

import os
from collections.abc import Collection
from pathlib import Path

import yaml

from slowfast_dist.cli.flags import SEE_HELP, Setting, did_you_mean
from slowfast_dist.config.errors import UserError
from slowfast_dist.system.parsing import MOST_YAML_BYTES, compose_yaml
from slowfast_dist.system.text import option

_NULL = "tag:yaml.org,2002:null"
"""How PyYAML marks a value that is null, or left out."""


def preset_folder() -> Path:
    """Where the presets lie: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def preset_names() -> list[str]:
    """Names of the shipped presets, sorted."""
    return sorted(path.stem for path in preset_folder().glob("*.yaml"))


def preset_path(name: str) -> Path:
    """The YAML file of preset ``name``; UserError if there is none of that name."""
    names = preset_names()
    if name not in names:
        presets = f"the presets are {', '.join(names)}"
        if os.path.isfile(name):
            remedy = f": for a file of your own, write {option('--config', name)}"
        elif os.path.isdir(name):
            remedy = f": for a folder of videos, write {option('--data.root', name)}"
        else:
            remedy = did_you_mean(name, names)
        raise UserError(f"{name}: no such preset ({presets}){remedy}")
    return preset_folder() / f"{name}.yaml"


def preset_summary(name: str) -> str:
    """What a preset is for: the first line, a comment, of its file."""
    with preset_path(name).open(encoding="utf-8") as lines:
        return lines.readline().strip("# \n")


def read_config_file(path: Path, flags: Collection[str]) -> list[Setting]:
    """The settings of one YAML file, in the order in which they are written.

    ``flags`` are the names that may occur, as ``data.num-frames``; a file may write underscores.
    Raises UserError, with file and line, for what is no YAML, names no flag, or is given twice.
    """
    try:
        with open(path, "rb") as file:  # it may be a pipe, or a device that never ends
            content = file.read(MOST_YAML_BYTES + 1)
        if len(content) > MOST_YAML_BYTES:
            raise UserError(f"--config {path}: too large: give a YAML file of settings alone")
        root = compose_yaml(content.decode("utf-8-sig"))
    except FileNotFoundError:
        remedy = "give the path of a YAML file"
        if str(path) in preset_names():
            remedy = f"for the preset, write it before the flags: python train.py {path} ..."
        raise UserError(f"--config {path}: no such file: {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"--config {path}: {reason}: give the path of a YAML file") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(
            f"{path}:{line}: not valid YAML ({error.problem}): write one 'name: value' a line"
        ) from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from None
    return [] if root is None else _settings(root, path, flags)


def _settings(root: yaml.Node, path: Path, flags: Collection[str]) -> list[Setting]:
    groups = {flag.rpartition(".")[0] for flag in flags} - {""}
    lines: dict[str, int] = {}
    settings: list[Setting] = []

    def read(node: yaml.Node, prefix: str) -> None:
        if node.tag == _NULL:  # a group whose lines are all commented out
            return
        if not isinstance(node, yaml.MappingNode):
            what = f"{prefix.rstrip('.')} is a group" if prefix else "no settings"
            place = f"{path}:{node.start_mark.line + 1}"
            raise UserError(f"{place}: {what}: write one 'name: value' a line")
        for key, value in node.value:
            line, written = key.start_mark.line + 1, f"{prefix}{key.value}"
            name, source = written.replace("_", "-"), f"{path}:{line}: {written}:"
            if name in lines:
                raise UserError(f"{source} given twice, first on line {lines[name]}: keep one")
            lines[name] = line
            if name in groups:
                read(value, f"{written}.")
            elif name in flags:
                settings.append(Setting(name, _values(value, source), source))
            else:
                names = sorted(known.replace("-", "_") for known in (*groups, *flags))
                hint = did_you_mean(written.replace("-", "_"), names) or SEE_HELP
                raise UserError(f"{source} unknown setting{hint}")

    read(root, "")
    return settings


def _values(node: yaml.Node, source: str) -> tuple[str, ...]:
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if not all(isinstance(item, yaml.ScalarNode) for item in items):
        raise UserError(f"{source} not a group: give a value")
    return tuple("none" if item.tag == _NULL else item.value for item in items)
