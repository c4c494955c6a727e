"""``evaluate``: a real tiny training's best model, scored by any number of processes."""

import csv
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

from slowfast_dist.cli.commands import COMMANDS
from slowfast_dist.cli.main import main
from slowfast_dist.cli.parser import parse_command
from slowfast_dist.commands.evaluate.command import run_evaluation
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.labelled import readable_videos
from slowfast_dist.metrics.uncertainty import bootstrap_intervals, reliability
from slowfast_dist.runs.predictions import read_predictions
from slowfast_dist.runs.videos import NoVideosError, own_validation, trained_on
from tests.helpers.model_folders import replace_weights
from tests.helpers.shapes import write_disc
from tests.helpers.training_runs import TINY, launch, rows, trained

CLASSES = ("moves left", "moves right", "turns clockwise")
THREE = pytest.param(3, marks=pytest.mark.slow)
"""Processes, each of them started anew."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 5, seed=0, size=32, frames=16, classes=CLASSES)
    return root


@pytest.fixture(scope="module")
def run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training that validated with 2 clips of 3 crops a video."""
    return trained(
        tmp_path_factory.mktemp("run") / "run", *TINY, "--data.root", videos,
        "--data.val-fraction", "0.4", "--epochs", "2", "--global-batch-size", "3",
        "--micro-batch-size", "3", "--model.norm", "local", "--data.short-side", "40", "40",
        "--evaluation.temporal-views", "2", "--evaluation.spatial-crops", "3",
    )  # fmt: skip


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos that no training saw: 3 + 3 + 1 and one that is none."""
    root = tmp_path_factory.mktemp("others") / "my test"
    make_videos(root, 3, seed=1, size=32, frames=16, classes=CLASSES[:2])
    make_videos(root, 1, seed=1, size=32, frames=16, classes=CLASSES[2:])
    (root / CLASSES[2] / "broken.mp4").write_bytes(b"no video")
    return root


@pytest.fixture(scope="module", autouse=True)
def on_cpu() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        yield


@pytest.fixture(autouse=True)
def own_accelerate() -> Iterator[None]:
    """Evaluations in this process start as in a new one."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


VIEWS: dict[str, Any] = {
    "temporal_views": 4, "spatial_crops": 3, "top_k": (1, 2, 5), "hardest": 3, "backend": "torch",
}  # fmt: skip
"""Other views than the run's own, and less than all mistakes. Of so many clips ``auto`` would
measure which backend is faster, and processes that are compared could differ in it."""


def evaluate(
    run: Path, data: Path | None, output: Path | None = None, **options: Any
) -> dict[str, Any]:
    command = EvaluateCommand(data, output, "no", **({"num_workers": 0} | options))
    return run_evaluation(run, command)


