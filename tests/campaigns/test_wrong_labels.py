"""The list of probably wrong labels, at a small size."""

import json

import pytest

from tests.campaigns.wrong_labels import main


@pytest.mark.slow
def test_it_is_scored(capfd: pytest.CaptureFixture[str]) -> None:
    found = main(["--clips", "6", "--folds", "2", "--epochs", "1", "--share", "0.3"])
    assert json.loads(capfd.readouterr().out.splitlines()[-1]) == found
    assert found[0]["exchanged"] == 11 and 0 < found[0]["listed"] <= 36
    agreed, joined = found[0]["agreed"], found[0]["joined"]
    assert agreed["listed"] <= found[0]["listed"] <= joined["listed"]
    assert joined["recall"] >= found[0]["recall"] >= agreed["recall"]
