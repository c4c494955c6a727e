"""A test that asks for `kind` runs once for each kind of video."""

import pytest

from tests.helpers.video_kinds import KINDS


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)
