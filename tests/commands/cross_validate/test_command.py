"""Cross-validation in real trainings: who predicts whom, the files, the scores, and a restart."""

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from sklearn.metrics import accuracy_score, f1_score

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.commands.cross_validate import command
from slowfast_dist.commands.cross_validate.command import run_cross_validation
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.training import Config
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.metrics.summary import Predictions
from slowfast_dist.metrics.wrong_labels import doubts_of
from slowfast_dist.runs.predictions import read_predictions, with_neighbours
from tests.helpers.training_runs import TINY

pytestmark = pytest.mark.usefixtures("on_cpu")

CLASSES = ("moves left", "moves right")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 classes of 6 videos in 3 groups, c_0 to c_2."""
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 6, seed=0, size=32, frames=10, classes=CLASSES)
    for path in sorted(folder.rglob("*.mp4")):
        number = int(path.stem[-3:])
        path.rename(path.with_name(f"c_{number % 3}_{number}.mp4"))
    return folder


def settings(root: Path, output: Path, *flags: str) -> Config:
    return parsed(
        *TINY, "--data.root", str(root), "--data.group-pattern", r"c_\d", "--epochs", "1",
        "--global-batch-size", "4", "--output-dir", str(output), *flags,
    )  # fmt: skip


def parsed(*words: str) -> Config:
    config = parse_training(words)
    assert config is not None
    return config


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def done(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds, two seeds, and half and a quarter of the groups: 8 trainings of an epoch."""
    output = tmp_path_factory.mktemp("runs") / "all"
    config = settings(root, output, "--folds", "2", "--seeds", "2", "--learning-curve")
    assert run_cross_validation(config)["status"] == "finished"
    return output


def test_each_video_is_predicted_once_by_a_model_that_never_saw_its_group(
    done: Path, root: Path
) -> None:
    rows = table(done / "out_of_fold.csv")
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.mp4"))
    assert sorted(row["path"] for row in rows) == names
    for row in rows:
        fold = done / f"fold_{row['fold']}"
        sides = {one["path"]: (one["split"], one["group"]) for one in table(fold / "split.csv")}
        side, group = sides[row["path"]]
        assert side == "val"
        assert all(its == "val" for its, other in sides.values() if other == group)
        own = next(
            one for one in table(fold / "predictions" / "val_best.csv")
            if one["path"] == row["path"]
        )
        assert own == {name: value for name, value in row.items() if name != "fold"}


def test_the_scores_are_those_of_all_predictions_together(done: Path) -> None:
    rows = table(done / "out_of_fold.csv")
    truth, said = ([row[name] for row in rows] for name in ("label", "prediction"))
    found: dict[str, Any] = json.loads((done / "cross_validation.json").read_text())
    metrics = found["metrics"]
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, said))
    assert metrics["f1_macro"] == pytest.approx(f1_score(truth, said, average="macro"))
    assert (found["folds"], found["videos"], found["groups"]) == (2, 12, 3)
    assert (found["what"], found["intervals_over"]) == ("videos", "groups")
    low, high = found["intervals"]["accuracy"]
    assert low <= metrics["accuracy"] <= high
    for one in found["per_fold"]:
        own = [row for row in rows if row["fold"] == str(one["fold"])]
        right = np.mean([row["label"] == row["prediction"] for row in own])
        assert one["videos"] == 4 * one["groups"]
        assert one["accuracy"] == pytest.approx(right)
    assert [one["seed"] for one in found["seeds"]] == [0, 1]
    assert [one["share"] for one in found["learning_curve"]] == [0.25, 0.5, 1]
    assert [one["groups"] for one in found["learning_curve"]] == [1, 1, 1.5]
    assert found["seeds"][0]["loss"] == found["learning_curve"][-1]["loss"] == metrics["loss"]
    for one in found["per_class"]:
        assert one["support"] == 6
        assert "gain_of_last_doubling" in one and "videos_for_one_point" in one
    page = (done / "cross_validation.html").read_text()
    assert "12 videos in 3 groups" in page and "Learning curve" in page
    assert page.count("Fold ") >= 2 and "http://" not in page.replace("http://www.w3.org", "")


