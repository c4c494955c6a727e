"""What holds for every test: nothing is left in the user's cache, and GPU tests need a GPU."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the probe remembers goes to a temporary folder, also in the processes a test starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLOWFAST_DIST_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
