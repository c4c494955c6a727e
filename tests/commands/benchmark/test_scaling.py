"""benchmark scaling: real processes on one host and on two with a slow link, and the model."""

import json
import os
import sys
from pathlib import Path

import pytest

from slowfast_dist.commands.benchmark.roofline import (
    BACKWARD_SHARE,
    BUCKET_BYTES,
    HOP_SECONDS,
    all_reduce_seconds,
    exposed_seconds,
)
from tests.helpers.cluster import Host, Network
from tests.helpers.training_runs import launch

SMALL = ("--num-frames", "8", "--crop-size", "64", "--batch-size", "2", "--json")
STEPS = 2


# --- the model -----------------------------------------------------------------------------------


def test_a_ring_moves_twice_the_share_of_the_others():
    links = {"per_node": 1, "node_gbytes": 300, "network_gbytes": 2}
    hops = 2 * 2 * HOP_SECONDS
    assert all_reduce_seconds(1e6, 4, **links) == pytest.approx(2 * 3 / 4 * 1e6 / 2e9 + hops)
    assert all_reduce_seconds(1e6, 1, **links) == 0


def test_nodes_share_what_leaves_them():
    links = {"per_node": 8, "node_gbytes": 300, "network_gbytes": 50}
    hops = 4 * 2 * 4 * HOP_SECONDS
    inside, between = 2 * 7 / 8 * 4 / 300e9, 2 * 1 / 2 * 4 / 8 / 50e9
    size = 4 * BUCKET_BYTES
    expected = (inside + between) * BUCKET_BYTES + hops
    assert all_reduce_seconds(size, 16, **links) == pytest.approx(expected)


def test_a_step_waits_for_what_does_not_hide_and_for_the_last_bucket():
    size = 4 * BUCKET_BYTES
    assert exposed_seconds(1.0, 0.2, size, overlap=0.5) == pytest.approx(0.05)
    slow = exposed_seconds(1.0, 2.0, size, overlap=0.5)
    assert slow == pytest.approx(2.0 - 0.5 * BACKWARD_SHARE)
    assert exposed_seconds(1.0, 0.2, 100, overlap=1.0) == pytest.approx(0.2)


# --- the measurement -----------------------------------------------------------------------------


@pytest.mark.slow
def test_one_and_two_processes_are_measured_and_many_modelled():
    done = launch("-m", "slowfast_dist", "benchmark", "scaling", *SMALL, "--steps", str(STEPS))
    assert done.returncode == 0, done.stderr
    *text, last = done.stdout.splitlines()
    result = json.loads(last)
    one, two = result["rows"]
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["efficiency"] == 1 and two["all_reduce_seconds"] > 0
    assert one["all_reduce_share"] == 0  # it waits for nobody: all else is noise
    assert two["efficiency"] == pytest.approx(one["step_seconds"] / two["step_seconds"])
    assert two["gradient_bytes"] > 4e6
    modelled = result["modelled"]["rows"]
    assert [row["gpus"] for row in modelled][-1] == 512
    assert all(0 < row["efficiency"] <= 1 for row in modelled)
    assert "A MODEL, not measured" in "\n".join(text)


@pytest.mark.slow
def test_the_model_holds_on_two_hosts_with_a_limited_link(hosts: Network, tmp_path: Path) -> None:
    """The bytes are the model's; it takes as long as they do on that link, or longer where the
    machine is busy. Printed for the README: how much longer."""
    megabits = 20  # of which an all-reduce takes two seconds: far longer than a step computes
    for host in hosts.hosts:
        host.run(
            "tc", "qdisc", "replace", "dev", "v1", "root", "tbf", "rate", f"{megabits}mbit",
            "burst", "64kb", "latency", "400ms",
        )  # fmt: skip
    before = sent(hosts.hosts[1])
    processes = []
    for rank, host in enumerate(hosts.hosts):
        own = {
            "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
            "RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1",
            "MASTER_ADDR": "h1", "MASTER_PORT": "29555",
        }  # fmt: skip
        with open(tmp_path / host.name, "w") as file:
            processes.append(
                host.start(
                    sys.executable, "-m", "slowfast_dist", "benchmark", "scaling", *SMALL,
                    "--steps", str(STEPS), "--network-gbytes", str(megabits / 8e3), env=own,
                    stdout=file, stderr=file,
                )
            )  # fmt: skip
    assert [process.wait(400) for process in processes] == [0, 0], [
        (tmp_path / host.name).read_text() for host in hosts.hosts
    ]
    (row,) = json.loads((tmp_path / "h1").read_text().splitlines()[-1])["rows"]
    print(
        f"\nmeasured: {megabits} Mbit/s: all-reduce {row['all_reduce_seconds']:.3f} s, modelled "
        f"{row['modelled_all_reduce_seconds']:.3f}; step {row['step_seconds']:.3f} s, modelled "
        f"{row['modelled_step_seconds']:.3f}"
    )
    # One round is not counted; each has an all-reduce in the step and one alone.
    reduced = (sent(hosts.hosts[1]) - before) / (2 * (STEPS + 1))
    assert 1 < reduced / row["gradient_bytes"] < 1.15  # and the headers, and what was lost
    floor = row["modelled_all_reduce_seconds"]
    assert floor == pytest.approx(row["gradient_bytes"] / (megabits / 8 * 1e6), rel=0.01)
    for what in ("all_reduce_seconds", "step_seconds"):
        assert 0.9 * floor < row[what] < 4 * row[f"modelled_{what}"], what


def sent(host: Host) -> int:
    """Bytes that left the host."""
    (link,) = json.loads(host.run("ip", "-json", "-statistics", "link", "show", "v1"))
    return int(link["stats64"]["tx"]["bytes"])
