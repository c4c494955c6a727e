"""Configurations are read within bounds, wherever they come from."""

from pathlib import Path

import pytest
import torch

from slowfast_dist.model.foreign import configs
from slowfast_dist.model.foreign.configs import parse_python, parse_yaml
from slowfast_dist.model.foreign.pickles import FileFault
from slowfast_dist.model.foreign.recognise import read_weights
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.system.parsing import MOST_ALIASES, MOST_YAML_BYTES, MOST_YAML_MERGED
from tests.helpers.foreign_weights import as_mmaction, random_state


def test_plain_yaml_is_read_with_what_it_repeats() -> None:
    text = "A: &a {X: 1, Y: [1, 2.5]}\nB: {<<: *a, X: yes}\nC: *a\n"
    first = {"X": 1, "Y": [1, 2.5]}
    assert parse_yaml(text) == {"A": first, "B": first | {"X": True}, "C": first}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"A: 1\n{'#' * MOST_YAML_BYTES}\n", "more than 100,000 characters"),
        ("A: &a 1\nB: [" + "*a, " * (MOST_ALIASES + 1) + "]\n", "more than 50 aliases"),
        ("A: " + "[" * 9 + "]" * 9, "nested too deeply"),
        (
            # Two groups of half the entries and one, merged into one: just above the bound.
            "".join(
                f"{k}: &{k} {{" + "".join(f"{k}{i}: 1, " for i in range(MOST_YAML_MERGED // 2 + 1))
                + "}\n" for k in "ab"
            ) + "B: {<<: [*a, *b]}\n",
            "more than 1,000 entries in one group",
        ),
        ("A: !!int ''", ""), ("A: !!timestamp x", ""), ("A: !!bool x", ""), ("<<: 1", ""),
    ],
    ids=["long", "aliases", "deep", "merged", "int", "timestamp", "bool", "merge"],
)  # fmt: skip
def test_yaml_beyond_the_bounds_is_refused(text: str, why: str) -> None:
    with pytest.raises(FileFault, match=f"is no plain YAML.*{why}"):
        parse_yaml(text)


def test_python_beyond_the_bound_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "MOST_CHARACTERS", 50)
    assert parse_python("a = 1\n" * 8) == {"a": 1}
    with pytest.raises(FileFault, match="has more than 50 characters"):
        parse_python("a = 1\n" * 9)


def test_a_configuration_in_a_file_of_weights_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = as_mmaction(random_state(SlowFast("slowfast_tiny", 3, 0.5).state_dict()))
    text = (
        "model = dict(backbone=dict(type='ResNet3dSlowFast'),\n"
        "             data_preprocessor=dict(mean=[51, 51, 51], std=[51, 51, 51]))\n"
    )
    torch.save({"meta": {"cfg": text}, "state_dict": state}, tmp_path / "epoch_9.pth")
    told = read_weights(tmp_path / "epoch_9.pth").facts
    monkeypatch.setattr(configs, "MOST_CHARACTERS", len(text) - 1)
    assert told.std == (0.2, 0.2, 0.2)
    assert read_weights(tmp_path / "epoch_9.pth").facts.std is None