def test_labels_in_doubt_are_left_as_a_list(done: Path, root: Path) -> None:
    # Of the first seed and all groups; the other trainings are in folders of their own.
    paths = [done / f"fold_{fold}" / "predictions" / "val_best.csv" for fold in (1, 2)]
    doubts = doubts_of(
        Predictions.joined([with_neighbours(path, read_predictions(path)) for path in paths])
    )
    assert doubts, "an epoch teaches a model so little that it doubts some"
    rows = table(done / "wrong_labels.csv")
    assert [(row["path"], row["label"], row["suggested"]) for row in rows] == [
        (str(root / one.path), one.label, one.probable) for one in doubts
    ]
    assert all("(folds)" in row["reason"] for row in rows)
    # Among the held-out videos of a fold, of other groups: a fold of one group has none.
    groups = {row["path"]: row["fold"] for row in table(done / "out_of_fold.csv")}
    many = {fold for fold in "12" if len({
        Path(name).stem[:3] for name, its in groups.items() if its == fold
    }) > 1}  # fmt: skip
    assert len(many) == 1, "three groups in two folds"
    for row, one in zip(rows, doubts, strict=True):
        told = row["reason"].endswith(one.nearest_words) and bool(one.nearest_words)
        assert told == (groups[one.path] in many) == bool(row.get("nearest"))
    page = (done / "cross_validation.html").read_text()
    assert all(one.nearest_words in page for one in doubts)


def test_the_jobs_of_an_array_give_the_same_and_the_last_one_writes_it(
    done: Path, root: Path, tmp_path: Path
) -> None:
    output = tmp_path / "array"
    one = run_cross_validation(settings(root, output, "--folds", "2", "--fold", "2"))
    assert one["status"] == "running"
    assert not (output / "cross_validation.json").exists()
    # What is left, and only that: the fold that is finished stays as it is.
    before = (output / "fold_2" / "metrics.jsonl").stat().st_mtime_ns
    rest = run_cross_validation(settings(root, output, "--folds", "2", "--resume", "auto"))
    assert rest["status"] == "finished"
    assert (output / "fold_2" / "metrics.jsonl").stat().st_mtime_ns == before
    assert (output / "out_of_fold.csv").read_bytes() == (done / "out_of_fold.csv").read_bytes()