def mistake(run: Path, data: Path | None, output: Path | None = None, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        evaluate(run, data, output, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


def predictions(output: Path) -> list[dict[str, str]]:
    with open(output / "predictions.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def probabilities(found: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(row[f"prob_{name}"]) for name in CLASSES] for row in found])


# What it finds


def test_the_runs_own_validation_gives_the_metrics_of_its_best_epoch(
    run: Path, videos: Path, tmp_path: Path
) -> None:
    with open(run / "split.csv", encoding="utf-8", newline="") as file:
        own = [row for row in csv.DictReader(file) if row["split"] == "val"]
    table = videos / "own.csv"
    with open(table, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label"))
        writer.writerows((row["path"], row["class"]) for row in reversed(own))
    metrics = evaluate(run, table, tmp_path / "out", batch_size=5)
    best = next(row for row in reversed(rows(run, "epoch")) if row["best"])
    names = [name.removeprefix("val/") for name in best if name.startswith("val/")]
    assert len(names) >= 10 and metrics["videos"] == len(own) == 6
    for name in names:
        assert metrics[name] == pytest.approx(best[f"val/{name}"], abs=1e-6), name
    classes = next(row for row in rows(run, "classes") if row["epoch"] == best["epoch"])
    assert metrics["confusion"] == classes["confusion"]
    assert metrics["per_class"] == classes["per_class"]
    with open(run / "predictions" / "val_best.csv", encoding="utf-8", newline="") as file:
        before = {row["path"]: row for row in csv.DictReader(file)}
    found = predictions(tmp_path / "out")
    assert [row["label"] for row in found] == [before[row["path"]]["label"] for row in found]
    expected = probabilities([before[row["path"]] for row in found])
    np.testing.assert_allclose(probabilities(found), expected, atol=1e-6)


@pytest.fixture(scope="module")
def evaluated(
    run: Path, others: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Path]:
    """The output of an evaluation by 1, 2 (accelerate launch) or 3 (torchrun) processes, done when
    it is first asked for."""
    root = tmp_path_factory.mktemp("evaluated")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3")

    @cache
    def by(processes: int) -> Path:
        output, start = root / str(processes), torchrun if processes == 3 else ()
        if processes == 1:
            evaluate(run, others, output, **VIEWS)
            return output
        done = launch(
            *start, "-m", "slowfast_dist", "evaluate", run, "--data", others, "--output", output,
            "--mixed-precision", "no", "--batch-size", str(2 * processes),
            "--num-workers", str(processes % 2), "--temporal-views", "4", "--spatial-crops", "3",
            "--top-k", "1", "2", "5", "--hardest", "3", "--backend", "torch",
            processes=1 if start else processes,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("7 videos scored") == 1
        return output

    return by


def alike(one: Any, other: Any) -> bool:
    """The same JSON, numbers to 1e-6."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(other == (pytest.approx(one, abs=1e-6) if isinstance(one, float) else one))


@pytest.mark.parametrize("processes", [2, THREE])
def test_processes_agree(evaluated: Callable[[int], Path], processes: int) -> None:
    """Of 7 videos, which neither 2 nor 3 divides, each is scored exactly once."""
    one, several = (json.loads((evaluated(n) / "metrics.json").read_text()) for n in (1, processes))
    assert one["videos"] == 7 and (one["temporal_views"], one["spatial_crops"]) == (4, 3)
    assert alike(one, several)
    first, second = predictions(evaluated(1)), predictions(evaluated(processes))
    assert [row["path"] for row in first] == [row["path"] for row in second]
    np.testing.assert_allclose(probabilities(second), probabilities(first), rtol=0, atol=1e-6)


@pytest.mark.parametrize("processes", [1, 2, THREE])
def test_metrics_equal_scikit_learn_on_the_predictions(
    evaluated: Callable[[int], Path], processes: int
) -> None:
    output = evaluated(processes)
    metrics, found = json.loads((output / "metrics.json").read_text()), predictions(output)
    labels, predicted = [r["label"] for r in found], [r["prediction"] for r in found]
    assert [row["path"].partition("/")[0] for row in found] == labels
    for average in ("macro", "weighted", None):
        scores = precision_recall_fscore_support(
            labels, predicted, labels=CLASSES, average=average, zero_division=0
        )
        for name, score in zip(("precision", "recall", "f1"), scores, strict=False):
            if average:
                assert metrics[f"{name}_{average}"] == pytest.approx(score, abs=1e-9)
            else:
                own = [row[name] for row in metrics["per_class"]]
                assert own == pytest.approx(list(score), abs=1e-9)
    assert [row["class"] for row in metrics["per_class"]] == list(CLASSES)
    assert [row["support"] for row in metrics["per_class"]] == [3, 3, 1]
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, predicted), abs=1e-9)
    own_class = [float(row[f"prob_{row['label']}"]) for row in found]
    assert metrics["loss"] == pytest.approx(-np.log(own_class).mean(), abs=1e-9)
    matrix = confusion_matrix(labels, predicted, labels=CLASSES)
    assert metrics["confusion"] == matrix.tolist()


def test_top_k_calibration_intervals_and_mistakes_follow_from_the_predictions(
    evaluated: Callable[[int], Path],
) -> None:
    metrics = json.loads((evaluated(1) / "metrics.json").read_text())
    found = read_predictions(evaluated(1) / "predictions.csv")
    labels, probabilities = found.labels, found.probabilities
    of_three = list(range(3))
    for k in (1, 2):
        expected = top_k_accuracy_score(labels, probabilities, k=k, labels=of_three)
        assert metrics[f"top{k}_accuracy"] == pytest.approx(expected, abs=1e-9)
    assert "top5_accuracy" not in metrics  # of three classes
    bins = reliability(labels, probabilities)
    assert [one["count"] for one in metrics["calibration"]] == [one.count for one in bins]
    assert sum(one["count"] for one in metrics["calibration"]) == 7
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = np.ceil(sure * 15).astype(int)
    gaps = [abs((sure - right)[places == place].sum()) for place in set(places.tolist())]
    assert metrics["ece"] == pytest.approx(sum(gaps) / 7, abs=1e-9)
    predicted = probabilities.argmax(axis=1)
    intervals = bootstrap_intervals(labels, predicted, 3)
    assert metrics["intervals"] == {name: list(ends) for name, ends in intervals.items()}
    low, high = metrics["intervals"]["accuracy"]
    assert low <= metrics["accuracy"] <= high
    own = probabilities[np.arange(7), labels]
    worst = [row for row in np.argsort(own) if not right[row]]
    assert 0 < len(metrics["hardest"]) == min(3, len(worst))
    for row, one in zip(worst, metrics["hardest"], strict=False):
        assert one["path"] == found.names[row]
        assert (one["label"], one["prediction"]) == (CLASSES[labels[row]], CLASSES[predicted[row]])
        assert one["probability"] == pytest.approx(own[row], abs=1e-9)
        assert one["confidence"] == pytest.approx(sure[row], abs=1e-9)
        assert one["loss"] == pytest.approx(-np.log(own[row]), abs=1e-9)


def test_what_cannot_be_read_is_listed_and_counted(evaluated: Callable[[int], Path]) -> None:
    metrics = json.loads((evaluated(2) / "metrics.json").read_text())
    assert (metrics["videos"], metrics["unreadable"]) == (7, 1)
    with open(evaluated(2) / "unreadable_videos.csv", encoding="utf-8", newline="") as file:
        [(path, reason, where)] = list(csv.reader(file))[1:]
    assert (path, where) == (f"{CLASSES[2]}/broken.mp4", "probe") and reason


def test_a_file_damaged_after_the_probe_is_not_scored_and_not_replaced(
    run: Path, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(others, data)
    (data / CLASSES[2] / "broken.mp4").unlink()
    whole = evaluate(run, data, tmp_path / "out")
    assert whole["unreadable"] == 0 and not (tmp_path / "out" / "unreadable_videos.csv").exists()
    damaged = data / CLASSES[0] / "clip_001.mp4"
    status = damaged.stat()
    damaged.write_bytes(b"\0" * status.st_size)
    os.utime(damaged, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a disk would: unnoticed
    metrics = evaluate(run, data, tmp_path / "out")
    assert (metrics["videos"], metrics["unreadable"]) == (6, 1)
    assert len(predictions(tmp_path / "out")) == 6
    text = (tmp_path / "out" / "unreadable_videos.csv").read_text()
    assert f"{CLASSES[0]}/clip_001.mp4" in text and ",evaluation" in text
    for path in data.rglob("*.mp4"):
        status = path.stat()
        path.write_bytes(b"\0" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(RunError, match="none of the 7 videos"):
        evaluate(run, data, tmp_path / "out")
    assert "6 videos scored" in capsys.readouterr().out


def test_the_models_folder_alone_is_enough(
    run: Path, others: Path, evaluated: Callable[[int], Path], tmp_path: Path
) -> None:
    models = tmp_path / "elsewhere"
    models.mkdir()
    for name in ("best_model.json", "best_model_weights.pth"):
        shutil.copy(run / "models" / name, models)
    metrics = evaluate(models, others, **VIEWS)
    written = json.loads((models / "evaluation-my test" / "metrics.json").read_text())
    before = json.loads((evaluated(1) / "metrics.json").read_text())
    assert metrics == written
    assert metrics["loss"] == pytest.approx(before["loss"], abs=1e-6)
    assert metrics["per_class"] == before["per_class"]


def test_one_class_alone_and_where_the_results_go(
    run: Path, others: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = others / "one class.csv"
    table.write_text(f"path,label\n{CLASSES[1]}/clip_000.mp4,{CLASSES[1]}\n")
    monkeypatch.chdir(run / "models")
    metrics = evaluate(Path("."), table, resamples=0, hardest=0, top_k=(3, 2, 7))
    table.unlink()
    assert metrics["videos"] == 1 and metrics["per_class"][1]["support"] == 1
    assert json.loads((run / "evaluation-one class" / "metrics.json").read_text()) == metrics
    assert metrics["data"] == str(table)
    printed = capsys.readouterr().out
    assert "2 of the model's 3 classes have no video here" in printed
    assert f"{metrics['loss']:.4f}" in printed and "evaluation-one class" in printed
    assert "top-3, top-7 left out: there are 3 classes" in printed
    assert "mean of its 6 views: 2 clips x 3 crops" in printed
    assert "95 %" not in printed and metrics["intervals"] == {} and metrics["hardest"] == []
    assert metrics["top2_accuracy"] in (0.0, 1.0) and "top3_accuracy" not in metrics


def test_videos_that_the_model_was_trained_on_are_counted(
    run: Path, videos: Path, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(videos)
    evaluate(run, link, tmp_path / "all", spatial_crops=1, temporal_views=1)
    printed = capsys.readouterr().out
    assert "warning: 9 of the 15 videos are training videos of this run: " in printed
    evaluate(run, others, tmp_path / "others", spatial_crops=1, temporal_views=1)
    assert "training videos" not in capsys.readouterr().out
    table = VideoTable.of_paths(sorted(videos.rglob("*.mp4")))
    alone = Path(shutil.copytree(run / "models", tmp_path / "alone" / "models"))
    assert trained_on(alone, table) == 0
    for folder, seen in ((videos, 15), (others, 0)):
        (alone.parent / "config.yaml").write_text(f"data:\n  train_dir: {folder}\n")
        assert trained_on(alone, table) == seen
    first, _, *more = map(table.path, range(4))
    linked = link / table.path(1).relative_to(videos)
    listed = f"{first},a,train\n{linked},b,train\n{more[0]},b,train\n{more[1]},b,val\n"
    (tmp_path / "train.csv").write_text(f"path,class,split\n{listed}")
    (alone.parent / "config.yaml").write_text(f"data:\n  train_dir: {tmp_path / 'train.csv'}\n")
    assert trained_on(alone, table) == 3
    (tmp_path / "train.csv").unlink()
    assert trained_on(alone, table) == 0


def test_remarks_on_the_runs_own_list_are_said(
    run: Path, models: Path, others: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(others, tmp_path / "here")
    paths = [path.relative_to(tmp_path) for path in sorted((tmp_path / "here").rglob("*.mp4"))]
    rows = [f"{path},{path.parent.name},{'val' if n else 'test'}" for n, path in enumerate(paths)]
    (tmp_path / "val.csv").write_text("\n".join(["path,class,split", *rows, ""]))
    config = models.parent / "config.yaml"
    config.write_text(f"data:\n  root: null\n  val_dir: {tmp_path / 'val.csv'}\n")
    with caplog.at_level("INFO", "slowfast_dist"):
        place, listing = own_validation(models, CLASSES)
        assert len(readable_videos(listing, place, "data").videos) == 6  # one is none
    said = f"{tmp_path / 'val.csv'}: 7 rows of split val are taken, 1 others left out"
    assert said in caplog.messages
    rows = [f"{path},{path.parent.name},val" for path in sorted(others.rglob("*.mp4"))]
    (tmp_path / "val.csv").write_text("\n".join(["path,class,split", *rows, ""]))
    with pytest.raises(NoVideosError, match="names no validation video that lies below"):
        own_validation(models, CLASSES)


def test_the_summary_shows_intervals_and_the_hardest_mistakes(
    run: Path, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = evaluate(run, others, tmp_path / "out", **VIEWS)
    printed = capsys.readouterr().out
    low, high = metrics["intervals"]["accuracy"]
    table = printed[printed.index("evaluation ") :].splitlines()
    end = table[0].index("accuracy") + len("accuracy")
    column = [line[:end].split()[-1] for line in table[1:4]]
    assert column == [f"{value:.4f}" for value in (metrics["accuracy"], low, high)]
    assert f"top-2 {metrics['top2_accuracy']:.4f} | calibration error (ECE)" in printed
    shown = [line for line in table if line.endswith(".mp4")]
    assert [line.split()[-1] for line in shown] == [
        one["path"].split()[-1] for one in metrics["hardest"]
    ]


def test_a_model_that_diverged(models: Path, others: Path, tmp_path: Path) -> None:
    weights = models / "best_model_weights.pth"
    state = torch.load(weights, weights_only=True)
    key = "blocks.1.multipathway_blocks.0.res_blocks.0.branch2.conv_a.weight"
    torch.save(state | {key: torch.full_like(state[key], torch.nan)}, weights)
    line = mistake(models, others, tmp_path / "out")
    assert line.startswith(f"RUN {weights}: {key} (") and "is not finite" in line
    # Numbers, and so large that the output is none.
    state["blocks.6.proj.weight"][0] = -3e38
    replace_weights(models, state)
    with pytest.raises(RunError, match="not a number for 7 of 7 videos, the first is ") as error:
        evaluate(models, others, tmp_path / "out")
    assert "\n" not in str(error.value) and not list((tmp_path / "out").iterdir())


def test_another_precision_than_that_of_the_training_is_said(
    models: Path, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    description = models / "best_model.json"
    facts = json.loads(description.read_text(encoding="utf-8"))
    line = "scored in --mixed-precision no, where the run trained and validated in bf16"
    for trained_in, said in (("no", 0), ("bf16", 1), (None, 0)):
        facts["training"]["mixed_precision"] = trained_in
        description.write_text(json.dumps(facts), encoding="utf-8")
        content = evaluate(models, others, tmp_path / "out")
        assert capsys.readouterr().out.count(line) == said
        assert content["mixed_precision"] == "no" and content["trained_in"] == trained_in


# Mistakes


def test_mistakes_of_place_and_class(run: Path, others: Path, tmp_path: Path) -> None:
    assert "no such folder" in mistake(tmp_path / "nowhere", others)
    assert "best_model.json" in mistake(tmp_path, others)
    assert "no such folder or CSV" in mistake(run, tmp_path / "gone")
    assert "holds a run" in mistake(run, others, run)
    (tmp_path / "file").touch()
    assert mistake(run, others, tmp_path / "file").startswith(f"--output {tmp_path / 'file'}: ")
    make_videos(tmp_path / "more", 1, seed=1, size=32, frames=16, classes=("moves up", *CLASSES))
    message = mistake(run, tmp_path / "more")
    assert message.startswith(f"--data {tmp_path / 'more'}: ") and "know 'moves up';" in message
    empty = tmp_path / "empty"
    (empty / CLASSES[0]).mkdir(parents=True)
    (empty / CLASSES[0] / "a.mp4").write_bytes(b"no video")
    assert "none of the videos can be read" in mistake(run, empty)
    assert not list(run.glob("evaluation-*e*pty")) and not list(run.glob("evaluation-gone"))


def test_results_of_other_videos_are_kept(models: Path, others: Path, tmp_path: Path) -> None:
    """Folders of the same name are as common as test; the same videos are scored anew."""
    given = tmp_path / "given"
    evaluate(models, others, given)
    evaluate(models, others, given, hardest=1)
    before = (given / "metrics.json").read_bytes()
    assert len(json.loads(before)["hardest"]) <= 1
    again = tmp_path / "elsewhere" / others.name
    shutil.copytree(others, again)
    message = mistake(models, again, given)
    assert f"--output {given}: holds the evaluation of {others}, which is kept" in message
    assert (given / "metrics.json").read_bytes() == before


def test_without_data_the_runs_own_validation_is_scored(run: Path) -> None:
    """Each video as the best epoch's validation scored it; other views go beside it."""
    content = evaluate(run, None)
    own = read_predictions(run / "predictions" / "val_best.csv")
    found = read_predictions(run / "evaluation-val" / "predictions.csv")
    assert found.names == own.names and found.labels.tolist() == own.labels.tolist()
    np.testing.assert_allclose(found.probabilities, own.probabilities, rtol=0, atol=1e-6)
    assert content["data"] == str(run / "split.csv") and content["videos"] == len(own.names)
    evaluate(run, None, temporal_views=1)
    assert (run / "evaluation-val-2" / "metrics.json").exists()


def test_without_data_and_without_the_videos(
    run: Path, models: Path, others: Path, tmp_path: Path
) -> None:
    assert mistake(models, None).startswith("--data is missing: give the folder")
    moved = tmp_path / "moved"
    shutil.copytree(run / "models", moved / "models")
    shutil.copy(run / "split.csv", moved)
    (moved / "config.yaml").write_text("data:\n  root: /nowhere/at all\n")
    assert "validation videos are not at /nowhere/at all any more" in mistake(moved, None)
    (moved / "config.yaml").write_text(f"data:\n  root: null\n  val_dir: {others}\n")
    place, listing = own_validation(moved / "models", CLASSES)
    assert place == others and len(listing.videos) == 8


def test_views_that_would_all_be_the_same(models: Path, others: Path) -> None:
    path = models / "best_model.json"
    content = json.loads(path.read_text())
    content["clip"] |= {"sampling": "uniform", "temporal_views": 1}
    path.write_text(json.dumps(content))
    message = mistake(models, others, temporal_views=10)
    assert message.startswith("--temporal-views 10: the run samples uniform")
    content["clip"] |= {"resize": "square", "spatial_crops": 1}
    path.write_text(json.dumps(content))
    message = mistake(models, others, spatial_crops=3)
    assert message.startswith("--spatial-crops 3: the run resizes square")
    assert not list(models.glob("evaluation-*"))


@pytest.fixture
def models(run: Path, tmp_path: Path) -> Path:
    """A copy of the run's models folder, to be damaged."""
    shutil.copytree(run / "models", tmp_path / "models")
    return tmp_path / "models"


def test_damaged_weights(models: Path, others: Path) -> None:
    weights = models / "best_model_weights.pth"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    message = mistake(models, others)
    assert message.startswith(f"RUN {weights}: is damaged")
    state = torch.load(models / "best_model_architecture.pth", weights_only=False).state_dict()
    state["blocks.6.proj.bias"] = torch.zeros(7)
    replace_weights(models, state)
    assert "does not fit best_model.json" in mistake(models, others)
    weights.unlink()
    assert "no such file" in mistake(models, others)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickled_object_in_place_of_the_weights_is_not_executed(
    models: Path, others: Path, tmp_path: Path
) -> None:
    weights, sprung = models / "best_model_weights.pth", tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(sprung)))
    sprung.rmdir()  # the trap works
    torch.save({"blocks.0": Trap(sprung)}, weights)
    assert "holds no tensors by name" in mistake(models, others)
    weights.write_bytes(pickle.dumps(Trap(sprung)))
    assert mistake(models, others).startswith(f"RUN {weights}: ")
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.pop("clip"), "'clip' is missing"),
        (lambda content: content["clip"].update(crop_size="x"), "crop_size is 'x'"),
        (lambda content: content["classes"].pop(), "2 classes for 3 outputs"),
        (lambda content: content["model"].update(name="slowfast_r9"), "'slowfast_r9' is not one"),
        (lambda content: content["model"].update(alpha="4"), "alpha is '4', and must be 1 to 32"),
        (lambda content: content["model"].update(alpha=32), "no multiple of alpha 32"),
        (lambda content: content["model"].update(slow_frames="all"), "slow_frames is 'all'"),
        (lambda content: content["model"].update(beta=4), "does not know beta of a model"),
        (lambda content: content.update(data=None), "is damaged"),
    ],
)
def test_a_damaged_description(models: Path, others: Path, change: Any, words: str) -> None:
    path = models / "best_model.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert words in mistake(models, others)
    path.write_text(path.read_text()[:-9])
    assert "is damaged" in mistake(models, others)


