"""The text files of a run: what is in them after training, after a crash and after a resume."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slowfast_dist.metrics.scores import classification_metrics, logit_metrics, top_k_hits
from slowfast_dist.runs.logs import SampleLog, TrainingLog
from slowfast_dist.runs.metrics_file import MetricsFile, read_metrics
from slowfast_dist.runs.predictions import write_predictions

SCORES = {
    "loss": 0.5,
    "accuracy": 0.75,
    "precision_macro": 0.1,
    "recall_macro": 0.2,
    "f1_macro": 0.3,
    "precision_weighted": 0.4,
    "recall_weighted": 0.6,
    "f1_weighted": 0.7,
}


def epoch_row(epoch: int, validation: bool = True) -> dict[str, float]:
    row = {"epoch": epoch, "global_step": 4 * epoch, "grad_norm": 1.25, "lr": 1e-4}
    row |= {f"train/{name}": value for name, value in SCORES.items()}
    if validation:
        row |= {f"val/{name}": value + 0.01 for name, value in SCORES.items()}
    return row | {"epoch_seconds": 12.34}


def test_numbers_come_back_exactly_and_what_json_lacks_as_null(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "run" / "metrics.jsonl")
    values = {
        "train/loss": 0.1 + 0.2,
        "global_step": np.int64(3),
        "val/accuracy": np.float64(1 / 3),
        "tensor": torch.tensor(2.5),
        "best": True,
        "none": float("nan"),
        "far": float("inf"),
    }
    file.write("epoch", **values)
    file.write("step", global_step=4)
    text = file.path.read_text()
    assert "NaN" not in text and "Infinity" not in text and text.count("\n") == 2
    assert [json.loads(line) for line in text.splitlines()] == [
        {
            "kind": "epoch",
            "train/loss": 0.1 + 0.2,
            "global_step": 3,
            "val/accuracy": 1 / 3,
            "tensor": 2.5,
            "best": True,
            "none": None,
            "far": None,
        },
        {"kind": "step", "global_step": 4},
    ]


def test_resuming_leaves_the_rows_of_an_uninterrupted_run(tmp_path: Path) -> None:
    def train(file: MetricsFile, first: int, last: int) -> None:
        for step in range(first, last + 1):
            file.write("step", epoch=(step + 3) // 4, global_step=step, loss=1 / step)
            if step % 4 == 0:
                file.write("epoch", epoch=step // 4, global_step=step, **{"val/loss": 2 / step})
                file.write("classes", epoch=step // 4, global_step=step, confusion=[[1, 0], [0, 1]])

    whole = MetricsFile(tmp_path / "whole.jsonl")
    train(whole, 1, 12)
    broken = MetricsFile(tmp_path / "broken.jsonl")
    train(broken, 1, 11)
    with open(broken.path, "a") as file:
        file.write('{"kind": "step", "epo')
    broken.truncate_after(6)
    assert read_metrics(broken.path)[-1]["global_step"] == 6
    train(broken, 7, 12)
    assert broken.path.read_bytes() == whole.path.read_bytes()
    broken.truncate_after(8, epochs_done=1)  # a checkpoint of step 8 before epoch 2 was scored
    rows = read_metrics(broken.path)
    assert [row["epoch"] for row in rows if row["kind"] != "step"] == [1, 1]
    assert rows[-1]["global_step"] == 8
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []


def test_what_is_on_wandb_is_known_also_where_its_steps_are_done_again(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for step in (1, 2):
        file.write("epoch", epoch=step, global_step=step)
    file.write("wandb", epoch=2, global_step=2, curves="calibration")
    file.truncate_after(1)
    assert [row["kind"] for row in read_metrics(file.path)] == ["epoch", "wandb"]


def test_resuming_a_run_that_wrote_nothing_yet(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "metrics.jsonl").truncate_after(0)
    assert not (tmp_path / "metrics.jsonl").exists()


NAMES = ["a/x.mp4", 'b/say "hi", now.mp4', "b/line\nbreak.mp4", "c/\udcff.mp4"]


def sample_rows(first: int, last: int) -> NDArray[np.int64]:
    """Steps of two samples each, in no order; in step 2 a video stands in for another one."""
    rows = [(s, 3 if step == 2 else s, 0, 0, 0, step) for step in range(first, last + 1)
            for s in (3 - step % 2, step % 2)]  # fmt: skip
    return np.array(rows[::-1], np.int64)


def test_samples_are_listed_by_step_and_sample(tmp_path: Path) -> None:
    log = SampleLog(tmp_path / "logs" / "samples.csv", NAMES.__getitem__)
    log.epoch(sample_rows(1, 2))
    log.epoch(sample_rows(3, 3))
    with open(log.path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["global_step", "sample", "video"]
    assert rows == [
        ["1", NAMES[1], NAMES[1]], ["1", NAMES[2], NAMES[2]],
        ["2", NAMES[0], NAMES[3]], ["2", NAMES[3], NAMES[3]],
        ["3", NAMES[1], NAMES[1]], ["3", NAMES[2], NAMES[2]],
    ]  # fmt: skip


def test_a_resumed_sample_log_is_that_of_an_undisturbed_run(tmp_path: Path) -> None:
    """Torn anywhere, cut back to the epochs that were done, and written again."""
    whole = SampleLog(tmp_path / "whole.csv", NAMES.__getitem__)
    whole.truncate_after(0)
    assert not whole.path.exists()
    whole.epoch(sample_rows(1, 9))
    first = whole.path.stat().st_size
    whole.epoch(sample_rows(10, 13))
    content = whole.path.read_bytes()
    torn = SampleLog(tmp_path / "torn.csv", NAMES.__getitem__)
    for size in {*range(0, len(content), 13), *range(first - 3, first + 25), len(content) - 1}:
        torn.path.write_bytes(content[:size])
        done = 9 if size >= first else 0
        torn.truncate_after(done)
        if not done:
            torn.epoch(sample_rows(1, 9))
        torn.epoch(sample_rows(10, 13))
        assert torn.path.read_bytes() == content, size


def test_training_log_has_the_lines_of_the_original_script(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "training_log.txt"
    TrainingLog(path).epoch(
        epoch_row(1), epochs=2, classes=6, saved=Path("models/best_model_weights.pth")
    )
    resumed = TrainingLog(path)
    resumed.epoch(
        epoch_row(2, validation=False) | {"train/loss": None, "train/macro_classes": 5}, 2, 6
    )
    resumed.finish(90.0)
    assert path.read_text().splitlines() == [
        "Epoch 1/2",
        "Train Loss: 0.5000 | Accuracy: 0.7500 | Precision: 0.1000 | Recall: 0.2000 | F1: 0.3000",
        "Train Weighted Precision: 0.4000 | Recall: 0.6000 | F1: 0.7000",
        "Val Loss: 0.5100 | Accuracy: 0.7600 | Precision: 0.1100 | Recall: 0.2100 | F1: 0.3100",
        "Val Weighted Precision: 0.4100 | Recall: 0.6100 | F1: 0.7100",
        "Gradient Norm: 1.2500 | Learning Rate: 1.000e-04",
        "Model saved to models/best_model_weights.pth",
        "Epoch Time: 12.3 seconds",
        "",
        "Epoch 2/2",
        "Train Loss: nan | Accuracy: 0.7500 | Precision: 0.1000 | Recall: 0.2000 | F1: 0.3000 | "
        "over 5 of 6 classes",
        "Train Weighted Precision: 0.4000 | Recall: 0.6000 | F1: 0.7000",
        "Gradient Norm: 1.2500 | Learning Rate: 1.000e-04",
        "Epoch Time: 12.3 seconds",
        "",
        "Total Training Time: 1.50 minutes",
    ]


def test_metrics_computed_again_from_the_predictions_agree(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    classes = ["hand shake", 'say "hi", now', "prob_x", "été", "e", "f", "g"]
    labels = rng.integers(0, 7, 23)
    logits = (rng.normal(size=(23, 7)) * 30).astype(np.float32)
    logits[0] = 0  # all equal
    names = [f"{classes[label]}/clip, {i}.mp4" for i, label in enumerate(labels)]
    names[1] = "bad\udcff.mp4"  # how Python gives a file name that is not UTF-8
    path = tmp_path / "predictions" / "val_best.csv"
    write_predictions(path, names, labels, logits, classes)

    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["path", "label", "prediction", *(f"prob_{name}" for name in classes)]
    assert [row[0] for row in rows] == names
    read_labels = np.array([classes.index(row[1]) for row in rows])
    predictions = np.array([classes.index(row[2]) for row in rows])
    probabilities = np.array([[float(cell) for cell in row[3:]] for row in rows])
    expected = logit_metrics(labels, logits)
    own = probabilities[np.arange(23), read_labels]
    assert -np.log(own).mean() == pytest.approx(expected["loss"], abs=1e-9)
    hits = top_k_hits(read_labels, probabilities, 5)
    again = classification_metrics(read_labels, predictions, 7, hits)
    for name, value in again.items():
        assert value == pytest.approx(expected[name], abs=1e-9), name
    assert (predictions == probabilities.argmax(1)).all()


def test_predictions_that_fail_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "val_best.csv"
    write_predictions(path, ["a"], np.array([0]), np.zeros((1, 2)), ["x", "y"])
    before = path.read_bytes()
    with pytest.raises(IndexError):  # in the second row, after the first was written
        write_predictions(path, ["a", "b"], np.array([0, 1]), np.zeros((2, 2)), ["x"])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
