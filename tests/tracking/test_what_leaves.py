"""What leaves the machine: trainings on a host of their own, whose every packet is seen."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slowfast_dist.data.synthetic import make_videos
from tests.helpers.cluster import NETWORK, Host, network, no_hosts_because
from tests.helpers.training_runs import ROOT, TINY
from tests.helpers.wandb_files import records

pytestmark = pytest.mark.slow

HOST, USER = "keeps-to-itself", "ann-onymous"

SNIFFER = """
import json, socket, sys, threading
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
raw.bind(("v1", 0))
def read():
    while True:
        packet, (_, protocol, _, _, _) = raw.recvfrom(65536)
        if protocol == 0x86DD and packet[20] in (0, 58):  # what IPv6 itself says to its neighbours
            continue
        print(json.dumps([hex(protocol), packet[14:64].hex()]), flush=True)
threading.Thread(target=read, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""
"""Prints each packet of the host's only way out, until its input is closed."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("secret-place") / "gestures"
    make_videos(root, 4, seed=0, size=32, frames=12, classes=("moves left", "turns clockwise"))
    return root


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host that has a name server and a way out, behind which nobody answers."""
    if why := no_hosts_because():
        pytest.skip(why)
    resolver = tmp_path_factory.mktemp("etc") / "resolv.conf"
    resolver.write_text(f"nameserver {NETWORK}.253\noptions timeout:1 attempts:1\n")
    with network(HOST) as found:
        [host] = found.hosts
        host.run("mount", "--bind", resolver, "/etc/resolv.conf")
        for place in (253, 254):  # known ones, so that nobody is asked where they are
            words = ["ip", "neigh", "add", f"{NETWORK}.{place}", "lladdr", "02:00:00:00:00:fe"]
            host.run(*words, "dev", "v1", "nud", "permanent")
        host.run("ip", "route", "add", "default", "via", f"{NETWORK}.254")
        yield host


@contextmanager
def packets(host: Host) -> Iterator[list[str]]:
    """Those that the host sent, or got, meanwhile; filled at the end."""
    found: list[str] = []
    pipe = subprocess.PIPE
    with host.start(sys.executable, "-c", SNIFFER, stdin=pipe, stdout=pipe) as sniffer:
        assert sniffer.stdout is not None and sniffer.stdout.readline() == "ready\n"
        yield found
        printed, _ = sniffer.communicate(timeout=60)
    found += printed.splitlines()


def run(
    host: Host, home: Path, *words: str | Path, python: tuple[str, ...] = (sys.executable,)
) -> str:
    """``words`` by this Python, as somebody without a key and without wandb's variables."""
    home.mkdir(exist_ok=True)
    env = {
        "HOME": str(home), "NETRC": str(home / "netrc"), "USER": USER, "LOGNAME": USER,
        "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    clean = ["env", *(f"--unset=WANDB_{name}" for name in ("API_KEY", "MODE", "DISABLED"))]
    return host.run(*clean, *python, *words, env=env)


def training(videos: Path, output: Path, *flags: str) -> list[str | Path]:
    """A training of one epoch; in TINY wandb is off."""
    return [
        *TINY, "--data.root", videos, "--epochs", "1", "--global-batch-size", "4",
        "--micro-batch-size", "2", "--output-dir", output, *flags,
    ]  # fmt: skip


def test_packets_are_seen_where_something_is_tried(host: Host) -> None:
    for code in ("s.getaddrinfo('example.com', 80)", "s.create_connection(('192.0.2.1', 80), 1)"):
        with packets(host) as found:
            host.run(sys.executable, "-c", f"import socket as s\ntry: {code}\nexcept OSError: 0")
        assert found, code


def test_a_run_without_wandb_sends_no_packet(host: Host, videos: Path, tmp_path: Path) -> None:
    with packets(host) as found:
        printed = run(host, tmp_path / "home", "train.py", *training(videos, tmp_path / "run"))
    assert found == [] and "wandb:" not in printed
    assert not list(tmp_path.rglob("*wandb*"))


def test_several_processes_and_the_other_commands_send_no_packet(
    host: Host, videos: Path, tmp_path: Path
) -> None:
    output, home = tmp_path / "run", tmp_path / "home"
    # Not torchrun by itself: its agent's store asks the name server for the name of 127.0.0.1.
    launcher: list[str | Path] = ["PET_NPROC_PER_NODE=2", "launch/torchrun.sh"]
    video = next(videos.rglob("*.mp4"))
    with packets(host) as found:
        run(host, home, *launcher, *training(videos, output), python=())
        commands: list[list[str | Path]] = [
            ["evaluate", output, "--data", videos, "--num-workers", "0"],
            ["predict", output, video],
        ]  # fmt: skip
        for words in commands:
            run(host, home, "-m", "slowfast_dist", *words)
    assert found == []


def held(run_dir: Path) -> str:
    """All that wandb would upload of an offline run: its records and its files, as text.

    Without the places of files that are to be uploaded: they are for the uploader.
    """
    content = []
    for record in records(run_dir):
        if record.HasField("artifact"):
            for entry in record.artifact.manifest.contents:
                entry.ClearField("local_path")
        content.append(record.SerializeToString())
    files = [path for path in run_dir.glob("wandb/offline-run-*/files/**/*") if path.is_file()]
    content += [path.read_bytes() for path in files] + [str(path.name).encode() for path in files]
    return b"\n".join(content).decode("utf-8", "replace")


def test_without_a_key_nothing_is_sent_and_what_wandb_holds_names_no_place_and_nobody(
    host: Host, videos: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home-of-ann"
    secrets = {
        "host name": HOST, "user": USER, "home": home.name, "data": videos.parent.name,
        "command line": "--global-batch-size", "program": "train.py", "Python": sys.executable,
        "output": tmp_path.name, "repository": str(ROOT),
    }  # fmt: skip
    texts = {}
    for asked, mode in (("false", "auto"), ("true", "offline")):
        output = tmp_path / f"run-{asked}"
        words = training(videos, output, "--wandb.mode", mode, "--wandb.metadata", asked)
        with packets(host) as seen:
            printed = run(host, home, "train.py", *words)
        assert seen == [] and "wandb sync" in printed
        assert not list(home.rglob("*wandb*"))
        assert ("no host name, paths or command line" in printed) == (asked == "false")
        texts[asked] = held(output)
        versions = json.loads((output / "environment.json").read_text())["versions"]
        for word in ("gestures", "turns clockwise", "val/accuracy", versions["torch"]):
            assert word in texts[asked]
    found = [what for what, secret in secrets.items() if secret in texts["false"]]
    assert found == []
    there = [what for what, secret in secrets.items() if secret in texts["true"]]
    assert {"host name", "data", "command line", "program", "Python", "output"} <= {*there}
    assert not list(tmp_path.glob("run-false/wandb/offline-run-*/files/requirements.txt"))
    assert not list(tmp_path.glob("run-false/wandb/offline-run-*/files/media/**/*.mp4"))
    shutil.rmtree(tmp_path / "run-true")
