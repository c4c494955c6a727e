"""What the tests of predict share."""

from pathlib import Path

import pytest

from tests.helpers.predictors import MOTIONS
from tests.helpers.small_model import write_model


@pytest.fixture(scope="module")
def model(on_cpu: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models folder of a small network with random weights, for a test without a GPU."""
    return write_model(tmp_path_factory.mktemp("model") / "models", MOTIONS)
