"""What a launcher tells this process about the others: torchrun's variables, also from SLURM's."""

import re
from collections.abc import Mapping, MutableMapping
from itertools import chain, repeat

from slowfast_dist.config import UserError

FIRST_PORT, PORTS = 20_000, 12_000
"""Of the ports for a step's rendezvous: free for users, and below those that Linux gives out."""


def adopt_slurm_ranks(environ: MutableMapping[str, str]) -> None:
    """Where this process is one of the tasks of an ``srun``, set the variables torchrun sets.

    Those are RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Nothing
    is changed where a launcher set RANK (also one that itself runs under srun), and none is set
    for a step of one task or outside of any: a batch script has SLURM_PROCID too, and the number of
    tasks that its job may start, but what it starts without srun is alone.

    Raises UserError where SLURM's variables contradict each other.
    """
    tasks = environ.get("SLURM_STEP_NUM_TASKS", "1")
    if "RANK" in environ or "SLURM_STEP_ID" not in environ or tasks == "1":
        return
    per_node = _tasks_per_node(_of_slurm(environ, "SLURM_STEP_TASKS_PER_NODE"))
    node, rank = _number(environ, "SLURM_NODEID"), _number(environ, "SLURM_PROCID")
    local = _number(environ, "SLURM_LOCALID")
    if sum(per_node) != int(tasks) or node >= len(per_node) or local >= per_node[node]:
        raise UserError(
            f"SLURM_STEP_TASKS_PER_NODE {environ['SLURM_STEP_TASKS_PER_NODE']} does not fit "
            f"SLURM_STEP_NUM_TASKS {tasks}, SLURM_NODEID {node}, SLURM_LOCALID {local}: "
            "set RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE, or use torchrun"
        )
    # A task that SLURM shows its own GPU alone (--gpus-per-task) finds it as the first one.
    sees_one_gpu = re.fullmatch(r"[^,]+", environ.get("CUDA_VISIBLE_DEVICES", ""))
    environ["RANK"] = str(rank)
    environ["WORLD_SIZE"] = tasks
    environ["LOCAL_RANK"] = "0" if sees_one_gpu else str(local)
    environ["LOCAL_WORLD_SIZE"] = str(per_node[node])
    first = first_host(_of_slurm(environ, "SLURM_STEP_NODELIST"))
    environ.setdefault("MASTER_ADDR", "127.0.0.1" if len(per_node) == 1 else first)
    # Every step of a cluster has its own, and each task can tell it without asking.
    step = 31 * _number(environ, "SLURM_JOB_ID") + _number(environ, "SLURM_STEP_ID")
    environ.setdefault("MASTER_PORT", str(FIRST_PORT + step % PORTS))


def first_host(nodes: str) -> str:
    """The first name of a list of nodes as SLURM shortens it: rack01 of ``rack[01-04,7],x``."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[([^],-]*)[^]]*\]", r"\1", first[0] if first else "")


def _tasks_per_node(shortened: str) -> list[int]:
    """2, 2, 2 and 1 for ``2(x3),1``."""
    parts = [re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part) for part in shortened.split(",")]
    if not all(parts):
        raise UserError(
            f"SLURM_STEP_TASKS_PER_NODE {shortened}: not understood: set RANK, WORLD_SIZE, "
            "LOCAL_RANK and LOCAL_WORLD_SIZE, or use torchrun"
        )
    return list(chain(*(repeat(int(part[1]), int(part[2] or 1)) for part in parts if part)))


def _number(environ: Mapping[str, str], name: str) -> int:
    text = _of_slurm(environ, name)
    if not text.isdecimal():
        raise UserError(f"{name} {text}: not a number: start the step with srun")
    return int(text)


def _of_slurm(environ: Mapping[str, str], name: str) -> str:
    if name not in environ:
        raise UserError(f"{name} is missing beside SLURM_STEP_ID: start the step with srun")
    return environ[name]