def test_a_result_that_is_written_again_is_drawn_and_uploaded_once(
    root: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level("INFO", "slowfast_dist")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    output = Path(shutil.copytree(done, tmp_path / "all"))
    again = ("--seeds", "2", "--learning-curve", "--resume", "auto", "--wandb.mode", "offline")
    config = settings(root, output, "--folds", "2", *again)
    pages = sorted(output.rglob("report.html"))
    assert len(pages) == 8
    pages[-1].unlink()

    def write(config: Config) -> list[int]:
        assert run_cross_validation(config)["status"] == "finished"
        wandb.teardown()
        return [page.stat().st_mtime_ns for page in pages]

    before = [page.stat().st_mtime_ns for page in pages[:-1]]
    first = write(config)
    assert first[:-1] == before
    own = json.loads((output / "cross_validation.json").read_text())["wandb_id"]
    assert len(list(output.glob("wandb/offline-run-*"))) == 1
    assert write(config) == first
    assert len(list(output.glob("wandb/offline-run-*"))) == 1
    assert f"wandb: run {own} has this result already" in caplog.text
    # Where the result is another one, its pages are drawn anew.
    facts = json.loads((output / "cross_validation.json").read_text())
    changed = facts | {"metrics": facts["metrics"] | {"accuracy": 2.0}}
    (output / "cross_validation.json").write_text(json.dumps(changed))
    later = write(replace(config, wandb=replace(config.wandb, mode="disabled")))
    assert all(one > other for one, other in zip(later, first, strict=True))
    assert json.loads((output / "cross_validation.json").read_text()) == facts


def test_the_settings_of_a_fold_are_for_that_fold(
    done: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "slowfast_dist")
    shutil.copytree(done, tmp_path / "all")
    own = tmp_path / "all" / "fold_1"
    words = ["--config", str(own / "config.yaml"), "--output-dir", str(own)]
    with pytest.raises(UserError, match="fold_1 holds a run already"):
        run_cross_validation(parsed(*words))
    assert run_cross_validation(parsed(*words, "--resume", "auto"))["status"] == "finished"
    assert f"{own}: this run is finished, nothing to do" in caplog.text
    assert not (own / "fold_1").exists()
    for name in ("out_of_fold.csv", "cross_validation.json"):
        assert (tmp_path / "all" / name).read_bytes() == (done / name).read_bytes()


def test_each_training_keeps_the_model_of_its_last_epoch(root: Path, tmp_path: Path) -> None:
    """Whatever a training alone would call its best epoch."""
    flags = ("--checkpoint.monitor", "train/accuracy", "--checkpoint.mode", "max", "--epochs", "2")
    config = settings(root, tmp_path / "run", "--folds", "2", "--fold", "1", *flags)
    assert run_cross_validation(config)["status"] == "running"
    best = json.loads((tmp_path / "run" / "fold_1" / "models" / "best_model.json").read_text())
    assert best["epoch"] == 2
    assert len(table(tmp_path / "run" / "fold_1" / "predictions" / "val_best.csv")) > 0


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--fold", "2"], "--fold 2: it counts with --folds; add --folds 5, say"),
        (["--seeds", "2"], "--seeds 2: it counts with --folds; add --folds 5, say"),
        (["--folds", "1"], "--folds 1: "),
        (["--folds", "4"], "--folds 4: there are 3 groups to be dealt out; give --folds 3"),
        (["--folds", "3", "--fold", "4"], "--fold 4: there are 3 folds; give one of 1 to 3"),
        (["--folds", "3", "--resume", "x"], "--resume x: goes on with one training; with --folds"),
    ],
)
def test_mistakes_are_one_line_and_train_nothing(
    root: Path, tmp_path: Path, flags: list[str], line: str
) -> None:
    with pytest.raises(UserError) as error:
        run_cross_validation(settings(root, tmp_path / "run", *flags))
    assert str(error.value).startswith(line)
    assert not (tmp_path / "run").exists()


def test_one_process_reads_the_list_and_tells_the_others(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the second of two: an import on the way looks at all videos."""
    for name, number in (("RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, number)
    asked: list[Config] = []

    def run_training(config: Config) -> dict[str, Any]:
        asked.append(config)
        return {"status": "stopped"}

    monkeypatch.setattr(command, "make_accelerator", lambda *_: None)
    monkeypatch.setattr(command, "run_on_main", lambda *_: (3, False))
    monkeypatch.setattr(command, "shutdown", lambda _: None)
    monkeypatch.setattr(command, "list_root", lambda _: pytest.fail("it was read twice"))
    monkeypatch.setattr(command, "run_training", run_training)
    config = settings(root, tmp_path / "run", "--folds", "group")
    assert run_cross_validation(config) == {"status": "stopped"}
    assert [one.fold for one in asked] == [1]


def test_folds_of_different_dealings_are_refused(done: Path, root: Path, tmp_path: Path) -> None:
    """By name, and not scored as if they were of one cross-validation."""
    output = tmp_path / "run"
    for fold in ("fold_1", "fold_2"):
        shutil.copytree(done / "fold_1", output / fold)
    with pytest.raises(RunError, match="are not of one cross-validation"):
        run_cross_validation(settings(root, output, "--folds", "2", "--resume", "auto"))
