"""The comparison of a long video with its segments cut out, at a small size."""

import json

import pytest

from tests.campaigns.segments import main


@pytest.mark.slow
def test_the_same_clips_come_of_both_at_no_great_cost(capfd: pytest.CaptureFixture[str]) -> None:
    found = main(["--minutes", "3", "--segments", "30", "--epochs", "0", "--clips", "60"])
    assert json.loads(capfd.readouterr().out.splitlines()[-1]) == found
    # Measured 1.2 to 1.3, and .6 of the prepared file; CI's machines are busy.
    assert found["ratio"] < 3 and found["prepared_ratio"] < 1.5
