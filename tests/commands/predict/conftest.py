"""What the tests of predict share."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.helpers.predictors import MOTIONS
from tests.helpers.small_model import write_model


@pytest.fixture(scope="module")
def model(on_cpu: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models folder of a small network with random weights, for a test without a GPU."""
    return write_model(tmp_path_factory.mktemp("model") / "models", MOTIONS)


@pytest.fixture
def new_children() -> Callable[[], list[psutil.Process]]:
    """The processes that the test started and that still run; those of other files run besides."""
    before = psutil.Process().children()
    return lambda: [child for child in psutil.Process().children() if child not in before]
