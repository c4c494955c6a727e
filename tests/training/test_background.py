"""A training with a background: resumed to the bit, scored, and told of wherever classes are."""

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.commands.evaluate.command import run_evaluation
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config
from slowfast_dist.runs.best_model import read_best
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.training.run import run_training
from tests.helpers.long_videos import plan, write_long
from tests.helpers.training_runs import TINY, rows


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of 30 s, each with a segment of every motion."""
    root = tmp_path_factory.mktemp("background")
    lines = ["path,label,start,end"]
    for seed in range(4):
        table = write_long(root, plan(6, 30, seed), 30, 1, 32, f"{seed}.mp4")
        lines += [",".join(line.split(",")[:4]) for line in table.read_text().splitlines()[1:]]
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root


def settings(root: Path, output: Path, *more: str) -> Config:
    config = parse_training([
        *TINY, "--data.root", str(root / "list.csv"), "--data.background", "pause",
        "--data.val-fraction", "0.25", "--data.margin", "0.2", "--global-batch-size", "4",
        "--micro-batch-size", "2", "--epochs", "2", "--checkpoint.every-steps", "3",
        "--checkpoint.keep", "99", "--log-samples", "--evaluation.unknown-recall", "0.9",
        "--output-dir", str(output), *more,
    ])  # fmt: skip
    assert config is not None
    return config


@pytest.fixture(scope="module")
def run(root: Path) -> Path:
    run_training(settings(root, root / "run"))
    return root / "run"


def test_a_killed_run_goes_on_with_the_same_clips_to_the_bit(root: Path, run: Path) -> None:
    killed = root / "killed"
    shutil.copytree(run, killed)
    for path in (killed / "checkpoints").iterdir():
        if int(path.name[5:]) > 3:  # in the middle of the first epoch
            shutil.rmtree(path)
    RunFolder(killed).set_status("running")
    run_training(settings(root, killed, "--resume", "auto"))
    newest = max(path.name for path in (run / "checkpoints").iterdir())
    for name in ("logs/samples.csv", f"checkpoints/{newest}/model.safetensors",
                 "predictions/val_best.csv", "split.csv"):  # fmt: skip
        assert (killed / name).read_bytes() == (run / name).read_bytes(), name


def test_its_clips_are_counted_and_named(run: Path) -> None:
    best = json.loads((run / "models" / "best_model.json").read_text())
    assert best["background"] == "pause" == read_best(run).background
    drawn = best["data"]["background"]
    of_class = {row["class"]: row for row in best["data"]["per_class"]}
    assert of_class["pause"]["train"] == drawn["clips_per_epoch"] == 3
    assert best["data"]["train_videos"] == sum(row["train"] for row in of_class.values()) == 21
    with open(run / "split.csv", newline="") as file:
        split = list(csv.DictReader(file))
    gaps = {f"{row['path']}@{row['start']}-{row['end']}" for row in split
            if (row["class"], row["split"]) == ("pause", "train")}  # fmt: skip
    assert len(gaps) == drawn["gaps"] > 5
    with open(run / "logs" / "samples.csv", newline="") as file:
        used = Counter(row["sample"] for row in csv.DictReader(file))
    assert sum(count for name, count in used.items() if name in gaps) == 2 * 3
    last = rows(run, "epoch")[-1]
    assert (last["train/samples_once"], last["train/samples_never"]) == (18, 0)
    assert "pause is background" in (run / "models" / "README.md").read_text()
    assert "is background: parts of the videos" in (run / "report.html").read_text()


def test_an_evaluation_scores_it_and_tells_the_threshold(
    root: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = EvaluateCommand(num_workers=0, mixed_precision="no", resamples=0)
    own = run_evaluation(run, replace(command, output=root / "own"))
    found = run_evaluation(
        run, replace(command, data=root / "list.csv", output=root / "all", unknown_recall=1.0)
    )
    support = {row["class"]: row["support"] for row in found["per_class"]}
    assert support["pause"] == 4 == np.median(list(support.values()))
    unknown = found["unknown"]
    assert unknown["recall"] == 1.0 and unknown["min_confidence"] > 0
    printed = capsys.readouterr().out
    assert f"below --min-confidence {unknown['min_confidence']:g} are 100% of the" in printed
    kept = json.loads((run / "models" / "best_model.json").read_text())
    assert own["loss"] == pytest.approx(kept["metrics"]["val/loss"], abs=1e-6)
    assert own["unknown"]["min_confidence"] == kept["min_confidence"] > 0
    assert own["unknown"]["recall"] >= 0.9


def test_another_margin_is_refused_at_a_resume(root: Path, run: Path) -> None:
    with pytest.raises(UserError, match=r"the split depends on --data.margin 0.5 .was 0.2"):
        run_training(
            settings(root, root / "other", "--data.margin", "0.5", "--epochs", "3", "--resume",
                     str(run / "checkpoints" / "step_00000003"))
        )  # fmt: skip
