"""What a launcher tells this process about the others: torchrun's variables, also from SLURM's."""

import os
import re
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path

from slowfast_dist.config.errors import UserError
from slowfast_dist.distributed import heartbeat
from slowfast_dist.system import signals

FIRST_PORT = 20_000
"""The lowest port for a step's rendezvous: those below are more often taken by services."""

PORTS = 12_000
"""How many ports there are for a step's rendezvous: they end below those that Linux gives out to
whoever asks for any, from 32768 on."""


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
    environ.update(
        RANK=str(rank), WORLD_SIZE=tasks, LOCAL_RANK="0" if sees_one_gpu else str(local),
        LOCAL_WORLD_SIZE=str(per_node[node]),
    )  # fmt: skip
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
    return [int(part[1]) for part in parts if part for _ in range(int(part[2] or 1))]


def _number(environ: Mapping[str, str], name: str) -> int:
    text = _of_slurm(environ, name)
    if not text.isdecimal():
        raise UserError(f"{name} {text}: not a number: start the step with srun")
    return int(text)


def _of_slurm(environ: Mapping[str, str], name: str) -> str:
    if name not in environ:
        raise UserError(f"{name} is missing beside SLURM_STEP_ID: start the step with srun")
    return environ[name]


_LAUNCHERS = {
    "accelerate", "accelerate-launch", "accelerate.commands.launch", "torchrun",
    "torch.distributed.run", "torch.distributed.launch", "slurmstepd:", "mpirun", "mpiexec",
    "mpirun.openmpi", "mpiexec.openmpi", "orterun", "orted", "prterun", "prted", "hydra_pmi_proxy",
}  # fmt: skip
_LAUNCHED = ("RANK", "ACCELERATE_MIXED_PRECISION", "SLURM_STEP_ID")


def launcher() -> int | None:
    """The process number of this process's parent, if that is a launcher of training processes. A
    shell or a terminal is none: what was started in its background outlives it."""
    if not any(name in os.environ for name in _LAUNCHED):
        return None
    words = parent_words()
    names = {Path(word).name for word in (*words, words[0].split(" ")[0])}  # or a process's title
    return os.getppid() if names & _LAUNCHERS else None


def parent_words() -> list[str]:
    """The command line of this process's parent; one empty word where it cannot be seen."""
    try:
        command = Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    except OSError:
        command = b""
    return command.decode(errors="replace").split("\0")


def watch_siblings(launcher: int) -> None:
    """End this process once a sibling died, until the heartbeat watches over all of them.

    A launcher asks its processes to stop also when one of them died, and kills them half a minute
    later; there is no other way to know it before they have met.
    """
    siblings = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    while siblings > 1 and heartbeat.current() is None:
        if signals.received() is not None and _running(launcher) < siblings:
            # Where the user's mistake ended the other one, this one meets and reports it by then.
            time.sleep(3.0)
            os.write(2, b"error: another process of this host died before training began\n")
            os._exit(1)
        time.sleep(0.5)  # a check takes no CPU time to speak of


def _running(launcher: int) -> int:
    import psutil  # only now: it takes its time

    count = 0
    for child in psutil.Process(launcher).children():
        with suppress(psutil.NoSuchProcess):
            count += child.status() != psutil.STATUS_ZOMBIE
    return count
