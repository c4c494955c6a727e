"""Files of tests reach processes, also where one of those dies; and who gets the cores."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from xdist.remote import Producer

from tests.conftest import pytest_runtest_teardown
from tests.helpers.scheduling import FileScheduling
from tests.helpers.video_kinds import KINDS, write


class Node:
    """A process, as far as the scheduler sees it: tests that it was given, and whether it may
    end behind them."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.given: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    def can_run(self) -> bool:
        """It needs the test behind the one that it runs, or that there is none."""
        return len(self.given) > 1 or bool(self.given and self.shutting_down)


TESTS = [f"test_{file}.py::test_{n}" for file in "abcdefgh" for n in range(3)]


def scheduling(request: pytest.FixtureRequest, tests: list[str], *nodes: Node) -> Any:
    request.config.option.tx = ["popen"] * len(nodes)
    made = FileScheduling(request.config, Producer("tests", enabled=False))
    for node in nodes:
        join(made, tests, node)
    made.schedule()
    return made


def join(made: Any, tests: list[str], node: Node) -> None:
    made.add_node(node)
    made.add_node_collection(node, tests)


def run(made: Any, nodes: list[Node], ran: list[str], until: int) -> None:
    """Each process in turn runs a test, until so many are done or none can run any."""
    while len(ran) < until and any(node.can_run() for node in nodes):
        for node in nodes:
            if node.can_run() and len(ran) < until:
                index = node.given.pop(0)
                ran.append(TESTS[index])
                made.mark_test_complete(node, index)


@pytest.fixture
def ended_options(request: pytest.FixtureRequest) -> Any:
    before = request.config.option.tx
    yield
    request.config.option.tx = before


@pytest.mark.usefixtures("ended_options")
@pytest.mark.parametrize("when", range(len(TESTS)))
def test_every_test_runs_once_where_a_process_dies(
    request: pytest.FixtureRequest, when: int
) -> None:
    first, second, third = (Node(name) for name in "123")
    made = scheduling(request, TESTS, first, second)
    ran: list[str] = []
    run(made, [first, second], ran, when)
    died = made.remove_node(first)
    assert died is None or died == TESTS[first.given[0]]
    join(made, TESTS, third)  # as pytest-xdist replaces it
    made.schedule()
    run(made, [second, third], ran, len(TESTS))
    assert sorted([*ran, *([died] if died else [])]) == sorted(TESTS)
    assert second.shutting_down and third.shutting_down and made.tests_finished


@pytest.mark.usefixtures("ended_options")
def test_without_a_death_each_file_stays_with_one_process(request: pytest.FixtureRequest) -> None:
    nodes = [Node("1"), Node("2")]
    made = scheduling(request, TESTS, *nodes)
    whose: dict[str, set[str]] = {}
    ran: list[str] = []
    for node in nodes:
        given = node.send_runtest_some

        def send(indices: list[int], node: Node = node, given: Any = given) -> None:
            for index in indices:
                whose.setdefault(TESTS[index].split(":")[0], set()).add(node.gateway.id)
            given(indices)

        node.send_runtest_some = send  # type: ignore[method-assign]
    run(made, nodes, ran, len(TESTS))
    assert sorted(ran) == sorted(TESTS)
    assert all(len(names) == 1 for names in whose.values())


@pytest.mark.skipif(not hasattr(os, "SCHED_FIFO") or os.geteuid() != 0, reason="needs root")
def test_no_test_leaves_its_process_real_time(tmp_path: Path) -> None:
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        pytest.skip("these tests were started with a priority of their own")
    write(tmp_path / "a.mp4", KINDS["AV1"])
    if os.sched_getscheduler(0) != os.SCHED_FIFO:
        pytest.skip("the encoder may not, or does not, change it here")
    pytest_runtest_teardown()
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
