"""Under a real SLURM: ranks without a launcher, and jobs that go on by themselves."""

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from slowfast_dist.data.synthetic import make_videos
from tests.helpers.cluster import Host, Slurm, no_slurm_because, slurm, wait_for
from tests.helpers.training_runs import ROOT, TINY, rows, trained

pytestmark = pytest.mark.slow

BATCH = ROOT / "launch" / "slurm.sbatch"
STEP_SECONDS = 0.5
"""That a step under SLURM takes at least: what is to be disturbed must not be over before, however
fast the machine."""
STEPS_AN_EPOCH = 5
LONG, SHORT = 110, 50
"""Steps of a training. The long one outlives the signal before a time limit of a minute, which
comes up to 50 seconds after the start, as SLURM looks every 30 seconds."""
ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "VIRTUAL_ENV": sys.prefix,
    "OMP_NUM_THREADS": "1",
}
"""What sbatch passes on to the job."""
ONE_TASK_A_NODE = ("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--gpus-per-node=0")


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 12, seed=0, size=32, frames=12, classes=("moves left", "turns clockwise"))
    return (
        *TINY, "--data.root", root, "--global-batch-size", "4", "--micro-batch-size", "2",
        "--model.norm", "local", "--checkpoint.every-steps", "3", "--evaluation.every", "10",
    )  # fmt: skip


