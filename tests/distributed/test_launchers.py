"""What a process learns of the others from SLURM's variables."""

import pytest

from slowfast_dist.config.errors import UserError
from slowfast_dist.distributed.launchers import adopt_slurm_ranks, first_host

STEP = {
    "SLURM_JOB_ID": "12", "SLURM_STEP_ID": "3", "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_STEP_TASKS_PER_NODE": "2(x3),1", "SLURM_STEP_NODELIST": "rack[01-03,7]",
    "SLURM_PROCID": "6", "SLURM_NODEID": "3", "SLURM_LOCALID": "0",
}  # fmt: skip
"""The last task of ``srun --nodes=4 --ntasks=7``."""


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("h1", "h1"),
        ("h1,h2", "h1"),
        ("rack[01-04,7],x", "rack01"),
        ("rack[3,5-7]", "rack3"),
        ("a-b[9-10]c,d", "a-b9c"),
        ("r[1-2]n[03-04]", "r1n03"),
        ("login.site.org,x[1-2]", "login.site.org"),
    ],
)
def test_the_first_host_of_a_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_a_task_of_a_step_gets_what_torchrun_would_set() -> None:
    environ = dict(STEP)
    adopt_slurm_ranks(environ)
    port = int(environ["MASTER_PORT"])
    assert {name: environ[name] for name in environ.keys() - STEP.keys()} == {
        "RANK": "6", "WORLD_SIZE": "7", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "rack01", "MASTER_PORT": str(port),
    }  # fmt: skip
    assert 1024 < port < 32768
    other = STEP | {"SLURM_PROCID": "1", "SLURM_NODEID": "0", "SLURM_LOCALID": "1"}
    adopt_slurm_ranks(other)
    assert (other["LOCAL_RANK"], other["LOCAL_WORLD_SIZE"]) == ("1", "2")
    assert (other["MASTER_ADDR"], other["MASTER_PORT"]) == ("rack01", str(port))


def test_a_step_has_its_own_port_unless_the_user_says_so() -> None:
    ports = set()
    for change in ({}, {"SLURM_STEP_ID": "4"}, {"SLURM_JOB_ID": "13"}):
        environ = STEP | change
        adopt_slurm_ranks(environ)
        ports.add(environ["MASTER_PORT"])
    assert len(ports) == 3
    environ = STEP | {"MASTER_ADDR": "x", "MASTER_PORT": "5"}
    adopt_slurm_ranks(environ)
    assert (environ["MASTER_ADDR"], environ["MASTER_PORT"]) == ("x", "5")


@pytest.mark.parametrize(
    "change",
    [
        {"RANK": "0", "WORLD_SIZE": "2"},  # torchrun, started by srun on each node
        {"SLURM_STEP_NUM_TASKS": "1"},  # srun --pty bash
    ],
)
def test_others_ranks_stand(change: dict[str, str]) -> None:
    environ = STEP | change
    adopt_slurm_ranks(environ)
    assert environ == STEP | change


def test_a_batch_script_has_no_step() -> None:
    batch = {"SLURM_JOB_ID": "12", "SLURM_NTASKS": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    environ = dict(batch)
    adopt_slurm_ranks(environ)
    assert environ == batch


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLURM_STEP_TASKS_PER_NODE", "2(x2)"),
        ("SLURM_STEP_TASKS_PER_NODE", "two"),
        ("SLURM_NODEID", "4"),
        ("SLURM_LOCALID", "1"),
        ("SLURM_PROCID", ""),
    ],
)
def test_what_does_not_fit_is_named(name: str, value: str) -> None:
    with pytest.raises(UserError, match=name):
        adopt_slurm_ranks(STEP | {name: value})
    missing = {key: STEP[key] for key in STEP.keys() - {name}}
    with pytest.raises(UserError, match=f"{name} is missing"):
        adopt_slurm_ranks(missing)
