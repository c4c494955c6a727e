"""The threshold below which a model says `unknown`."""

import numpy as np
import pytest

from slowfast_dist.metrics.unknown import (
    choose_min_confidence,
    label_of,
    unknown_facts,
    unknown_line,
)


def made(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, 60), 2 * rng.normal(size=(60, 4))


@pytest.mark.parametrize("recall", [0.0, 0.3, 0.5, 0.95, 1.0])
def test_it_is_the_least_that_holds(recall: float) -> None:
    for seed in range(20):
        labels, logits = made(seed)
        least = choose_min_confidence(labels, logits, recall)
        found = unknown_facts(labels, logits, least)
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        wrong = chances.argmax(axis=1) != labels
        below = chances.max(axis=1) < least
        assert found["recall"] == pytest.approx(below[wrong].mean()) and found["recall"] >= recall
        assert found["lost"] == pytest.approx(below[~wrong].mean())
        assert (found["wrong"], found["right"]) == (wrong.sum(), (~wrong).sum())
        if recall:  # a step lower it does not hold
            assert (chances.max(axis=1)[wrong] < least - 1e-4).mean() < recall


def test_of_no_mistakes_it_is_none_and_of_a_sure_one_the_whole() -> None:
    labels, logits = np.array([0, 1]), np.array([[3.0, 0.0], [0.0, 1.0]])
    assert choose_min_confidence(labels, logits, 0.9) == 0
    assert unknown_facts(labels, logits, 0.9)["recall"] is None
    assert choose_min_confidence(np.array([1, 1]), 900 * logits, 0.9) == 1
    assert "right" in unknown_line(unknown_facts(labels, logits, 0.9))
    assert label_of("a", 0.6, 0.6) == "a" and label_of("a", 0.59, 0.6) == "unknown"
