"""What the tests of predict share."""

from collections.abc import Callable

import psutil
import pytest


@pytest.fixture
def new_children() -> Callable[[], list[psutil.Process]]:
    """The processes that the test started and that still run; those of other files run besides."""
    before = psutil.Process().children()
    return lambda: [child for child in psutil.Process().children() if child not in before]
