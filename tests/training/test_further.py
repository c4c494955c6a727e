"""A run that goes on: for more epochs, and in another folder."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from slowfast_dist.data.synthetic import make_videos
from tests.helpers.training_runs import ROOT, TINY, command_of, rows, train, trained

MOTIONS = ("moves left", "moves right", "turns clockwise")
TIMES = {"clips_per_second", "data_wait_fraction", "epoch_seconds"}
"""Names in a row of metrics.jsonl that no two runs have alike."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    """A training of seconds that loses the best of its first epochs later on."""
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 4, seed=0, size=32, frames=12, classes=MOTIONS)
    return (
        *TINY, "--data.root", root, "--data.val-fraction", "0.4", "--global-batch-size", "4",
        "--micro-batch-size", "2", "--checkpoint.keep", "9", "--model.norm", "local",
    )  # fmt: skip


@pytest.fixture(scope="module")
def constant(settings: tuple[str | Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 epochs, at a constant rate after a warm-up."""
    output = tmp_path_factory.mktemp("constant") / "run"
    return trained(output, *settings, "--epochs", "2", "--schedule.name", "constant")


def without_times(run: Path, kind: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows(run, kind)]


def test_a_finished_run_goes_on_to_the_bit_at_a_constant_rate(
    settings: tuple[str | Path, ...], constant: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(constant, tmp_path / "run"))
    more = (*settings, "--epochs", "4", "--schedule.name", "constant")
    trained(run, *more, "--resume", "auto")
    undisturbed = trained(tmp_path / "undisturbed", *more)
    for kind in ("step", "epoch", "classes"):
        assert without_times(run, kind) == without_times(undisturbed, kind), kind
    assert [row["epoch"] for row in rows(run, "epoch")] == [1, 2, 3, 4]
    last = sorted((run / "checkpoints").iterdir())[-1].name
    for name in ("model.safetensors", "optimizer.pt", "training.safetensors"):
        files = [one / "checkpoints" / last / name for one in (run, undisturbed)]
        assert files[0].read_bytes() == files[1].read_bytes(), name
    for name in ("models/best_model_weights.pth", "predictions/val_best.csv",
                 "predictions/val_best_neighbours.json"):  # fmt: skip
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert (run / "status").read_text() == "finished\n"


@pytest.mark.parametrize("schedule", ["cosine", pytest.param("step", marks=pytest.mark.slow)])
def test_where_the_rates_change_a_command_that_works_is_named(
    settings: tuple[str | Path, ...], tmp_path: Path, schedule: str
) -> None:
    run = trained(tmp_path / "a run", *settings, "--epochs", "1", "--schedule.name", schedule)
    words = (
        *settings, "--schedule.name", schedule, "--output-dir", run, "--resume", "auto",
        "--epochs", "2",
    )  # fmt: skip
    refused = train(*words)
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert "--epochs 2 (was 1) changes the learning rates, as " in line
    assert f"those of --schedule.name {schedule} follow the number of epochs" in line
    assert (run / "status").read_text() == "finished\n"
    command = line.partition("new rates: ")[2]
    _, environment = command_of()
    done = subprocess.run(
        command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [row["epoch"] for row in rows(run, "epoch")] == [1, 2]


def test_a_run_that_goes_on_elsewhere_knows_the_best_so_far(constant: Path, tmp_path: Path) -> None:
    """At a rate at which every further epoch is far worse."""
    other = trained(
        tmp_path / "other", "--config", constant / "config.yaml", "--resume", constant, "--epochs",
        "3", "--resume-changed", "--optimizer.lr", "0.3",
    )  # fmt: skip
    best = json.loads((constant / "models" / "best_model.json").read_text())
    (further,) = rows(other, "epoch")
    assert further["val/loss"] > best["value"] and further["best"] is False
    names = {path.name for path in (constant / "models").iterdir()}
    assert {path.name for path in (other / "models").iterdir()} == names
    for name in names:
        content = (other / "models" / name).read_bytes()
        assert content == (constant / "models" / name).read_bytes(), name
    predictions = Path("predictions", "val_best.csv")
    assert (other / predictions).read_bytes() == (constant / predictions).read_bytes()
    last = sorted((other / "checkpoints").iterdir())[-1] / "state.json"
    assert json.loads(last.read_text())["recorder"]["best"]["value"] == best["value"]


def test_that_the_source_went_on_to_a_better_model_is_said(constant: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(constant, tmp_path / "source"))
    path = source / "models" / "best_model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"epoch": 7, "value": 0.001}))
    done = train(
        "--config", constant / "config.yaml", "--resume", source, "--epochs", "3", "--output-dir",
        tmp_path / "other",
    )  # fmt: skip
    assert done.returncode == 0
    assert "no longer holds the best model up to this checkpoint (val/loss " in done.stdout
    (further,) = rows(tmp_path / "other", "epoch")
    assert further["best"] is True
    content = json.loads((tmp_path / "other" / "models" / "best_model.json").read_text())
    assert content["epoch"] == 3


def test_a_finished_checkpoint_makes_no_empty_run_elsewhere(
    settings: tuple[str | Path, ...], constant: Path, tmp_path: Path
) -> None:
    last = sorted((constant / "checkpoints").iterdir())[-1]
    done = train(
        *settings, "--epochs", "2", "--schedule.name", "constant", "--resume", last,
        "--output-dir", tmp_path / "new",
    )  # fmt: skip
    assert done.returncode == 2 and not (tmp_path / "new").exists()
    assert "all of --epochs 2 are behind it, so nothing is left to train" in done.stderr
