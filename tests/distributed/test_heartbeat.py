"""The heartbeat alone, between many small processes without torch."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from slowfast_dist.distributed.door import MOST_STRANGERS
from slowfast_dist.distributed.heartbeat import Heartbeat
from tests.helpers.training_runs import ROOT

MEMBER = """
import sys, time
from pathlib import Path
from slowfast_dist.system import signals
from slowfast_dist.distributed.heartbeat import Heartbeat
rank, world_size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
heartbeat = Heartbeat(rank, world_size, float(sys.argv[4]), b"t" * 64)
place = folder / "place"
if rank == 0:
    (folder / "new").write_text(heartbeat.listen("127.0.0.1"))
    (folder / "new").rename(place)
else:
    while not place.exists():
        time.sleep(0.01)
    heartbeat.connect(place.read_text())
heartbeat.start()
(folder / f"up{rank}").touch()
while True:
    time.sleep(0.01)
    if (folder / f"fail{rank}").exists():
        heartbeat.fail("no such class", 2)
        sys.exit(2)
    if (folder / "leave").exists():
        heartbeat.shutdown()
        sys.exit(0)
    if signals.received() and not (folder / f"stop{rank}").exists():
        (folder / f"stop{rank}").touch()
    if (folder / f"signal{rank}").exists():
        signals.request("SIGUSR1")
"""


TOKEN = b"t" * 64
"""What MEMBER's processes know."""

LONG = 10_000
"""A timeout that ends nothing while a test lasts."""

END_SECONDS = 120
"""In which what must happen has happened, also on a machine that is busy with other things."""


