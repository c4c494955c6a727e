"""What the launchers' variables say, made one: torchrun's, whoever started the processes; and what
of it cannot be, in one line. No torch here: this comes before anything slow."""

import hashlib
import os
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from slowfast_dist.config.errors import UserError
from slowfast_dist.distributed.launchers import FIRST_PORT, PORTS, adopt_slurm_ranks

_OPEN_MPI = (
    "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
)  # fmt: skip
"""Open MPI's rank, number of processes, and both on this host (tried with 4.1)."""
_HYDRA = ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS")
"""The same of Hydra, which starts the processes of MPICH and Intel MPI (tried with MPICH 4.0)."""
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")

_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

_HOW = (
    "start with torchrun, accelerate launch, srun or mpirun; or unset {present} to train in one "
    "process"
)

_SHARDED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor, context or sequence parallelism",
}
"""What accelerate's configuration may ask for to share one model out, by its variable."""


def rank() -> int:
    """This process among those that a launcher started; 0 where there is no launcher."""
    return int(os.environ.get("RANK") or 0)


def require_one_process(command: str) -> None:
    """Raise UserError where a launcher started several processes of a command that is one."""
    if (count := os.environ.get("WORLD_SIZE") or "1") != "1":
        raise UserError(
            f"{command} is one process, but the launcher started {count} (WORLD_SIZE): start it "
            f"with python -m slowfast_dist {command}"
        )


def adopt_ranks(environ: MutableMapping[str, str]) -> None:
    """Set RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun
    does, where mpirun or srun started this process and no launcher has set RANK.

    Raises UserError where what there is names no process of a group.
    """
    _adopt_mpi_ranks(environ)
    adopt_slurm_ranks(environ)
    _require_whole(environ)


def _adopt_mpi_ranks(environ: MutableMapping[str, str]) -> None:
    # mpirun in a job of SLURM starts its processes by srun, so its own variables come first. srun
    # itself may set PMI_RANK, but none for the ranks of a host.
    names = next((names for names in (_OPEN_MPI, _HYDRA) if names[3] in environ), None)
    if names is None or "RANK" in environ or environ.get(names[1], "1") == "1":
        return
    missing = [name for name in names if name not in environ]
    if missing:
        raise UserError(f"{missing[0]} is missing beside {names[3]}: start with mpirun")
    environ.update({ours: environ[its] for ours, its in zip(_TORCHRUN, names, strict=True)})
    if environ["LOCAL_WORLD_SIZE"] == environ["WORLD_SIZE"]:
        environ.setdefault("MASTER_ADDR", "127.0.0.1")
    if "MASTER_ADDR" not in environ:
        raise UserError(
            "MASTER_ADDR is missing: mpirun does not tell the hosts of each other: give the first "
            "one's name to all (mpirun -x MASTER_ADDR=HOST, or -genv MASTER_ADDR HOST)"
        )
    job = environ.get("PMIX_NAMESPACE") or str(_ancestor("hydra_pmi_proxy") or os.getppid())
    if environ["MASTER_ADDR"] != "127.0.0.1":
        job = ""  # no name of the job is the same on all hosts
    number = int(hashlib.sha256(job.encode()).hexdigest()[:8], 16)
    environ.setdefault("MASTER_PORT", str(FIRST_PORT + number % PORTS))


def _ancestor(name: str) -> int | None:
    """The process number of the nearest process above this one that has this name."""
    process = os.getppid()
    with suppress(OSError, ValueError):
        while process > 1:
            words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
            if Path(os.fsdecode(words[0])).name == name:
                return process
            status = Path(f"/proc/{process}/stat").read_text(errors="replace")
            process = int(status.rpartition(")")[2].split()[1])
    return None


def _require_whole(environ: Mapping[str, str]) -> None:
    present = [name for name in (*_TORCHRUN,) if name in environ]
    if not present or (present == ["WORLD_SIZE"] and environ["WORLD_SIZE"] == "1"):
        return
    alone = environ.get("WORLD_SIZE") == "1" and environ.get("RANK", "0") == "0"
    missing = [name for name in _NEEDED if name not in environ]
    how = _HOW.format(present=", ".join(present))
    if missing and not alone:
        raise UserError(f"{', '.join(missing)} missing beside {', '.join(present)}: {how}")
    for name in (*_TORCHRUN, "MASTER_PORT"):
        if name in environ and not environ[name].isdecimal():
            raise UserError(f"{name} {environ[name]}: not a number: {how}")
    rank, size = int(environ.get("RANK", "0")), int(environ["WORLD_SIZE"])
    if rank >= size:
        raise UserError(f"RANK {rank} is not below WORLD_SIZE {size}: {how}")


def refuse_unsupported(environ: Mapping[str, str]) -> None:
    """Raise UserError for what accelerate's configuration asks for and no training here does."""
    for name, what in _SHARDED.items():
        if environ.get(name, "").lower() in ("1", "true", "yes", "y", "on"):
            raise UserError(
                f"{name}: {what} is not supported: SlowFast fits one device, so it is trained with "
                "DDP alone: launch with --multi_gpu, or set distributed_type to MULTI_GPU in "
                "accelerate's configuration"
            )


def asks_to_compile(environ: Mapping[str, str]) -> bool:
    """Whether the launcher asks for torch.compile, by accelerate's dynamo backend."""
    return environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() not in ("no", "")


def lone_launch(words: list[str]) -> str | None:
    """What to say where ``words`` are an ``accelerate launch --cpu`` of several processes, of which
    accelerate starts one."""
    launched = any(Path(word).name in ("accelerate", "accelerate-launch") for word in words[:3])
    launched |= "accelerate.commands.launch" in words[:3]
    asked = [
        value for name, value in pairwise(words)
        if name.replace("_", "-") == "--num-processes"
    ]  # fmt: skip
    if launched and "--cpu" in words and asked and asked[0].isdecimal() and int(asked[0]) > 1:
        return (
            f"accelerate launch --cpu --num_processes {asked[0]} starts one process: several on a "
            "CPU are started by accelerate launch --config_file launch/accelerate/cpu.yaml, or "
            f"torchrun --nproc-per-node {asked[0]}"
        )
    return None
