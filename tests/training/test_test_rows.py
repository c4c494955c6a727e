"""Rows of split test: in no training and no validation, scored once, at the end."""

import csv
import json
from pathlib import Path

import pytest

from slowfast_dist.commands.evaluate.command import run_evaluation
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.metrics.scores import classification_metrics
from slowfast_dist.runs.predictions import read_predictions
from slowfast_dist.training import trainer as trainer_module
from slowfast_dist.training.run import run_training
from tests.commands.cross_validate.test_command import parsed
from tests.helpers.training_runs import TINY, predictions, rows, trained

pytestmark = pytest.mark.usefixtures("on_cpu")

CLASSES = ("moves left", "moves right")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 classes of 12 videos, 6 to train on, 3 of val, and 3 of test, in groups of
    two."""
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 12, seed=0, size=32, frames=10, classes=CLASSES)
    lines = ["path,label,split,group"]
    for label in CLASSES:
        for number in range(12):
            side = "train" if number < 6 else "val" if number < 9 else "test"
            group = f"{side}{number // 2}"
            lines.append(f"{label}/clip_{number:03d}.mp4,{label},{side},{group}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


def flags(table: Path, *more: str) -> list[str]:
    return [*TINY, "--data.root", str(table), "--epochs", "2", "--global-batch-size", "4", *more]


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "run", *flags(table))


def test_they_are_scored_once_by_the_best_model(run: Path, table: Path, tmp_path: Path) -> None:
    [row] = rows(run, "test")
    best = json.loads((run / "models" / "best_model.json").read_text())
    assert row["epoch"] == best["epoch"]
    found = read_predictions(run / "predictions" / "test_best.csv")
    assert sorted(Path(name).stem for name in found.names) == [
        f"clip_{number:03d}" for number in (9, 9, 10, 10, 11, 11)
    ]
    scores = classification_metrics(found.labels, found.predicted, 2)
    assert row["test/accuracy"] == pytest.approx(scores["accuracy"])
    assert row["test/f1_macro"] == pytest.approx(scores["f1_macro"])
    assert row["test/loss"] == pytest.approx(found.losses.mean(), abs=1e-9)
    assert (row["test/videos"], row["test/unreadable"]) == (6, 0)
    assert (row["intervals_over"], row["groups"]) == ("groups", 2)
    assert best["test"]["test/loss"] == row["test/loss"]
    low, high = row["intervals"]["accuracy"]
    assert low <= row["test/accuracy"] <= high
    again = run_evaluation(
        run,
        EvaluateCommand(
            data=table, split="test", output=tmp_path / "out", num_workers=0, mixed_precision="no"
        ),
    )
    assert again["accuracy"] == row["test/accuracy"]
    assert again["loss"] == pytest.approx(row["test/loss"], abs=1e-6)
    assert "Test accuracy" in (run / "report.html").read_text()
    assert "split test, by which nothing was chosen" in (run / "models/README.md").read_text()


def test_they_are_on_neither_side(run: Path) -> None:
    with open(run / "split.csv", newline="") as file:
        sides = [(row["path"], row["split"]) for row in csv.DictReader(file)]
    assert len(sides) == 18
    assert not any(path.endswith(("9.mp4", "10.mp4", "11.mp4")) for path, _ in sides)
    assert len(predictions(run)) == 6


def test_processes_and_workers_change_nothing(run: Path, table: Path, tmp_path: Path) -> None:
    other = trained(tmp_path / "two", *flags(table, "--data.num-workers", "1"), processes=2)
    [one], [two] = rows(run, "test"), rows(other, "test")
    assert two["test/loss"] == pytest.approx(one["test/loss"], abs=1e-5)
    assert two["test/videos"] == one["test/videos"]


def test_a_training_that_is_stopped_while_it_scores_them_goes_on_there(
    run: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parsed(*flags(table), "--output-dir", str(tmp_path / "run"))
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "score_test", lambda *_: None)
        assert run_training(config)["status"] == "preempted"
    assert rows(tmp_path / "run", "test") == []
    again = parsed(*flags(table), "--output-dir", str(tmp_path / "run"), "--resume", "auto")
    assert run_training(again)["status"] == "finished"
    [row], [other] = rows(tmp_path / "run", "test"), rows(run, "test")
    assert row["test/loss"] == pytest.approx(other["test/loss"], abs=1e-5)
    more = parsed(
        *flags(table), "--output-dir", str(tmp_path / "run"), "--resume", "auto", "--epochs", "3",
        "--resume-changed",
    )  # fmt: skip
    assert run_training(more)["status"] == "finished"
    assert len(rows(tmp_path / "run", "test")) == 1
