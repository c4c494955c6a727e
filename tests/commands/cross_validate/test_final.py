"""Rows of split test in a cross-validation: in no fold, scored once, by a model of all folds."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slowfast_dist.commands.cross_validate.command import run_cross_validation
from slowfast_dist.commands.cross_validate.final import finish_final, logits_of
from slowfast_dist.commands.cross_validate.plan import Training
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.metrics.calibration import calibrate, fit_temperature
from slowfast_dist.metrics.scores import softmax
from slowfast_dist.metrics.summary import Predictions
from slowfast_dist.metrics.unknown import choose_min_confidence
from slowfast_dist.runs.best_model import read_best
from slowfast_dist.runs.predictions import read_predictions
from tests.commands.cross_validate.test_command import CLASSES, parsed, table
from tests.helpers.training_runs import TINY

pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 classes of 6 videos in 3 groups: folds late and early, and a group of split test."""
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 6, seed=0, size=32, frames=10, classes=CLASSES)
    lines = ["path,label,split,group,fold"]
    for label in CLASSES:
        for number in range(6):
            side = ("train", "val", "test")[number % 3]
            fold = ("late", "early", "")[number % 3]
            lines.append(f"{label}/clip_{number:03d}.mp4,{label},{side},g{number % 3},{fold}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


def words(listed: Path, output: Path, *more: str) -> list[str]:
    return [
        *TINY, "--data.root", str(listed), "--folds", "column", "--epochs", "1",
        "--global-batch-size", "4", "--output-dir", str(output), *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def done(listed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "all"
    config = parsed(*words(listed, output, "--seeds", "2"))
    assert run_cross_validation(config)["status"] == "finished"
    return output


def test_they_are_in_no_fold_and_scored_by_the_model_of_all(done: Path) -> None:
    rows = table(done / "out_of_fold.csv")
    assert len(rows) == 8 and not any(row["path"][-5] in "25" for row in rows)
    # early is fold 1, as it is first in the alphabet
    assert {row["fold"] for row in rows if row["path"][-5] in "14"} == {"1"}
    assert not (done / "seed_1" / "final").exists()
    sides = {row["path"]: row["split"] for row in table(done / "final" / "split.csv")}
    assert len(sides) == 12
    assert {path for path, side in sides.items() if side == "val"} == {
        f"{label}/clip_{number:03d}.mp4" for label in CLASSES for number in (2, 5)
    }
    found = read_predictions(done / "final" / "predictions" / "val_best.csv")
    test = json.loads((done / "cross_validation.json").read_text())["test"]
    assert test["videos"] == 4 == len(found.names)
    assert test["metrics"]["accuracy"] == pytest.approx(found.right.mean())
    assert test["metrics"]["loss"] == pytest.approx(found.losses.mean())
    best = json.loads((done / "final" / "models" / "best_model.json").read_text())
    assert best["epoch"] == 1 and best["training"]["fold"] == "final"
    assert best["calibration"]["of"] == "out-of-fold" and best["calibration"]["videos"] == 8
    card = (done / "final" / "models" / "README.md").read_text()
    assert "On 4 videos of split test it reached" in card
    assert "the epoch was chosen" not in card.lower()
    assert "Rows of split test" in (done / "cross_validation.html").read_text()


def test_it_is_a_job_of_its_own_and_the_last_one_writes_the_result(
    done: Path, listed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "array"
    for fold in ("final", "2"):
        one = parsed(*words(listed, output, "--fold", fold))
        assert run_cross_validation(one)["status"] == "running"
    last = parsed(*words(listed, output, "--fold", "1"))
    assert run_cross_validation(last)["status"] == "finished"
    assert (output / "out_of_fold.csv").read_bytes() == (done / "out_of_fold.csv").read_bytes()
    assert json.loads((output / "cross_validation.json").read_text())["test"] == json.loads(
        (done / "cross_validation.json").read_text()
    )["test"]
    # Killed before the result was written, it is written again, and the same.
    before = (output / "cross_validation.json").read_bytes()
    description = (output / "final" / "models" / "best_model.json").read_bytes()
    (output / "cross_validation.json").unlink()
    again = parsed(*words(listed, output, "--resume", "auto"))
    assert run_cross_validation(again)["status"] == "finished"
    assert (output / "cross_validation.json").read_bytes() == before
    assert (output / "final" / "models" / "best_model.json").read_bytes() == description


def test_without_such_rows_there_is_no_final_training(listed: Path, tmp_path: Path) -> None:
    lines = [line for line in listed.read_text().splitlines() if ",test," not in line]
    other = listed.parent / "without.csv"
    other.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match="--fold final: the list has no rows of split test"):
        run_cross_validation(parsed(*words(other, tmp_path / "run", "--fold", "final")))
    assert not (tmp_path / "run").exists()


def test_what_calibrates_it_are_the_out_of_fold_predictions(done: Path) -> None:
    """60 of them, three times too sure."""
    rng = np.random.default_rng(0)
    own = 2 * rng.normal(size=(60, 2))
    labels = (rng.random(60) > softmax(own)[:, 0]).astype(np.int64)
    names = [f"{number}.mp4" for number in range(60)]
    out = Predictions.from_probabilities(names, labels, softmax(3 * own), CLASSES)
    parts = np.arange(60) % 5
    found = read_predictions(done / "final" / "predictions" / "val_best.csv")
    calibration = calibrate(logits_of(out), labels, parts)
    assert calibration is not None and calibration.why == ""
    training = Training("final", 0, 1.0, done / "final")
    test = finish_final(training, found, out, calibration, recall=0.5)
    best = read_best(done / "final")
    assert best.temperature == pytest.approx(fit_temperature(3 * own, labels), rel=1e-5)
    assert 2 < best.temperature < 5
    least = choose_min_confidence(labels, 3 * own / best.temperature, 0.5)
    assert best.min_confidence == pytest.approx(least)
    powers = found.probabilities ** (1 / best.temperature)
    calm = powers / powers.sum(axis=1, keepdims=True)
    truth = calm[np.arange(len(calm)), found.labels]
    assert test["loss_calibrated"] == pytest.approx(-np.log(truth).mean())
    finish_final(training, found, out, replace(calibration, temperature=1.0, why="none"), None)
    assert read_best(done / "final").temperature == 1
