"""What a network is, as data: what is published, what JSON gives back, what is refused."""

import json
from dataclasses import replace
from typing import Any, get_args

import pytest

from slowfast_dist.config.fields import ModelName
from slowfast_dist.model.description import (
    ARCHITECTURES,
    NetworkDescription,
    from_json,
    network_defaults,
)

MMACTION2 = NetworkDescription(
    "slowfast_r50", 8, 5, "stride", False, False,
    (123.675 / 255, 116.28 / 255, 103.53 / 255), (58.395 / 255, 57.12 / 255, 57.375 / 255),
)  # fmt: skip
"""Its slowfast_r50_8xb8-4x16x1 config."""


def test_every_name_on_the_command_line_is_an_architecture() -> None:
    assert list(ARCHITECTURES) == list(get_args(ModelName))


@pytest.mark.parametrize("network", [*map(network_defaults, ARCHITECTURES), MMACTION2])
def test_json_gives_the_same_network_back(network: NetworkDescription) -> None:
    assert from_json(json.loads(json.dumps(network.as_json()))) == network


def test_what_older_versions_wrote_is_the_published_network() -> None:
    before = {
        "name": "slowfast_r101", "num_classes": 3, "dropout": 0.5, "alpha": 4,
        "normalisation": {"divide_by": 255.0, "mean": 0.45, "std": 0.225},
    }  # fmt: skip
    assert from_json(before) == network_defaults("slowfast_r101")
    assert from_json({"name": "slowfast_r50_4x16"}) == network_defaults("slowfast_r50_4x16")
    published = network_defaults("slowfast_r101").as_json()
    assert {name: published[name] for name in before if name in published} == {
        name: value for name, value in before.items() if name in published
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "slowfast_r9"}, "name 'slowfast_r9' is not one of slowfast_r50, "),
        ({"name": ["slowfast_r50"]}, "name is "),
        ({"alpha": 0}, "alpha is 0, and must be 1 to 32"),
        ({"alpha": True}, "alpha is True"),
        ({"alpha": 10**30}, "alpha is 1000"),
        ({"fusion_kernel": 4}, "fusion_kernel is 4, and must be odd, 1 to 15"),
        ({"slow_frames": ["stride"]}, r"slow_frames is \['stride'\], and must be linspace or"),
        ({"lateral_norm": 1}, "lateral_norm is 1, and must be true or false"),
        ({"normalisation": 3}, "normalisation is 3"),
        ({"normalisation": {"divide_by": 1.0}}, "normalisation is "),
        ({"normalisation": {"std": 0.0}}, "std is .* a standard deviation above 0"),
        ({"normalisation": {"std": [0.2, 0.2, float("nan")]}}, "std is "),
        ({"normalisation": {"mean": [0.2, 0.2]}}, "mean is "),
        ({"normalisation": {"mean": 10**400}}, "mean is "),
        ({"normalisation": {"mean": "red"}}, "mean is "),
    ],
)
def test_what_no_network_has_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_json({**MMACTION2.as_json(), **change})


def test_channels_that_differ_are_written_each() -> None:
    normalisation = MMACTION2.as_json()["normalisation"]
    assert normalisation["mean"] == [123.675 / 255, 116.28 / 255, 103.53 / 255]
    alike = replace(MMACTION2, mean=(0.5, 0.5, 0.5)).normalisation(1.0)
    assert (alike["divide_by"], alike["mean"], len(alike["std"])) == (1.0, 0.5, 3)
