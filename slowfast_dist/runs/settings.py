"""The settings of a run, as its config.yaml has them: by the names of their flags, as text."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from slowfast_dist.config.checks import flag_types
from slowfast_dist.config.fields import MOST_RATE
from slowfast_dist.config.training import Config, config_dict
from slowfast_dist.runs.reading import read_text
from slowfast_dist.system.parsing import MOST_YAML_BYTES, compose_yaml

OLDER_WORDS = {"model.pretrained": {"true": "kinetics400", "false": "none"}}
"""What older versions wrote of a setting -> what the same is called now."""


def read_settings(path: Path) -> dict[str, str]:
    """The settings of a config.yaml, spelled as there but for OLDER_WORDS; lists with spaces. Empty
    without the file.

    What is no setting is left out: a page that is mailed shows them all, and in a run of somebody
    else's the file may be a link to any other one.
    """
    known = flag_types(Config)
    found = _settings(read_text(path, MOST_YAML_BYTES) or "")
    return {flag: value for flag, value in found.items() if flag in known}


def default_settings() -> dict[str, str]:
    """The settings' defaults, spelled as `read_settings` gives those of a run."""
    return _settings(yaml.safe_dump(config_dict(Config())))


def given(settings: Mapping[str, str], *flags: str) -> str | None:
    """The first of these settings that has a value."""
    values = (settings.get(flag, "none") for flag in flags)
    return next((value for value in values if value != "none"), None)


def same_setting(one: str | None, other: str | None) -> bool:
    """Whether two spellings mean the same: 1e-4 is 0.0001."""
    if one == other or one is None or other is None:
        return one == other
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def _settings(text: str) -> dict[str, str]:
    try:
        root = compose_yaml(text)
    except yaml.YAMLError:
        return {}
    found: dict[str, str | None] = {}
    for key, node in _pairs(root):
        found[key] = _spelled(node)
        found |= {f"{key}.{inner}": _spelled(leaf) for inner, leaf in _pairs(node)}
    return {
        flag: OLDER_WORDS.get(flag, {}).get(value, value)
        for flag, value in found.items()
        if value is not None
    }


def _pairs(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield str(key.value).replace("_", "-"), value


def _spelled(node: Any) -> str | None:
    if isinstance(node, yaml.ScalarNode):
        return "none" if node.tag == "tag:yaml.org,2002:null" else str(node.value)
    if isinstance(node, yaml.SequenceNode):
        leaves = [_spelled(item) for item in node.value if isinstance(item, yaml.ScalarNode)]
        return " ".join(leaf for leaf in leaves if leaf is not None)
    return None


def own_image_rate(models: Path) -> float | None:
    """Images a second of the run's folders of images, as its training was told; None where that is
    not known."""
    text = given(read_settings(run_of(models) / "config.yaml"), "data.image-fps")
    try:
        rate = float(text or "")
    except ValueError:
        return None
    return rate if 0 < rate <= MOST_RATE else None


def folder_of(run: Path) -> Path:
    """The folder of a run that was given as such, or as its models/ folder."""
    return run_of(run) if run.name == "models" else run


def run_of(models: Path) -> Path:
    """The folder of the run that a models/ folder is in, if it is in one."""
    return Path(os.path.abspath(models)).parent
