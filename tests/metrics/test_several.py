"""Scores of several labels a clip, against scikit-learn, torch and trying everything."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_recall_fscore_support,
)

from slowfast_dist.metrics import several
from slowfast_dist.metrics.summary import Predictions, summarise
from slowfast_dist.metrics.task import SeveralLabels, task_of
from slowfast_dist.runs.predictions import SEVERAL, read_predictions, write_predictions

CLASSES = tuple("abcdefg")


def case(seed: int = 0, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Labels bool (N, 7) and logits, some of them equal, better than by chance."""
    rng = np.random.default_rng(seed)
    labels = rng.random((count, len(CLASSES))) < np.linspace(0.1, 0.7, len(CLASSES))
    labels[0] = True
    return labels, np.round(rng.normal(size=labels.shape) + 1.5 * labels, 1)


def fitted(labels: np.ndarray, logits: np.ndarray) -> SeveralLabels:
    task = task_of("bce").fitted(logits, labels)
    assert isinstance(task, SeveralLabels)
    return task


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_scikit_learn(seed: int) -> None:
    labels, logits = case(seed)
    task = fitted(labels, logits)
    found = task.metrics(logits, labels)
    probabilities = 1 / (1 + np.exp(-logits))
    decisions = probabilities >= np.array(task.thresholds)
    expected = {"accuracy": accuracy_score(labels, decisions)}
    for average in ("macro", "micro"):
        expected[f"map_{average}"] = average_precision_score(labels, probabilities, average=average)
        expected[f"f1_{average}"] = f1_score(labels, decisions, average=average, zero_division=0)
    for average in ("macro", "weighted"):
        scores = precision_recall_fscore_support(
            labels, decisions, average=average, zero_division=0
        )
        for name, score in zip(("precision", "recall", "f1"), scores, strict=False):
            expected[f"{name}_{average}"] = score
    plain = torch.nn.BCEWithLogitsLoss()(torch.from_numpy(logits), torch.from_numpy(labels * 1.0))
    expected["loss"] = plain.item()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    one = task.per_class(logits, labels, CLASSES)[2]
    score = average_precision_score(labels[:, 2], probabilities[:, 2])
    assert one["average_precision"] == pytest.approx(score, abs=1e-12)
    assert one["support"] == labels[:, 2].sum() and one["threshold"] in (task.thresholds or ())


def test_thresholds_have_the_highest_f1_and_of_equal_ones_are_the_highest() -> None:
    labels, logits = case(count=12)
    probabilities = task_of("bce").probabilities(logits)
    thresholds = several.choose_thresholds(labels, probabilities)
    for truth, chances, threshold in zip(labels.T, probabilities.T, thresholds, strict=True):
        scores = {t: f1_score(truth, chances >= t) for t in np.unique(chances)}
        best = max(scores.values())
        assert f1_score(truth, chances >= threshold) == pytest.approx(best)
        highest = max(t for t, score in scores.items() if score >= best - 1e-12)
        below = max((t for t in scores if t < highest), default=0.0)
        assert threshold == pytest.approx((highest + below) / 2)


def test_thresholds_of_odd_columns() -> None:
    near = np.nextafter(0.5, 1)
    labels = np.array([[0, 1, 1], [0, 1, 0]], np.bool_)
    probabilities = np.array([[0.9, 0.4, near], [0.1, 0.4, 0.5]])
    thresholds = several.choose_thresholds(labels, probabilities)
    assert thresholds == (several.UNCHOSEN, 0.2, near)  # no sample; all equal; no middle
    assert several.decide(probabilities, thresholds)[:, 2].tolist() == [True, False]
    broken = np.where(labels, np.nan, 0.5)
    assert several.choose_thresholds(labels, broken) == (0.5,) * 3
    assert np.isnan(several.metrics(labels, broken, labels)["map_micro"])
    none = task_of("bce").metrics(np.zeros((0, 3)), np.zeros((0, 3), np.bool_))
    assert none == {"loss": 0, "map_macro": 0, "map_micro": 0}


def test_views_are_averaged_as_probabilities() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 6, (4, 3, 5))
    task = task_of("bce")
    mean = (1 / (1 + np.exp(-logits))).mean(axis=1)
    np.testing.assert_allclose(task.probabilities(task.average_views(logits)), mean, rtol=1e-12)
    assert (task.average_views(logits[:, :1]) == logits[:, 0]).all()
    large = task.average_views(np.full((1, 2, 1), 1000.0))  # where a sigmoid is 1
    assert large == pytest.approx(1000.0)
    assert task.losses(large, np.array([[False]])) == pytest.approx(1000.0)


def test_a_class_without_samples_is_in_no_macro_precision() -> None:
    labels, logits = case()
    labels[:, 0] = False
    found = fitted(labels, logits).metrics(logits, labels)
    chances = 1 / (1 + np.exp(-logits[:, 1:]))
    assert found["map_macro"] == pytest.approx(average_precision_score(labels[:, 1:], chances))


def test_predictions_read_back_and_summarise_alike(tmp_path: Path) -> None:
    labels, logits = case()
    labels[3] = False
    task, names = fitted(labels, logits), [f"{n}.mp4" for n in range(len(labels))]
    path = tmp_path / "val_best.csv"
    write_predictions(path, names, labels, logits, CLASSES, task=task)
    text = path.read_text().splitlines()
    assert text[0].split(",")[:3] == SEVERAL
    assert text[1].split(",")[1] == "|".join(CLASSES) and text[4].split(",")[1] == ""
    again = read_predictions(path)
    assert (again.labels == labels).all() and (again.predicted == task.decisions(logits)).all()
    made = summarise(Predictions.from_logits(names, labels, logits, CLASSES, task), hardest=4)
    read = summarise(again, hardest=4)
    assert read.hardest[0].path == made.hardest[0].path and read.scored == made.scored
    wrong = (labels != task.decisions(logits)).any(axis=1)
    assert made.mistakes == wrong.sum() and made.videos == len(labels) and made.ece is None
    for name, value in made.metrics.items():
        assert read.metrics[name] == pytest.approx(value, abs=1e-12)
    low, high = made.intervals["f1_macro"]
    assert low < made.metrics["f1_macro"] < high
    path.write_text(path.read_text().replace("a|b", "a|z"))
    with pytest.raises(ValueError, match="is damaged"):
        read_predictions(path)


def test_intervals_are_those_of_the_draws() -> None:
    """Of two samples every draw is one of three."""
    labels = np.array([[1, 0], [1, 1]], np.bool_)
    decisions = np.array([[1, 0], [1, 0]], np.bool_)
    kinds = []
    for draw in itertools.product(range(2), repeat=2):
        rows = list(draw)
        kinds.append(np.mean([decisions[r].tolist() == labels[r].tolist() for r in rows]))
    low, high = several.bootstrap_intervals(labels, decisions)["accuracy"]
    assert (low, high) == (min(kinds), max(kinds))