def test_several_processes_say_a_mistake_once(run: Path, tmp_path: Path) -> None:
    make_videos(tmp_path / "data", 1, seed=1, size=32, frames=16, classes=("moves up",))
    done = launch(
        "-m", "slowfast_dist", "evaluate", run, "--data", tmp_path / "data", "--mixed-precision",
        "no", processes=2,
    )  # fmt: skip
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and "'moves up'" in said[0]
    assert "slowfast_dist/" not in done.stderr  # no traceback of ours


# The command line


def test_the_command_line() -> None:
    evaluate = COMMANDS["evaluate"]
    words = ["runs/a", "--data", "b", "--num_workers=2", "--batch-size", "4"]
    settings = EvaluateCommand(Path("b"), num_workers=2, batch_size=4)
    assert parse_command(evaluate, words) == [Path("runs/a"), settings]
    found = parse_command(evaluate, ["--data=b", "runs/a"])
    assert found == [Path("runs/a"), EvaluateCommand(Path("b"))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "b"], "evaluate: RUN is missing"),
        (["a", "b"], "b: belongs to no flag"),
        (["a", "--dta", "b"], "--dta: unknown flag: did you mean --data?"),
        (["a", "--data"], "--data: a value is missing: give a path or none"),
        (["a", "--data", "b", "--batch-size", "0"], "--batch-size 0: give a number above 0"),
        (["a", "--data", "b", "--num-workers", "-1"], "--num-workers -1: give 0 or"),
        (["a", "--data", "b", "--temporal-views", "0"], "--temporal-views 0: give a number from 1"),
        (["a", "--data", "b", "--spatial-crops", "2"], "--spatial-crops 2: give 1 or 3"),
        (["a", "--data", "b", "--top-k", "1", "0"], "--top-k 0: give numbers above 0"),
        (["a", "--data", "b", "--resamples", "-1"], "--resamples -1: give a number from 0"),
        (["a", "--data", "b", "--hardest", "-1"], "--hardest -1: give a number from 0"),
        (["a", "--data", "b", "--mixed-precision", "x"], "--mixed-precision x: give auto, no"),
    ],
)
def test_a_wrong_word_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_command(COMMANDS["evaluate"], words)
    assert str(error.value).startswith(message)


