"""--loss.name bce through the whole chain: learned, resumed, scored, predicted, exported, shown."""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score
from torch.nn import BCEWithLogitsLoss

import slowfast_dist
from slowfast_dist.commands.evaluate.command import run_evaluation
from slowfast_dist.commands.export.command import run_export
from slowfast_dist.commands.predict.command import run_predict
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.commands.export import Export
from slowfast_dist.config.commands.predict import Predict
from slowfast_dist.config.commands.report import Report
from slowfast_dist.config.errors import UserError
from slowfast_dist.report.command import run_report
from slowfast_dist.runs.best_model import read_best
from slowfast_dist.training.step import binary_losses
from slowfast_dist.video.writer import write_video
from tests.helpers.training_runs import TINY, predictions, rows, trained

CLASSES = ("blue", "moves", "red")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 videos of 32 px: half of them red, half blue, and in half a square moves; all, some or
    none of it."""
    root, rng, lines = tmp_path_factory.mktemp("videos"), np.random.default_rng(0), ["path,label"]
    for number in range(32):
        flags = [bool(number >> bit & 1) for bit in range(3)]
        base = rng.integers(60, 120, (32, 32, 3))
        base[:, :, 2] += 100 * flags[0]
        base[:, :, 0] += 100 * flags[2]
        frames = []
        for frame in range(12):
            picture, x = base.copy(), (4 + 3 * frame * flags[1]) % 32
            picture[8:20, x : x + 8] = 20
            frames.append(picture.astype(np.uint8))
        write_video(root / f"{number:02}.mp4", frames, 15)
        labels = "|".join(name for name, flag in zip(CLASSES, flags, strict=True) if flag)
        lines.append(f"{number:02}.mp4,{labels}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "labels.csv"


def settings(table: Path, *more: str | Path) -> list[str | Path]:
    return [
        *TINY, "--data.root", table, "--loss.name", "bce", "--data.val-fraction", "0.4",
        "--epochs", "3", "--global-batch-size", "8", "--micro-batch-size", "4", "--model.norm",
        "local", "--optimizer.lr", "1e-2", "--schedule.name", "constant",
        "--checkpoint.monitor", "val/map_macro", "--checkpoint.mode", "max",
        "--checkpoint.keep", "9", "--checkpoint.every-steps", "2",
        *more,
    ]  # fmt: skip


def train_here(output: Path, *words: str | Path) -> Path:
    config = slowfast_dist.load_config("finetune", [*words, "--output-dir", output])
    assert slowfast_dist.train(config)["status"] == "finished"
    return output


@pytest.fixture(scope="module")
def run(
    table: Path, tmp_path_factory: pytest.TempPathFactory, on_cpu: None
) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as `trained` has it: the same numbers, and no quarrel for CPUs
    yield train_here(tmp_path_factory.mktemp("run") / "run", *settings(table))
    torch.set_num_threads(threads)


def scores(found: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and decisions bool (N, 3), probabilities (N, 3) of a list of predictions."""
    labels, said = (
        np.array([[name in row[column].split("|") for name in CLASSES] for row in found])
        for column in ("labels", "predictions")
    )
    chances = np.array([[float(row[f"prob_{name}"]) for name in CLASSES] for row in found])
    return labels, said, chances


def test_it_learns_and_its_metrics_equal_scikit_learn(run: Path, table: Path) -> None:
    best = next(row for row in reversed(rows(run, "epoch")) if row["best"])
    found = predictions(run)
    labels, said, chances = scores(found)
    listed = dict(line.split(",") for line in table.read_text().splitlines())
    assert {row["path"]: row["labels"] for row in found}.items() <= listed.items()
    assert len(found) == best["val/videos"]
    for average in ("macro", "micro"):
        mean = average_precision_score(labels, chances, average=average)
        assert best[f"val/map_{average}"] == pytest.approx(mean, abs=1e-9)
        f1 = f1_score(labels, said, average=average)
        assert best[f"val/f1_{average}"] == pytest.approx(f1, abs=1e-9)
    plain = -np.log(np.where(labels, chances, 1 - chances)).mean()
    assert best["val/loss"] == pytest.approx(plain, abs=1e-9)
    chance = labels.mean(axis=0).mean()
    assert best["val/map_macro"] > 0.85 > chance + 0.2
    assert best["train/map_macro"] > 0 and "val/top5_accuracy" not in best
    model = read_best(run)
    assert (said == (chances >= np.array(model.task.thresholds))).all()
    assert any("per_class" in row and "confusion" not in row for row in rows(run, "classes"))


def test_the_loss_is_torchs() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=rng)
    labels = torch.rand(6, 4, generator=rng) < 0.4
    ones = torch.ones(4)
    mine = binary_losses(logits, labels, 0.0, ones)
    assert mine.mean().item() == pytest.approx(BCEWithLogitsLoss()(logits, labels.float()).item())
    weights = torch.tensor([1.0, 3.0, 0.5, 7.0])
    smoothed = labels.float() * 0.8 + 0.1
    expected = BCEWithLogitsLoss(pos_weight=weights)(logits, smoothed)
    mine = binary_losses(logits, labels, 0.2, weights)
    assert mine.mean().item() == pytest.approx(expected.item())


def test_processes_and_accumulation_compute_the_same(
    run: Path, table: Path, tmp_path: Path
) -> None:
    """One process with two micro-batches a step, and two with one each."""
    two = trained(tmp_path / "two", *settings(table, "--epochs", "1"), processes=2)
    for first, second in zip(rows(run, "step"), rows(two, "step"), strict=False):
        assert first["step/loss"] == pytest.approx(second["step/loss"], rel=1e-4)
    alone, several = (rows(path, "epoch")[0] for path in (run, two))
    assert alone["train/samples_once"] == several["train/samples_once"]
    for name in ("train/loss", "train/map_micro", "val/loss", "val/map_macro"):
        assert alone[name] == pytest.approx(several[name], rel=1e-3)
    found, other = predictions(run), predictions(two)
    assert [(row["path"], row["labels"]) for row in found] == [
        (row["path"], row["labels"]) for row in other
    ]


