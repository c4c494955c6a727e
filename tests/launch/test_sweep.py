"""launch/wandb_sweep.yaml, run by wandb's own agent: only the server that draws is missing."""

import copy
import math
import os
import queue
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb import wandb_agent
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from slowfast_dist.cli.main import check_flags
from slowfast_dist.cli.parser import parse_training
from slowfast_dist.config.checks import flag_types
from slowfast_dist.config.training import Config
from slowfast_dist.data.synthetic import make_videos
from tests.helpers.training_runs import ROOT, TINY, rows, wait_for_steps
from tests.helpers.wandb_files import parse

FILE = ROOT / "launch" / "wandb_sweep.yaml"
SWEEP: dict[str, Any] = yaml.safe_load(FILE.read_text())


def drawn(parameter: dict[str, Any], draw: random.Random) -> Any:
    if "value" in parameter:
        return parameter["value"]
    if "values" in parameter:
        return draw.choice(parameter["values"])
    low, high = parameter["min"], parameter["max"]
    if parameter["distribution"] == "uniform":
        return draw.uniform(low, high)
    assert parameter["distribution"] == "log_uniform_values"
    return math.exp(draw.uniform(math.log(low), math.log(high)))


def trial(draw: random.Random, **given: Any) -> dict[str, Any]:
    """What the server sends an agent: a value for each parameter."""
    values = {name: drawn(one, draw) for name, one in SWEEP["parameters"].items()} | given
    return {
        "type": "run", "run_id": f"t{draw.randrange(10**9)}", "program": str(ROOT / "train.py"),
        "args": {name: {"value": value} for name, value in values.items()},
    }  # fmt: skip


def test_parameters_are_flags_with_more_than_one_value_to_choose_from() -> None:
    flags = {name.replace("-", "_") for name in flag_types(Config)}
    assert set(SWEEP["parameters"]) <= flags
    assert SWEEP["metric"] == {"name": "val/f1_macro", "goal": "maximize"}
    for name, parameter in SWEEP["parameters"].items():
        assert "value" in parameter or len({str(drawn(parameter, random.Random(s)))
                                            for s in range(20)}) > 1, name  # fmt: skip


def test_train_takes_what_wandb_makes_of_the_values() -> None:
    before, after = SWEEP["command"][3:-1], SWEEP["command"][-1]
    assert after == "${args}"
    draw = random.Random(0)
    lists = {n: one["values"] for n, one in SWEEP["parameters"].items() if "values" in one}
    for turn in range(max(map(len, lists.values()))):  # each value once, and the last ones last
        chosen = {name: values[min(turn, len(values) - 1)] for name, values in lists.items()}
        words = before + create_sweep_command_args(trial(draw, **chosen))["args"]
        check_flags(words)
    config = parse_training(words)
    assert config is not None
    assert config.data.short_side == tuple(chosen["data.short_side"])
    assert config.data.flip is chosen["data.flip"] is False
    assert config.model.freeze == "backbone" and config.data.group_pattern is None
    assert config.checkpoint.monitor == "val/f1_macro"


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[wandb_agent.Agent]:
    """wandb's agent in a folder of its own; its trainings are tiny, on made videos."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in {"WANDB_MODE": "offline", "WANDB_SWEEP_ID": "s1", "OMP_NUM_THREADS": "1",
                        "ACCELERATE_USE_CPU": "true", "WANDB_DIR": str(tmp_path),
                        "HOME": str(tmp_path), "WANDB_RUN_ID": "", "WANDB_SWEEP_PARAM_PATH": "",
                        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                        }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    make_videos(tmp_path / "videos", 5, 0, size=64, frames=16, classes=("moves up", "moves down"))
    found = wandb_agent.Agent(None, queue.Queue())
    tiny = list(TINY[: TINY.index("--wandb.mode")])
    command = copy.deepcopy(SWEEP["command"])
    found._sweep_command = [*command[:-1], *tiny, "--global-batch-size=2", "--log-every=1",
                            "--micro-batch-size=2", command[-1]]  # fmt: skip
    yield found
    for process in found._run_processes.values():
        process.kill()
        process.wait()


def tiny_trial(seed: int, epochs: int) -> dict[str, Any]:
    short_side = [32, 40]
    return trial(
        random.Random(seed), epochs=epochs,
        **{"data.root": "videos", "data.short_side": short_side, "model.freeze": "none"},
    )  # fmt: skip


@pytest.mark.slow
def test_trials_run_side_by_side_in_folders_of_their_own(
    agent: wandb_agent.Agent, tmp_path: Path
) -> None:
    commands = [tiny_trial(seed, 1) for seed in range(2)]
    for command in commands:
        assert "exception" not in agent._process_command(command)
    for process in agent._run_processes.values():
        assert process.wait(400) == 0
    runs = sorted((tmp_path / "runs" / "sweep").iterdir())
    assert len(runs) == 2
    ids = {}
    for file in (tmp_path / "wandb").glob("offline-run-*/*.wandb"):  # WANDB_DIR, see `agent`
        (info,) = [record.run for record in parse(file.read_bytes()) if record.HasField("run")]
        ids[info.display_name] = info.run_id
    found = {}
    for run in runs:
        assert (run / "status").read_text() == "finished\n"
        assert "val/f1_macro" in rows(run, "epoch")[0]
        config = yaml.safe_load((run / "config.yaml").read_text())
        found[ids[run.name]] = config["optimizer"]["lr"]
    # The runs are those that the server knows, each with its own values.
    assert found == {c["run_id"]: c["args"]["optimizer.lr"]["value"] for c in commands}


@pytest.mark.slow
def test_a_trial_that_is_ended_early_keeps_its_best_model(
    agent: wandb_agent.Agent, tmp_path: Path
) -> None:
    command = tiny_trial(0, 1000)
    agent._process_command(command)
    process = agent._run_processes[command["run_id"]]
    while not (runs := list(tmp_path.glob("runs/sweep/*"))):
        assert process.poll() is None
    [run] = runs
    wait_for_steps(run, 12, lambda: process.poll() is None)
    agent._process_command({"type": "stop", "run_id": command["run_id"]})
    assert process.wait(400) == 0
    assert (run / "status").read_text() == "preempted\n"
    assert (run / "models" / "best_model_weights.pth").exists()
    assert len(list((run / "checkpoints").iterdir())) == 1
