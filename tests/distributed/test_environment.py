"""What launchers other than torchrun say becomes torchrun's words, or is refused in one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slowfast_dist.config.errors import UserError
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.distributed.environment import adopt_ranks, lone_launch, refuse_unsupported
from tests.helpers.training_runs import ROOT, TINY, rows

OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "PMIX_NAMESPACE": "1808465921",
}  # fmt: skip
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}


@pytest.mark.parametrize("given", [OPEN_MPI, HYDRA], ids=["Open MPI", "Hydra"])
def test_mpiruns_ranks_are_adopted(given: dict[str, str]) -> None:
    environ = dict(given)
    adopt_ranks(environ)
    port = int(environ["MASTER_PORT"])
    assert {name: environ[name] for name in environ.keys() - given.keys()} == {
        "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    assert 1024 < port < 32768
    before = {**given, "RANK": "0", "WORLD_SIZE": "1"}
    environ = dict(before)
    adopt_ranks(environ)
    assert environ == before


def test_jobs_of_mpirun_have_ports_of_their_own() -> None:
    ports = set()
    for name in ("1808465921", "1808465922"):
        environ = OPEN_MPI | {"PMIX_NAMESPACE": name}
        adopt_ranks(environ)
        ports.add(environ["MASTER_PORT"])
    assert len(ports) == 2


@pytest.mark.parametrize("given", [OPEN_MPI, HYDRA], ids=["Open MPI", "Hydra"])
def test_hosts_of_mpirun_need_the_first_ones_name(given: dict[str, str]) -> None:
    local = next(name for name in given if "LOCAL_SIZE" in name or "LOCALNRANKS" in name)
    environ = given | {local: "1"}
    with pytest.raises(UserError, match="MASTER_ADDR is missing.*mpirun -x MASTER_ADDR=HOST"):
        adopt_ranks(environ | {})
    environ = environ | {"MASTER_ADDR": "h1"}
    adopt_ranks(environ)
    assert environ["MASTER_ADDR"] == "h1" and environ["LOCAL_WORLD_SIZE"] == "1"
    other = environ | {"PMIX_NAMESPACE": "x"}
    for name in ("RANK", "MASTER_PORT"):
        del other[name]
    adopt_ranks(other)
    assert other["MASTER_PORT"] == environ["MASTER_PORT"]  # the same on all hosts


@pytest.mark.parametrize(
    "given", [{}, {"WORLD_SIZE": "1"}, {"PMI_RANK": "0", "PMI_SIZE": "1", "MPI_LOCALNRANKS": "1"}]
)
def test_one_process_is_left_alone(given: dict[str, str]) -> None:
    environ = dict(given)
    adopt_ranks(environ)
    assert environ == given


WHOLE = {
    "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "x", "MASTER_PORT": "29500"
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT missing beside WORLD_"),
        ({"LOCAL_RANK": "0"}, "RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT missing beside LOCAL_R"),
        ({n: v for n, v in WHOLE.items() if n != "MASTER_PORT"}, "MASTER_PORT missing beside RANK"),
        (WHOLE | {"RANK": "two"}, "RANK two: not a number"),
        (WHOLE | {"MASTER_PORT": "http"}, "MASTER_PORT http: not a number"),
        (WHOLE | {"RANK": "2"}, "RANK 2 is not below WORLD_SIZE 2"),
        (HYDRA | {"MPI_LOCALNRANKS": "0x"}, "MASTER_ADDR is missing"),
    ],
)
def test_what_names_no_process_of_a_group_is_said(given: dict[str, str], words: str) -> None:
    with pytest.raises(UserError) as raised:
        adopt_ranks(dict(given))
    assert str(raised.value).startswith(words)


def test_torchruns_own_are_left_alone() -> None:
    environ = dict(WHOLE)
    adopt_ranks(environ)
    assert environ == WHOLE


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "tensor"),
    ],
)  # fmt: skip
def test_models_in_shares_are_refused_by_name(name: str, what: str) -> None:
    refuse_unsupported({name: "false"})
    with pytest.raises(UserError, match=f"{name}: {what}.*MULTI_GPU"):
        refuse_unsupported({name: "true"})


def test_accelerates_cpu_launch_of_several_is_said_to_start_one() -> None:
    python = ["/usr/bin/python", "/x/bin/accelerate", "launch", "--cpu"]
    line = lone_launch([*python, "--num_processes", "2", "train.py"])
    assert line is not None and "launch/accelerate/cpu.yaml" in line and "per-node 2" in line
    assert (ROOT / "launch" / "accelerate" / "cpu.yaml").exists()
    for words in (
        [*python, "--num_processes", "1", "train.py"], [*python, "train.py"],
        ["/usr/bin/python", "/x/bin/accelerate", "launch", "--num_processes", "2", "train.py"],
        [""],
    ):  # fmt: skip
        assert lone_launch(words) is None


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 4, seed=0, size=32, frames=12, classes=("moves left", "turns clockwise"))
    return root


def run(
    command: list[str], output: Path, videos: Path, *flags: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    words = [
        *command, str(ROOT / "train.py"), *TINY, "--data.root", str(videos), "--epochs", "1",
        "--global-batch-size", "4", "--micro-batch-size", "2", "--output-dir", str(output), *flags,
    ]  # fmt: skip
    env = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"} | environment
    return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)


MPI = {
    "Open MPI": ("mpirun.openmpi", "--oversubscribe", "--allow-run-as-root", "-np", "2"),
    "MPICH": ("mpiexec.hydra", "-np", "2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", MPI.values(), ids=MPI)
def test_mpirun_starts_one_training_of_two_processes(
    command: tuple[str, ...], videos: Path, tmp_path: Path
) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}")
    done = run([*command, sys.executable], tmp_path / "run", videos)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"processes": 2' in (tmp_path / "run" / "environment.json").read_text()
    assert len(rows(tmp_path / "run", "epoch")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", MPI)
def test_accelerates_hosts_of_mpirun_make_one_training(
    kind: str, videos: Path, tmp_path: Path
) -> None:
    """accelerate looks for a program named mpirun, and asks it which one it is."""
    program = shutil.which(MPI[kind][0])
    if program is None:
        pytest.skip(f"no {MPI[kind][0]}")
    (tmp_path / "bin").mkdir()
    if kind == "Open MPI":  # it says what it is by the name that it was called by
        (tmp_path / "bin" / "mpirun").symlink_to(program)
    else:  # it finds its own programs beside itself
        (tmp_path / "bin" / "mpirun").write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        (tmp_path / "bin" / "mpirun").chmod(0o755)
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost slots=2\n" if kind == "Open MPI" else "localhost:2\n")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    done = run(
        [*command, "--mpirun_hostfile", str(hosts)], tmp_path / "run", videos,
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}", OMPI_ALLOW_RUN_AS_ROOT="1",
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"processes": 2' in (tmp_path / "run" / "environment.json").read_text()
    assert len(rows(tmp_path / "run", "epoch")) == 1


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT missing"),
        ({"ACCELERATE_MIXED_PRECISION": "fp8", "flag": "auto"}, "fp8 is not supported"),
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP is not supported"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    environment: dict[str, str], words: str, videos: Path, tmp_path: Path
) -> None:
    flag = environment.pop("flag", "no")
    output = tmp_path / "run"
    done = run([sys.executable], output, videos, "--mixed-precision", flag, **environment)
    assert done.returncode == 2 and not output.exists()
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ") and words in line


def test_a_training_in_another_thread_than_the_first(videos: Path, tmp_path: Path) -> None:
    """As Ray Train runs it."""
    program = (
        "import sys, threading\n"
        "from slowfast_dist import train\nfrom slowfast_dist.cli.parser import parse_training\n"
        "ended = []\n"
        "def run() -> None:\n    ended.append(train(parse_training(sys.argv[1:])))\n"
        "thread = threading.Thread(target=run)"
        "\nthread.start()\nthread.join()\nprint(ended[0]['status'])\n"
    )
    script = tmp_path / "in_thread.py"
    script.write_text(program)
    words = [*TINY, "--data.root", str(videos), "--data.num-workers", "1", "--epochs", "1"]
    words += ["--output-dir", str(tmp_path / "run"), "--global-batch-size", "4"]
    done = subprocess.run(
        [sys.executable, script, *words], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "finished"
    assert (tmp_path / "run" / "status").read_text().strip() == "finished"
