"""What holds for every test, and what tests of several folders share."""

import os
import runpy
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

# Several tests run at once, and torch's threads, of which each test's process would have one for
# every core, would spin while they wait for each other: three to four times the CPU time.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when NumPy and torch are imported
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # of tests that set more

from tests.helpers.browser import chromium
from tests.helpers.cluster import Network, network, no_hosts_because
from tests.helpers.video_kinds import Videos

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WITHOUT = Path(__file__).parent / "helpers" / "without"
if os.environ.get("SLOWFAST_DIST_TEST_WITHOUT"):  # a machine that lacks something: see there
    os.environ["PYTHONPATH"] = os.pathsep.join(
        dict.fromkeys([str(WITHOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    runpy.run_path(str(WITHOUT / "sitecustomize.py"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the probe remembers goes to a temporary folder, also in the processes a test starts;
    they need not compile the package each time, which takes .3 s of the 2 s of a start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("SLOWFAST_DIST_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def no_choice_was_made(own_cache: None) -> None:
    """What one test found OpenVINO to be for some weights is not what the next one of the same
    weights computes with."""
    kept = Path(os.environ["SLOWFAST_DIST_CACHE"], "slowfast_dist", "answers")
    for path in kept.glob("*-*.json"):
        path.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Videos:
    """Videos of every kind, each made when it is first asked for."""
    return Videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture
def decord() -> None:
    """For tests that ask Decord for frames: it has wheels for x86_64 on Linux and Windows alone."""
    if find_spec("decord") is None:
        pytest.skip("there is no Decord for this machine")


@pytest.fixture
def new_children() -> Callable[[], list[psutil.Process]]:
    """The processes that the test started and that still run; those of other files run besides."""
    before = psutil.Process().children()
    return lambda: [child for child in psutil.Process().children() if child not in before]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Not for the session: while playwright is there, nothing else may use asyncio."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def on_cpu() -> Iterator[None]:
    """Models answer and train in this process as in a new one, on the CPU."""
    from accelerate.state import AcceleratorState, GradientState

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def hosts() -> Iterator[Network]:
    """Two hosts with addresses of their own on this machine."""
    if why := no_hosts_because():
        pytest.skip(why)
    with network("h1", "h2") as found:
        yield found


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real clips, where there is one."""
    folder = os.environ.get("SLOWFAST_DIST_TEST_DATA")
    if not folder:
        pytest.skip("SLOWFAST_DIST_TEST_DATA is not set: no real videos to test with")
    return Path(folder)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers: files with slow tests first, so that no worker ends long after the
    others. In one process the order stays."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Only for ``--dist loadfile``, as launch/test.sh has it."""
    if config.getvalue("dist") != "loadfile":
        return None
    from tests.helpers.scheduling import FileScheduling

    return FileScheduling(config, log)


STARTED = time.monotonic()
SLOW_MINUTES = float(os.environ.get("SLOWFAST_DIST_TEST_SLOW_MINUTES", "inf"))
"""Minutes after which no slow test starts any more: .ci/run sets them, as a slow or busy machine
would take longer than a CI may. What is left out is counted in the summary."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("slow") and time.monotonic() - STARTED > 60 * SLOW_MINUTES:
        pytest.skip(f"slow tests have had their {SLOW_MINUTES:g} minutes")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """A test that encodes AV1 as root leaves its process real-time, which then keeps all others off
    its core until it ends: findings/pyav_svtav1_realtime_priority.sh."""
    if hasattr(os, "SCHED_FIFO") and os.sched_getscheduler(0) == os.SCHED_FIFO:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