class Members:
    def __init__(self, folder: Path, count: int, timeout: float, hosts: int = 1) -> None:
        self.folder = folder
        script = folder / "member.py"
        script.write_text(MEMBER)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.processes: list[subprocess.Popen[str]] = []
        for rank in range(count):
            process = subprocess.Popen(
                [sys.executable, script, str(rank), str(count), folder, str(timeout)],
                env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank % (count // hosts))},
                stderr=subprocess.PIPE, text=True,
                process_group=self.processes[0].pid if self.processes else 0,
            )  # fmt: skip
            self.processes.append(process)

    def wait_for(self, name: str) -> None:
        deadline = time.monotonic() + END_SECONDS
        while len(list(self.folder.glob(f"{name}[0-9]*"))) < len(self.processes):
            assert time.monotonic() < deadline
            assert all(process.poll() is None for process in self.processes)
            time.sleep(0.02)

    def order(self, name: str) -> None:
        (self.folder / name).touch()

    def signal_all(self, number: int) -> None:
        """At the same moment."""
        os.killpg(self.processes[0].pid, number)

    def end(self) -> tuple[list[int], list[str]]:
        """All exit codes, and all lines printed."""
        until = time.monotonic() + END_SECONDS
        codes = [process.wait(max(0, until - time.monotonic())) for process in self.processes]
        lines = [line for p in self.processes if p.stderr for line in p.stderr.read().splitlines()]
        return codes, lines


@pytest.fixture
def members(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Members]:
    made = Members(tmp_path, *request.param)
    try:
        made.wait_for("up")
        yield made
    finally:
        for process in made.processes:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("members", [(24, LONG)], indirect=True)
@pytest.mark.parametrize("victim", [0, 17])
def test_a_death_ends_all_and_is_said_once(members: Members, victim: int) -> None:
    members.processes[victim].kill()
    codes, lines = members.end()
    assert codes.pop(victim) == -signal.SIGKILL and set(codes) == {1}
    assert len(lines) == 1 and f"process {victim} on" in lines[0]


@pytest.mark.parametrize("members", [(4, LONG, 2)], indirect=True)
def test_the_loss_of_the_first_host_is_said_on_the_second(members: Members) -> None:
    for process in members.processes[:2]:
        process.kill()
    codes, lines = members.end()
    assert codes[2:] == [1, 1] and len(lines) == 1 and "process 0 on" in lines[0]


@pytest.mark.parametrize("members", [(5, 6)], indirect=True)
def test_silence_ends_all(members: Members) -> None:
    *others, silent, last = members.processes
    silent.send_signal(signal.SIGSTOP)
    for process in (*others, last):
        assert process.wait(END_SECONDS) == 1
    silent.kill()
    codes, lines = members.end()
    assert codes == [1, 1, 1, -signal.SIGKILL, 1]
    assert len(lines) == 1 and "process 3" in lines[0] and "--distributed.timeout" in lines[0]


@pytest.mark.parametrize("members", [(3, 5)], indirect=True)
def test_a_group_that_was_suspended_as_a_whole_goes_on(members: Members) -> None:
    """As a scheduler does that shares a node out in turns."""
    members.signal_all(signal.SIGSTOP)
    time.sleep(7)
    members.signal_all(signal.SIGCONT)
    members.order("signal2")
    members.wait_for("stop")  # each has heard of another one
    assert [process.poll() for process in members.processes] == [None] * 3
    members.order("leave")
    codes, lines = members.end()
    assert codes == [0, 0, 0] and not [line for line in lines if line.startswith("error: ")]


@pytest.mark.parametrize("members", [(4, LONG)], indirect=True)
@pytest.mark.parametrize("ranks", [[2], [0], [0, 1, 2, 3]])
def test_an_error_is_said_once_and_ends_all_with_its_code(
    members: Members, ranks: list[int]
) -> None:
    for rank in ranks:
        members.order(f"fail{rank}")
    codes, lines = members.end()
    assert codes == [2] * 4
    name = f"process 2 on {socket.gethostname()}: " if ranks == [2] else ""
    assert lines == [f"error: {name}no such class"]


@pytest.mark.parametrize("members", [(4, LONG)], indirect=True)
def test_a_request_to_stop_reaches_all(members: Members) -> None:
    members.order("signal2")
    members.wait_for("stop")
    members.order("leave")
    assert members.end()[0] == [0] * 4


def reach(members: Members) -> socket.socket:
    place = json.loads((members.folder / "place").read_text())
    assert place["address"] == "127.0.0.1"
    return socket.create_connection((place["address"], place["port"]), END_SECONDS)


@pytest.mark.parametrize("members", [(2, LONG)], indirect=True)
def test_strangers_change_nothing(members: Members) -> None:
    """They do not know the token: they cannot end a run, stay connected, or hear of it."""
    deep = b"[" * 100_000 + b"\n"
    almost = TOKEN[:-1] + b"x" + b'{"rank": 1, "host": "x"}\n'
    part = TOKEN[:10]  # what is right so far gets no other answer than what is wrong
    sayings = (b"5\n", b"\xff\xfe\n", b'{"end": 3}\n', b"x" * 300_000, deep, almost, part, b"")
    strangers = [reach(members) for _ in sayings]
    begin = time.monotonic()
    for stranger, said in zip(strangers, sayings, strict=True):
        with suppress(ConnectionError):  # it may be sent away before it has said all
            stranger.sendall(said)
    answers = []
    for stranger in strangers:
        with suppress(ConnectionError):
            answers.append(stranger.recv(1))
        stranger.close()
    assert not any(answers) and time.monotonic() - begin < END_SECONDS
    assert [process.poll() for process in members.processes] == [None, None]
    members.order("leave")
    assert members.end() == ([0, 0], [])


@pytest.mark.parametrize("members", [(2, LONG)], indirect=True)
def test_random_bytes_of_strangers_change_nothing(members: Members) -> None:
    rng = random.Random(0)
    for _ in range(300):
        with reach(members) as stranger, suppress(ConnectionError):
            stranger.sendall(rng.randbytes(rng.choice([1, 63, 64, 65, 2_000])))
    members.order("signal1")
    members.wait_for("stop")  # process 0 still hears, and tells
    members.order("leave")
    assert members.end()[0] == [0, 0]


def test_a_process_is_let_in_while_strangers_take_all_places() -> None:
    first = Heartbeat(0, 2, END_SECONDS, TOKEN)
    place = json.loads(first.listen("127.0.0.1"))
    strangers = [
        socket.create_connection((place["address"], place["port"]))
        for _ in range(3 * MOST_STRANGERS)
    ]
    first.start()
    second = Heartbeat(1, 2, END_SECONDS, TOKEN)
    second.connect(json.dumps(place))
    until = time.monotonic() + END_SECONDS
    while [peer.rank for peer in first._peers] != [1] and time.monotonic() < until:
        time.sleep(0.01)
    assert [peer.rank for peer in first._peers] == [1]
    assert first._door is not None and len(first._door.strangers) <= MOST_STRANGERS
    first.shutdown()
    second.shutdown()
    for stranger in strangers:
        stranger.close()


def test_a_fault_of_the_thread_ends_its_process() -> None:
    """A process without its heartbeat would wait for others that are gone."""
    program = (
        "import time\nfrom slowfast_dist.distributed.heartbeat import Heartbeat\n"
        "heartbeat = Heartbeat(0, 2, 100, b't' * 64)\nheartbeat.listen('127.0.0.1')\n"
        "heartbeat._check_peers = None\nheartbeat.start()\ntime.sleep(120)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: the heartbeat of process 0 failed: TypeError")
