"""The score of the best of many, corrected for the choice: chance stays chance."""

import numpy as np
import pytest

from slowfast_dist.metrics.chosen import corrected_for_choice, paired_interval
from slowfast_dist.metrics.uncertainty import group_intervals

VIDEOS, CLASSES, MODELS = 120, 4, 40


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N,), predictions of models that guess (C, N), and groups of three videos (N,)."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(CLASSES), VIDEOS // CLASSES)
    return labels, rng.integers(CLASSES, size=(MODELS, VIDEOS)), np.arange(VIDEOS) // 3


def f1(labels: np.ndarray, said: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, said, average="macro"))


def test_the_best_of_many_that_guess_is_chance_again() -> None:
    flattered, corrected = [], []
    for seed in range(5):
        labels, said, groups = drawn(seed)
        flattered.append(max(f1(labels, one) for one in said))
        found = corrected_for_choice(labels, said, groups, CLASSES)
        assert found is not None and found.models == MODELS
        low, high = found.interval
        assert low < 1 / CLASSES < high
        corrected.append(found.f1_macro)
    assert np.mean(flattered) > 1 / CLASSES + 0.06
    assert abs(np.mean(corrected) - 1 / CLASSES) < 0.03


def test_one_that_is_truly_better_keeps_its_score() -> None:
    labels, said, groups = drawn(0)
    good = np.where(np.random.default_rng(1).random(VIDEOS) < 0.8, labels, said[0])
    said = np.vstack([said, good])
    found = corrected_for_choice(labels, said, groups, CLASSES)
    assert found is not None and found.f1_macro == pytest.approx(f1(labels, good), abs=0.03)
    interval = paired_interval(labels, good, said[0], groups, CLASSES)
    assert interval is not None and interval[0] > 0.3
    assert paired_interval(labels, good, good, groups, CLASSES) == (0, 0)
    # Against one that is never right the difference is the score itself.
    wrong = np.full(VIDEOS, CLASSES)
    against = paired_interval(labels, good, wrong, groups, CLASSES + 1)
    own = group_intervals(labels, good, groups, CLASSES)["f1_macro"]
    assert against == pytest.approx(own, abs=1e-12)


def test_of_one_model_or_one_group_it_tells_nothing() -> None:
    labels, said, groups = drawn(0)
    assert corrected_for_choice(labels, said[:1], groups, CLASSES) is None
    assert corrected_for_choice(labels, said, np.zeros(VIDEOS), CLASSES) is None
    assert paired_interval(labels, said[0], said[1], np.zeros(VIDEOS), CLASSES) is None