def test_help_imports_nothing_heavy(capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", "--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("RUN", "--data", "--output", "--mixed-precision"))
    code = (
        "import sys; from slowfast_dist.cli.main import main; main(['evaluate', 'x', '--help']); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    loaded = set(launch("-c", code).stderr.split())
    assert "tyro" in loaded and not loaded & {"torch", "accelerate", "sklearn", "numpy", "av"}


def test_whole_pictures_are_said_where_rows_had_regions(
    models: Path, others: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = json.loads((models / "best_model.json").read_text())
    content["data"]["regions"] = 7
    (models / "best_model.json").write_text(json.dumps(content))
    table = tmp_path / "list.csv"
    paths = sorted(others.rglob("*.mp4"))[:2]
    for box, said in ("", 1), (",0,0,0.5,0.5", 0):
        head = "path,label" + ",x,y,w,h" * bool(box)
        rows = [f"{path},{path.parent.name}{box}" for path in paths]
        table.write_text("\n".join([head, *rows]))
        caplog.clear()
        evaluate(models, table, tmp_path / f"output {said}")
        found = [record.message for record in caplog.records if "7 training rows" in record.message]
        assert len(found) == said and all("regions of int" in line for line in found)


def test_pictures_unlike_those_of_the_training_are_counted(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, light in (("moves left", 16), ("moves right", 1)):
        (tmp_path / "data" / name).mkdir(parents=True)
        write_disc(
            tmp_path / "data" / name / "a.mp4", 48, 64, Fraction(16, 11), codec="libx265",
            pix_fmt="yuv420p10le", frames=12, color_trc=light,
        )  # fmt: skip
    old = Path(shutil.copytree(run / "models", tmp_path / "old"))
    content = json.loads((old / "best_model.json").read_text())
    assert content["clip"].pop("pixel_aspect") == "square"
    assert content["data"].pop("pictures")["hdr"] == 0
    (old / "best_model.json").write_text(json.dumps(content))
    command = EvaluateCommand(data=tmp_path / "data", num_workers=0)
    found: dict[Path, dict[str, Any]] = {}
    for models in (run / "models", old):
        caplog.clear()
        output = tmp_path / f"output {models.name}"
        found[models] = run_evaluation(models, replace(command, output=output))
        said = [record.message for record in caplog.records if record.levelname == "WARNING"]
        lines = [line for line in said if "HDR" in line or "pixels" in line]
        own = ", and of the 9 training videos none were" if models != old else ""
        assert lines[0].startswith(f"1 of 2 videos is HDR (PQ 1), the others not{own}: ")
        assert [line.startswith("2 of 2 videos have pixels that are not square (16:11)")
                for line in lines[1:]] == [True] * (models == old)  # fmt: skip
    assert found[old]["loss"] != found[run / "models"]["loss"]
