"""How processes meet, and what a user reads when they do not."""

import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from tests.helpers.training_runs import ROOT, free_port

JOIN = """
from pathlib import Path
from slowfast_dist.system import signals
from slowfast_dist.cli.main import one_line_for_mistakes
signals.install()
from slowfast_dist.distributed import rendezvous
rendezvous.STOP_SECONDS = 3.0
print("ready", flush=True)
with one_line_for_mistakes():
    rendezvous.join(timeout=60, shared_folder=Path())
"""


def member(
    request: pytest.FixtureRequest, rank: int, **environment: str
) -> subprocess.Popen[str]:
    ranks = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", JOIN], cwd=ROOT, env=os.environ | ranks | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    request.addfinalizer(process.kill)
    return process


def test_one_that_waits_alone_and_is_asked_to_stop_ends_in_seconds(
    request: pytest.FixtureRequest,
) -> None:
    """As torchrun does with the others when one died during its imports."""
    process = member(request, 0, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    _, printed = process.communicate(timeout=240)
    assert time.monotonic() - begin < 3 + 40  # a busy machine's exit
    assert process.returncode == 1 and "error: process 1 did not join within 3 s" in printed


@pytest.mark.parametrize(
    ("address", "port", "words"),
    [
        ("no-such-host.invalid", "29500", "MASTER_ADDR no-such-host.invalid"),
        ("127.0.0.1", "taken", "MASTER_PORT"),
    ],
)
def test_an_address_that_cannot_be_is_the_users_mistake(
    address: str, port: str, words: str, request: pytest.FixtureRequest
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        if port == "taken":
            port = str(taken.getsockname()[1])
        process = member(request, 0, MASTER_ADDR=address, MASTER_PORT=port, LOCAL_WORLD_SIZE="1")
        _, printed = process.communicate(timeout=240)  # name servers take their time to say no
    assert process.returncode == 2 and "Traceback" not in printed
    assert printed.startswith(f"error: {words}")


def test_a_host_that_knows_itself_as_loopback_talks_through_its_network() -> None:
    """tests/distributed/test_two_hosts.py has such hosts; here, what they would use on this one."""
    from slowfast_dist.distributed import rendezvous

    address = rendezvous._address_outwards()
    others = [a for a in addresses_of_this_host() if not a.startswith("127.")]
    assert address in (others or ["127.0.0.1"])


def addresses_of_this_host() -> list[str]:
    every = psutil.net_if_addrs().values()
    return [a.address for each in every for a in each if a.family == socket.AF_INET]
