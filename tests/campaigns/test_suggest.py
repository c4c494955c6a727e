"""The table of what is chosen against what is drawn, and the whole at a small size."""

import json

import pytest

from tests.campaigns.suggest import interval, main, table_of


def test_the_interval_is_students() -> None:
    low, high = interval([0.0, 0.1, 0.2])  # 0.1 +- 4.303 * 0.1 / sqrt(3)
    assert (low, high) == pytest.approx((0.1 - 0.24841, 0.1 + 0.24841), abs=1e-4)
    rows = [{"suggest": [0.5, 0.8], "random": [0.5, one]} for one in (0.8, 0.7, 0.6)]
    lines = table_of(rows, 18).splitlines()
    assert lines[2:] == [
        "| 18 | 0.500 | 0.500 | +0.000 (+0.000 to +0.000) |",
        "| 36 | 0.800 | 0.700 | +0.100 (-0.148 to +0.348) |",
    ]


@pytest.mark.slow
def test_both_ways_are_trained(capfd: pytest.CaptureFixture[str]) -> None:
    found = main([
        "--seeds", "1", "--rounds", "1", "--step", "12", "--epochs", "1", "--aslant", "10",
        "--pool", "6", "--val", "2",
    ])  # fmt: skip
    assert json.loads(capfd.readouterr().out.splitlines()[-1]) == found
    assert len(found[0]["suggest"]) == len(found[0]["random"]) == 2
    assert found[0]["suggest"][0] == found[0]["random"][0]