def test_a_resume_and_a_training_from_split_csv_are_the_same(
    run: Path, table: Path, tmp_path: Path
) -> None:
    from_split = run / "split.csv"
    assert from_split.read_text().startswith("path,classes,split,group")
    middle = sorted((run / "checkpoints").iterdir())[-2]  # within the last epoch
    resumed = train_here(tmp_path / "resumed", *settings(table, "--resume", middle))
    again = train_here(tmp_path / "again", *settings(from_split, "--epochs", "1"))
    for other in (resumed, again):
        newest = max((other / "checkpoints").iterdir())
        weights = (newest / "model.safetensors").read_bytes()
        assert weights == (run / "checkpoints" / newest.name / "model.safetensors").read_bytes()
        last = rows(other, "epoch")[-1]
        same = rows(run, "epoch")[last["epoch"] - 1]
        for name in ("train/map_macro", "train/f1_macro", "val/map_macro", "val/loss"):
            assert last[name] == same[name]


@pytest.mark.slow
def test_evaluate_predict_export_and_report(
    run: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = EvaluateCommand(mixed_precision="no", num_workers=0, output=tmp_path / "own")
    own = run_evaluation(run, command)
    best = read_best(run)
    described = json.loads((run / "models" / "best_model.json").read_text())
    for name in ("map_macro", "map_micro", "f1_macro", "f1_micro", "loss"):
        assert own[name] == pytest.approx(described["metrics"][f"val/{name}"], abs=1e-5)
    assert own["thresholds"] == list(best.task.thresholds or ())
    views = replace(command, data=table, output=tmp_path / "views", temporal_views=2, videos=None)
    assert run_evaluation(run, views)["videos"] == 32
    with open(tmp_path / "views" / "predictions.csv", newline="") as file:
        scored = {row["path"]: row for row in csv.DictReader(file)}

    assert run_export(run, Export(format="onnx")).parity is not None
    capsys.readouterr()
    videos = [str(table.parent / name) for name in ("00.mp4", "07.mp4")]
    for backend in ("torch", "onnx"):
        predict = Predict(json=True, temporal_views=2, mixed_precision="no", num_workers=0)
        run_predict(run, videos, replace(predict, backend=backend))
        for line in capsys.readouterr().out.splitlines():
            told = json.loads(line)
            row = scored[Path(told["path"]).name]
            names = sorted(one["class"] for one in told["predictions"])
            assert "|".join(names) == row["predictions"] and "prediction" not in told
            for one in told["top"]:
                chance = float(row[f"prob_{one['class']}"])
                assert one["probability"] == pytest.approx(chance, abs=1e-5)
    run_predict(run, videos, Predict(mixed_precision="no", num_workers=0))
    assert len(capsys.readouterr().out.splitlines()) >= 2
    model = slowfast_dist.load(run)
    said = model.predict(videos[1])
    assert set(said.labels) == {name for name, chance in said.probabilities.items() if chance
                                >= best.task.thresholds[CLASSES.index(name)]}  # type: ignore[index]
    with pytest.raises(UserError, match="several"):
        model.predict_segments(videos[1])
    with pytest.raises(UserError, match=r"--segments: is for a model of one label"):
        run_predict(run, videos, Predict(segments=True, output=tmp_path))

    run_report([run], Report(output=tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Mean average precision" in page and "Threshold" in page
    assert "Confusion matrix" not in page and "Calibration error" not in page
    run_report([run, resembling(run, tmp_path)], Report(output=tmp_path / "both.html"))
    card = (run / "models" / "README.md").read_text(encoding="utf-8")
    assert "mean average precision of" in card and "| threshold |" in card
    assert "Binary cross-entropy" in card


def resembling(run: Path, tmp_path: Path) -> Path:
    other = tmp_path / "other"
    (other / "predictions").mkdir(parents=True)
    for name in ("config.yaml", "metrics.jsonl", "status", "classes.json",
                 "predictions/val_best.csv"):  # fmt: skip
        (other / name).write_bytes((run / name).read_bytes())
    return other


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"loss": "mse"}, "loss is 'mse'"),
        ({"thresholds": [0.5]}, "thresholds are none"),
        ({"thresholds": [0.5, 2.0, 0.5]}, "threshold is 2.0"),
        ({"thresholds": [0.5, None, 0.5]}, "threshold is None"),
    ],
)
def test_a_strangers_description_is_bounded(
    run: Path, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    described = json.loads((run / "models" / "best_model.json").read_text())
    (tmp_path / "best_model.json").write_text(json.dumps(described | change))
    with pytest.raises(UserError, match=reason):
        read_best(tmp_path)
    old = {name: value for name, value in described.items() if name not in ("loss", "thresholds")}
    (tmp_path / "best_model.json").write_text(json.dumps(old))
    assert not read_best(tmp_path).task.several


def test_what_to_monitor_fits_the_loss() -> None:
    for loss, monitor in (("ce", "val/map_macro"), ("bce", "val/top5_accuracy")):
        words = ["--data.root", "x", "--loss.name", loss, "--checkpoint.monitor", monitor]
        with pytest.raises(UserError, match=f"there is none with --loss.name {loss}"):
            slowfast_dist.load_config("finetune", [*words, "--checkpoint.mode", "max"])
