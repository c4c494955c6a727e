"""A training on two hosts with networks of their own, by launch/torchrun.sh."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slowfast_dist.data.synthetic import make_videos
from tests.helpers.cluster import Network, wait_for
from tests.helpers.training_runs import ROOT, TINY, living, rows, show_measured, trained

pytestmark = pytest.mark.slow

ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "VIRTUAL_ENV": sys.prefix,
    "OMP_NUM_THREADS": "1",
}
TIMEOUT = 10


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 6, seed=0, size=32, frames=12, classes=("moves left", "turns clockwise"))
    return (
        *TINY, "--data.root", root, "--global-batch-size", "4", "--micro-batch-size", "2",
        "--model.norm", "local", "--distributed.timeout", str(TIMEOUT),
    )  # fmt: skip


def start(hosts: Network, log: Path, *flags: str | Path) -> list[subprocess.Popen[str]]:
    """The README's command on each host; what a host prints goes to ``log`` and its name."""
    processes = []
    for rank, host in enumerate(hosts.hosts):
        own = {"PET_NNODES": "2", "PET_NODE_RANK": str(rank), "PET_MASTER_ADDR": "h1"}
        with open(log.with_suffix(f".{host.name}"), "w") as file:
            processes.append(
                host.start(
                    ROOT / "launch" / "torchrun.sh", *flags, env=ENVIRONMENT | own, stdout=file,
                    stderr=file,
                )
            )
    return processes


def printed(log: Path) -> str:
    return "".join(path.read_text() for path in sorted(log.parent.glob(f"{log.name}.h?")))


def test_two_hosts_train_as_one_process(
    hosts: Network, flags: tuple[str | Path, ...], tmp_path: Path
) -> None:
    alone = trained(tmp_path / "alone", *flags, "--epochs", "2")
    output, log = tmp_path / "together", tmp_path / "log"
    ends = [
        process.wait(300)
        for process in start(hosts, log, *flags, "--epochs", "2", "--output-dir", output)
    ]
    assert ends == [0, 0], printed(log)
    for kind, metric in (("step", "step/loss"), ("epoch", "train/loss"), ("epoch", "val/loss")):
        first = [row[metric] for row in rows(alone, kind)]
        assert [row[metric] for row in rows(output, kind)] == pytest.approx(first, abs=1e-4)


def test_a_cut_network_ends_both_sides(
    hosts: Network, flags: tuple[str | Path, ...], tmp_path: Path
) -> None:
    output, log = tmp_path / "run", tmp_path / "log"
    processes = start(hosts, log, *flags, "--epochs", "1000", "--output-dir", output)
    metrics = output / "metrics.jsonl"
    wait_for(metrics.exists, 300, "steps", lambda: printed(log))
    hosts.cut(hosts.hosts[0])
    cut = time.monotonic()
    try:
        ends = [process.wait(TIMEOUT + 45 - (time.monotonic() - cut)) for process in processes]
    finally:
        hosts.heal(hosts.hosts[0])
    show_measured(f"network cut, --distributed.timeout {TIMEOUT}: both sides ended", cut)
    assert all(code not in (0, 75) for code in ends), printed(log)
    left = [process for host in hosts.hosts for process in host.processes()]
    assert living(left, 15) == [], "processes outlived the training"