SLOW = f"""
import os, sys, time
from slowfast_dist.training.step import TrainingStep
whole = TrainingStep.run
def run(*arguments):
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) < int(os.environ["SLOW_STARTS"]):
        time.sleep({STEP_SECONDS})
    return whole(*arguments)
TrainingStep.run = run
from slowfast_dist.cli.start import main
main(["train", *sys.argv[1:]])
"""
"""train.py, but for the time that it takes, in the first SLOW_STARTS starts of its job."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment for jobs, in which ``python train.py`` takes its time."""
    folder = tmp_path_factory.mktemp("slow")
    (folder / "train.py").write_text(SLOW)
    python = folder / "python"
    python.write_text(
        f"#!/bin/sh\n[ \"$1\" = train.py ] || exec '{sys.executable}' \"$@\"\n"
        f"shift\nexec '{sys.executable}' '{folder}/train.py' \"$@\"\n"
    )
    python.chmod(0o755)
    return ENVIRONMENT | {"PATH": f"{folder}:{ENVIRONMENT['PATH']}", "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Training:
    """Flags of a training, the environment in which it is slow, and what it leaves when nothing
    disturbs it."""

    flags: tuple[str | Path, ...]
    environment: dict[str, str]
    undisturbed: Path

    def slow(self, starts: int) -> dict[str, str]:
        """The environment of a job that is slow until it was started so often."""
        return self.environment | {"SLOW_STARTS": str(starts)}


def training(
    steps: int, environment: dict[str, str], output: Path, *flags: str | Path
) -> Training:
    flags = (*flags, "--epochs", str(steps // STEPS_AN_EPOCH))
    undisturbed = trained(output, *flags, processes=2)
    assert len(rows(undisturbed, "step")) == steps
    return Training(flags, environment, undisturbed)


@pytest.fixture(scope="module")
def long(
    flags: tuple[str | Path, ...], slow: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Training:
    return training(LONG, slow, tmp_path_factory.mktemp("long") / "run", *flags)


@pytest.fixture(scope="module")
def short(
    flags: tuple[str | Path, ...], slow: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Training:
    return training(SHORT, slow, tmp_path_factory.mktemp("short") / "run", *flags)


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Slurm]:
    if why := no_slurm_because():
        pytest.skip(why)
    with slurm(2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def one_node() -> Iterator[Slurm]:
    if why := no_slurm_because():
        pytest.skip(why)
    with slurm(1) as cluster:
        yield cluster


SHOW_RANKS = """
import json, os, sys
from slowfast_dist.distributed.launchers import adopt_slurm_ranks
before = set(os.environ)
adopt_slurm_ranks(os.environ)
new = {name: os.environ[name] for name in set(os.environ) - before}
new["host"] = os.uname().nodename
print("ranks", json.dumps(new))
"""


def shown_ranks(cluster: Slurm, *srun: str) -> list[dict[str, str]]:
    """The variables that the tasks of an ``srun`` get, in the order of their ranks."""
    printed = cluster.head.run(
        "srun", *srun, sys.executable, "-c", SHOW_RANKS, env={**cluster.env, **ENVIRONMENT}
    )
    lines = [line for line in printed.splitlines() if line.startswith("ranks ")]
    return sorted(
        (json.loads(line.removeprefix("ranks ")) for line in lines),
        key=lambda one: int(one.get("RANK", 0)),
    )


def test_tasks_of_a_step_know_their_ranks(two_nodes: Slurm) -> None:
    one, two, three = shown_ranks(two_nodes, "--nodes=2", "--ntasks=3")
    assert [task["RANK"] for task in (one, two, three)] == ["0", "1", "2"]
    assert {task["WORLD_SIZE"] for task in (one, two, three)} == {"3"}
    assert [task["host"] for task in (one, two, three)] == ["h1", "h1", "h2"]
    assert [task["LOCAL_RANK"] for task in (one, two, three)] == ["0", "1", "0"]
    assert [task["LOCAL_WORLD_SIZE"] for task in (one, two, three)] == ["2", "2", "1"]
    assert {task["MASTER_ADDR"] for task in (one, two, three)} == {"h1"}
    assert len({task["MASTER_PORT"] for task in (one, two, three)}) == 1


def test_a_step_on_one_node_stays_on_loopback(two_nodes: Slurm) -> None:
    tasks = shown_ranks(two_nodes, "--nodes=1", "--nodelist=h2", "--ntasks=2")
    assert [task["LOCAL_RANK"] for task in tasks] == ["0", "1"]
    assert {task["MASTER_ADDR"] for task in tasks} == {"127.0.0.1"}


def test_a_task_that_sees_its_own_gpu_alone_takes_the_first(two_nodes: Slurm) -> None:
    tasks = shown_ranks(two_nodes, "--nodes=1", "--ntasks=2", "--gpus-per-task=1")
    assert [task["RANK"] for task in tasks] == ["0", "1"]
    assert [task["LOCAL_RANK"] for task in tasks] == ["0", "0"]
    tasks = shown_ranks(two_nodes, "--nodes=1", "--ntasks=2", "--gpus-per-node=2")
    assert [task["LOCAL_RANK"] for task in tasks] == ["0", "1"]


def test_one_task_is_no_group(two_nodes: Slurm) -> None:
    [task] = shown_ranks(two_nodes, "--ntasks=1")
    assert set(task) == {"host"}


def test_two_tasks_train_together_and_plain_python_alone(
    one_node: Slurm, flags: tuple[str | Path, ...], tmp_path: Path
) -> None:
    words = " ".join(f"'{word}'" for word in (*flags, "--epochs", "1", "--output-dir"))
    script = tmp_path / "job"
    script.write_text(
        "#!/bin/sh\nset -e\n"
        f"python train.py {words} {tmp_path}/alone\n"
        f"srun python train.py {words} {tmp_path}/together\n"
    )
    log = tmp_path / "log"
    job = one_node.submit("--ntasks=2", f"--output={log}", script, env=ENVIRONMENT)
    try:
        one_node.wait(job, "COMPLETED", 400)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{log.read_text()}") from None
    runs = [tmp_path / "alone", tmp_path / "together"]
    processes = [json.loads((r / "environment.json").read_text())["processes"] for r in runs]
    assert processes == [1, 2]
    alone, together = (rows(run, "epoch")[-1] for run in runs)
    assert together["train/loss"] == pytest.approx(alone["train/loss"], abs=1e-4)
    assert together["val/loss"] == pytest.approx(alone["val/loss"], abs=1e-4)


class Job:
    """A training by launch/slurm.sbatch on both nodes."""

    def __init__(
        self, cluster: Slurm, output: Path, *words: str | Path, env: dict[str, str] = ENVIRONMENT
    ) -> None:
        """``words``: sbatch's options, then the script and train.py's flags."""
        self.cluster, self.output = cluster, output
        self.log = output.with_suffix(".log")
        self.number = cluster.submit(
            *ONE_TASK_A_NODE, f"--output={self.log}", *words, "--output-dir", output,
            env=env,
        )  # fmt: skip

    def wait_for_steps(self, more: int) -> None:
        """Wait until the training has taken so many steps more than now, in its newest start."""
        metrics = self.output / "metrics.jsonl"

        def lines() -> int:
            return metrics.read_text().count('"step"') if metrics.exists() else 0

        before = lines()
        wait_for(lambda: lines() >= before + more, 300, "steps of the training", self.explain)

    def restarts(self) -> int:
        return int(self.cluster.job(self.number)["Restarts"])

    def wait_for_restart(self, before: int) -> None:
        """Wait until the job was requeued more often than ``before``."""
        wait_for(lambda: self.restarts() > before, 300, "a requeue", self.explain)

    def check_finished(self, undisturbed: Path, starts_again: int) -> None:
        """Wait for the end: nobody helped, and the result is the undisturbed run's, bit by bit."""
        try:
            done = self.cluster.wait(self.number, "COMPLETED", 500)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.printed()}") from None
        assert done["ExitCode"] == "0:0"
        assert self.restarts() >= starts_again
        assert (self.output / "status").read_text() == "finished\n"
        ends = [max((run / "checkpoints").iterdir()) for run in (undisturbed, self.output)]
        for file in ("model.safetensors", "optimizer.pt"):
            assert (ends[0] / file).read_bytes() == (ends[1] / file).read_bytes(), file

    def printed(self) -> str:
        return self.log.read_text() if self.log.exists() else "no log"

    def explain(self) -> str:
        return f"{self.cluster.job(self.number)}\n{self.cluster.logs()}\n{self.printed()}"


def test_a_job_goes_on_after_its_time_limit(
    two_nodes: Slurm, long: Training, tmp_path: Path
) -> None:
    # As SLURM looks at limits every 30 s, the signal comes 20 to 50 s after a start.
    limit = ("--time=1", "--signal=USR1@10")
    job = Job(two_nodes, tmp_path / "run", *limit, BATCH, *long.flags, env=long.slow(starts=1))
    job.wait_for_restart(before=0)
    # A busy machine takes most of a minute for the start alone.
    unlimited = ("scontrol", "update", f"JobId={job.number}", "TimeLimit=UNLIMITED")
    two_nodes.head.run(*unlimited, env=two_nodes.env)
    job.check_finished(long.undisturbed, starts_again=1)
    assert "the training was asked to stop: requeued" in job.printed()


def test_a_job_goes_on_after_scontrol_requeue(
    two_nodes: Slurm, short: Training, tmp_path: Path
) -> None:
    job = Job(two_nodes, tmp_path / "run", BATCH, *short.flags, env=short.slow(starts=1))
    job.wait_for_steps(8)
    two_nodes.head.run("scontrol", "requeue", str(job.number), env=two_nodes.env)
    job.check_finished(short.undisturbed, starts_again=1)


def test_a_job_goes_on_after_the_loss_of_a_node(
    two_nodes: Slurm, short: Training, tmp_path: Path
) -> None:
    """First of the node without the batch script, then of the one with it."""
    timeout = ("--distributed.timeout", "10")
    env = short.slow(starts=2)
    job = Job(two_nodes, tmp_path / "run", BATCH, *short.flags, *timeout, env=env)
    for node in reversed(two_nodes.nodes):
        job.wait_for_steps(8)
        lose_and_boot(two_nodes, node, job)
    job.check_finished(short.undisturbed, starts_again=2)


def lose_and_boot(cluster: Slurm, node: Host, job: Job) -> None:
    """A power cut, which SLURM has to notice, and the node's start some time later."""
    before = job.restarts()
    cluster.network.cut(node)
    node.kill_everything()
    job.wait_for_restart(before)
    cluster.network.heal(node)
    cluster.boot(node)


def test_an_array_shares_the_trials_of_one_study(two_nodes: Slurm, tmp_path: Path) -> None:
    """One task on each node; neither does a trial of the other's."""
    pytest.importorskip("optuna", reason="optuna is of the extra 'tune'")
    root, study = tmp_path / "videos", tmp_path / "tune"
    make_videos(root, 4, seed=0, size=32, frames=10, classes=("moves left", "moves right"))
    log = tmp_path / "task_%a.log"
    array = ("--array=0-1", "--exclusive", "--gpus-per-node=0", "--cpus-per-task=1")
    job = two_nodes.submit(
        *array, f"--output={log}", ROOT / "launch" / "slurm_tune.sbatch", *TINY, "--data.root",
        root, "--folds", "2", "--epochs", "1", "--global-batch-size", "4", "--trials", "6",
        "--search", "loss.label-smoothing=0,0.05,0.1,0.15,0.2,0.25", "--output-dir", study,
        env=ENVIRONMENT,
    )  # fmt: skip
    logs = [tmp_path / f"task_{task}.log" for task in range(2)]
    for task in range(2):
        try:
            assert two_nodes.wait(f"{job}_{task}", "COMPLETED", 500)["ExitCode"] == "0:0"
        except AssertionError as error:
            printed = "\n".join(one.read_text() for one in logs if one.exists())
            raise AssertionError(f"{error}\n{printed}") from None
    begun = [re.findall(r"trial (\d+) \(of 6, from 0\)", one.read_text()) for one in logs]
    assert sorted(begun[0] + begun[1]) == [str(number) for number in range(6)]
    assert all(begun), "each of the tasks had a part of them"
    facts = json.loads((study / "tune.json").read_text())
    assert facts["status"] == "finished" and len(facts["trials"]) == 6
    assert {one["state"] for one in facts["trials"]} <= {"complete", "pruned"}
    assert (study / "best.yaml").exists()


def test_a_failing_job_ends_and_is_not_started_again(two_nodes: Slurm, tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    job = Job(two_nodes, tmp_path / "run", BATCH, *TINY, "--data.root", missing)
    with pytest.raises(AssertionError, match="JobState': 'FAILED'"):
        two_nodes.wait(job.number, "COMPLETED", 300)
    assert two_nodes.job(job.number)["Restarts"] == "0"
    # Where srun, on a loaded host, takes long to end the other process, that says the same.
    errors = [line for line in job.printed().splitlines() if line.startswith("error: ")]
    (said,) = {re.sub(r"^error: (process \d+: )?", "", line) for line in errors}
    assert str(missing) in said and len(errors) == len(set(errors)) <= 2


def test_a_cancelled_job_stays_cancelled(
    two_nodes: Slurm, flags: tuple[str | Path, ...], tmp_path: Path
) -> None:
    """Though its training saves and stops as before a requeue."""
    job = Job(two_nodes, tmp_path / "run", BATCH, *flags, "--epochs", "1000")
    job.wait_for_steps(3)
    two_nodes.head.run("scancel", str(job.number), env=two_nodes.env)
    assert two_nodes.wait(job.number, "CANCELLED", 180)["Restarts"] == "0", job.explain()
