"""Confident learning, against the paper's definition written out sample by sample, and what is told
of the nearest samples."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from slowfast_dist.metrics.summary import Predictions
from slowfast_dist.metrics.wrong_labels import Doubt, confident_joint, doubts_of, wrong_labels


def draw(seed: int, samples: int = 400, classes: int = 5, noise: float = 0.1) -> tuple[
    NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]
]:  # fmt: skip
    """True classes, labels of which a share is wrong, and what a fair model says."""
    rng = np.random.default_rng(seed)
    true = rng.integers(classes, size=samples)
    labels = np.where(rng.random(samples) < noise, (true + 1) % classes, true)
    logits = rng.normal(size=(samples, classes))
    logits[np.arange(samples), true] += 3
    odds = np.exp(logits)
    return true, labels, odds / odds.sum(axis=1, keepdims=True)


def plain_joint(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> list[list[int]]:
    """Equations 1 and 2 of the paper, by loops."""
    classes = probabilities.shape[1]
    threshold = [
        sum(row[j] for row, label in zip(probabilities, labels, strict=True) if label == j)
        / max(1, sum(label == j for label in labels))
        for j in range(classes)
    ]
    joint = [[0] * classes for _ in range(classes)]
    for row, label in zip(probabilities, labels, strict=True):
        reached = [j for j in range(classes) if row[j] >= threshold[j]]
        if reached:
            joint[label][max(reached, key=lambda j: row[j])] += 1
    return joint


@pytest.mark.parametrize("seed", range(5))
def test_the_joint_is_that_of_the_paper(seed: int) -> None:
    _, labels, probabilities = draw(seed)
    assert confident_joint(labels, probabilities).tolist() == plain_joint(labels, probabilities)


@pytest.mark.parametrize("seed", range(5))
def test_exchanged_labels_are_found_with_the_class_that_they_were(seed: int) -> None:
    true, labels, probabilities = draw(seed)
    found = wrong_labels(labels, probabilities)
    wrong = labels != true
    first = found.rows[: wrong.sum()]
    assert wrong[first].mean() > 0.8, "precision of the first ones, as many as are wrong"
    assert (found.classes[wrong[found.rows]] == true[found.rows[wrong[found.rows]]]).mean() > 0.9
    assert (np.diff(found.margins) <= 0).all()
    assert len(set(found.rows.tolist())) == len(found.rows)


def test_a_class_of_which_the_model_is_never_sure_is_not_doubted_for_that() -> None:
    """Of class 1 it says .45 at most, and .55 of class 0: that is usual, and no sign of an error
    where it is surer of class 0 elsewhere."""
    labels = np.array([0, 0, 0, 1, 1, 1])
    sure = np.array([0.9, 0.9, 0.9, 0.55, 0.55, 0.95])
    found = wrong_labels(labels, np.stack([sure, 1 - sure], axis=1))
    assert found.rows.tolist() == [5] and found.classes.tolist() == [0]
    assert found.margins == pytest.approx([0.9])


def test_without_noise_or_samples_there_is_nothing() -> None:
    labels = np.arange(3).repeat(4)
    assert len(wrong_labels(labels, np.eye(3)[labels]).rows) == 0
    nothing = wrong_labels(np.zeros(0, np.int64), np.zeros((0, 3)))
    assert len(nothing.rows) == 0
    missing = wrong_labels(np.zeros(4, np.int64), np.eye(3)[[0, 0, 0, 2]])  # 1 and 2 have no label
    assert len(missing.rows) == 0, "a class that nobody has is known by nothing"


def test_a_doubt_tells_how_its_nearest_are_labelled() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    sure = np.array([0.9, 0.9, 0.9, 0.1, 0.1, 0.95])
    names = [f"{number}.mp4" for number in range(6)]
    bare = Predictions.from_probabilities(names, labels, np.stack([sure, 1 - sure], 1), "ab")
    [plain] = doubts_of(bare)
    assert replace(plain, label_probability=0.0) == Doubt("5.mp4", "b", "a", 0.0, 0.95)
    assert plain.label_probability == pytest.approx(0.05) and plain.nearest_words == ""
    nearest = np.full((6, 4), -1)
    nearest[5, :3] = 0, 2, 4
    [one] = doubts_of(replace(bare, nearest=nearest))
    assert (one.nearest, one.nearest_probable, one.nearest_label) == (3, 2, 1)
    assert one.nearest_words == "2 of its 3 nearest clips are labelled a, 1 b"


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((1, 0, 1), "none of its nearest clip is labelled a, 1 b"),
     ((10, 10, 0), "10 of its 10 nearest clips are labelled a, none b")],
)  # fmt: skip
def test_the_words_for_few_and_none(counts: tuple[int, int, int], expected: str) -> None:
    assert Doubt("5.mp4", "b", "a", 0.1, 0.9, *counts).nearest_words == expected
