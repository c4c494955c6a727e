"""uncertainty.py against independent references: scikit-learn, brute force, and what a 95 %
interval promises."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score

from slowfast_dist.metrics.scores import classification_metrics, softmax
from slowfast_dist.metrics.uncertainty import (
    bootstrap_intervals,
    expected_calibration_error,
    group_intervals,
    reliability,
    scores_line,
)


def scored(n: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and probabilities (N, K) that favour the label, too surely."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k)) * 2
    logits[np.arange(n), labels] += 1.5
    return labels, softmax(logits)


# Calibration


@pytest.mark.parametrize(("n", "k", "bins"), [(400, 4, 15), (37, 2, 10), (2000, 9, 5)])
def test_bins_are_those_of_scikit_learn(n: int, k: int, bins: int) -> None:
    labels, probabilities = scored(n, k)
    found = reliability(labels, probabilities, bins)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=bins)
    used = [one for one in found if one.count]
    assert [one.accuracy for one in used] == pytest.approx(accuracy, abs=1e-12)
    assert [one.confidence for one in used] == pytest.approx(mean_confidence, abs=1e-12)
    assert sum(one.count for one in found) == n and len(found) == bins
    error = 0.0  # and their error by a loop over the samples
    for sure in confidence:
        [own] = [one for one in found if one.low < sure <= one.high]
        error += abs(own.accuracy - own.confidence) / n
    assert expected_calibration_error(found) == pytest.approx(error, abs=1e-12)


def test_a_model_that_is_as_sure_as_it_is_right_has_no_calibration_error() -> None:
    rng = np.random.default_rng(1)
    sure = rng.uniform(0.5, 1.0, 200_000)
    labels = (rng.random(len(sure)) > sure).astype(int)
    bins = reliability(labels, np.stack([sure, 1 - sure], axis=1))
    assert expected_calibration_error(bins) < 0.005
    always_right = reliability(np.zeros_like(labels), np.stack([sure, 1 - sure], axis=1))
    assert expected_calibration_error(always_right) == pytest.approx((1 - sure).mean(), abs=1e-9)


def test_bins_at_the_edges() -> None:
    """A confidence on an edge lies below it; the first and last hold 0 and 1."""
    labels = np.array([0, 0, 1, 0])
    probabilities = np.array([[0.5, 0.5], [0.6, 0.4], [1.0, 0.0], [0.75, 0.25]])
    found = reliability(labels, probabilities, 4)
    assert [one.count for one in found] == [0, 1, 2, 1]
    assert [one.high for one in found] == [0.25, 0.5, 0.75, 1.0]
    assert [one.low for one in found] == [0.0, 0.25, 0.5, 0.75]
    assert (found[1].accuracy, found[3].accuracy) == (1.0, 0.0)  # of equal ones the first class
    for digits in range(1, 15):  # every edge of the usual bins is in the bin that it ends
        edge = np.array([[digits / 15, 0.0]])
        assert reliability(np.array([0]), edge)[digits - 1].count == 1


def test_calibration_of_no_sample_and_of_one_class() -> None:
    nothing = reliability(np.zeros(0, np.int64), np.zeros((0, 3)))
    assert len(nothing) == 15 and not any(one.count for one in nothing)
    assert expected_calibration_error(nothing) == 0.0
    alone = reliability(np.zeros(3, np.int64), np.ones((3, 1)))
    assert (alone[-1].count, expected_calibration_error(alone)) == (3, 0.0)


# Intervals


def labelled(n: int, k: int, right: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions (N,), a share of about ``right`` of which agree."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    others = (labels + rng.integers(1, k, n)) % k
    return labels, np.where(rng.random(n) < right, labels, others)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "k", "right"), [(60, 4, 0.7), (25, 6, 0.8)])
def test_equal_to_a_bootstrap_that_draws_the_videos_themselves(
    n: int, k: int, right: float
) -> None:
    labels, predictions = labelled(n, k, right, seed=2)
    found = bootstrap_intervals(labels, predictions, k, resamples=4000, seed=1)
    rng, draws = np.random.default_rng(9), 1200
    accuracy, f1 = np.empty(draws), np.empty(draws)
    for draw in range(draws):
        chosen = rng.integers(0, n, n)
        of, said = labels[chosen], predictions[chosen]
        accuracy[draw] = (of == said).mean()
        f1[draw] = f1_score(of, said, average="macro", zero_division=0)
    for name, values in (("accuracy", accuracy), ("f1_macro", f1)):
        for end, share in zip(found[name], (0.025, 0.975), strict=True):
            # As a share of the draws, a quantile of 1200 is right to 3 x sqrt(pq / 1200) = .0135.
            below, up_to = (values < end - 1e-9).mean(), (values <= end + 1e-9).mean()
            assert below - 0.02 <= share <= up_to + 0.02, (name, end)


@pytest.mark.parametrize(("n", "k", "present"), [(9, 6, 3), (14, 8, 8), (3, 2, 2)])
def test_each_draw_has_the_macro_f1_of_scikit_learn(n: int, k: int, present: int) -> None:
    """Draws of few videos lack classes that all videos have: each is averaged over its own."""
    labels, predictions = labelled(n, present, 0.6, seed=n)
    draws, level = 60, 0.9
    found = bootstrap_intervals(labels, predictions, k, resamples=draws, seed=3, level=level)
    pairs, counts = np.unique(labels * k + predictions, return_counts=True)
    drawn = np.random.default_rng(3).multinomial(n, counts / n, draws)
    f1, lacking = [], 0
    for times in drawn:
        of, said = np.divmod(np.repeat(pairs, times), k)
        f1.append(f1_score(of, said, average="macro", zero_division=0))
        lacking += len({*of, *said}) < len({*labels, *predictions})
    assert lacking
    expected = np.quantile(f1, [(1 - level) / 2, (1 + level) / 2])
    assert found["f1_macro"] == pytest.approx(tuple(expected), abs=1e-12)


def test_accuracy_of_many_videos_has_the_normal_interval() -> None:
    labels, predictions = labelled(20_000, 5, 0.8, seed=3)
    accuracy = float((labels == predictions).mean())
    half = 1.959964 * (accuracy * (1 - accuracy) / len(labels)) ** 0.5
    low, high = bootstrap_intervals(labels, predictions, 5, resamples=4000)["accuracy"]
    assert (low, high) == pytest.approx((accuracy - half, accuracy + half), abs=0.1 * half)
    narrow = bootstrap_intervals(labels, predictions, 5, resamples=4000, level=0.5)["accuracy"]
    assert narrow[1] - narrow[0] == pytest.approx(2 * half * 0.67449 / 1.959964, rel=0.1)


def test_the_true_accuracy_and_f1_lie_inside_about_95_times_of_100() -> None:
    hits = {"accuracy": 0, "f1_macro": 0}
    trials = 300
    for seed in range(trials):
        labels, predictions = labelled(150, 3, 0.7, seed=1000 + seed)
        found = bootstrap_intervals(labels, predictions, 3, resamples=250, seed=seed)
        for name, (low, high) in found.items():
            hits[name] += low <= 0.7 <= high  # F1 too, as the classes are alike
    for name, count in hits.items():
        assert 0.91 <= count / trials <= 0.985, name  # .95 give or take 3 standard errors


def test_the_intervals_hold_the_metrics_and_are_the_same_every_time() -> None:
    labels, predictions = labelled(40, 5, 0.6, seed=4)
    found = bootstrap_intervals(labels, predictions, 5)
    assert found == bootstrap_intervals(labels, predictions, 5)
    assert found != bootstrap_intervals(labels, predictions, 5, seed=1)
    metrics = classification_metrics(labels, predictions, 5)
    for name, (low, high) in found.items():
        assert 0 <= low < metrics[name] < high <= 1


def test_intervals_at_the_edges() -> None:
    none = np.zeros(0, np.int64)
    assert bootstrap_intervals(none, none, 3) == {}
    one = np.array([1])
    assert bootstrap_intervals(one, one, 3, resamples=0) == {}
    right = (1.0, 1.0)  # two classes that never occur are in no average
    assert bootstrap_intervals(one, one, 3) == {"accuracy": right, "f1_macro": right}
    assert bootstrap_intervals(one, 1 - one, 3)["f1_macro"] == (0.0, 0.0)
    labels = np.arange(200) % 4
    assert set(bootstrap_intervals(labels, labels, 4).values()) == {(1.0, 1.0)}
    alone = np.zeros(5, np.int64)
    assert set(bootstrap_intervals(alone, alone, 1).values()) == {(1.0, 1.0)}


def test_group_intervals_are_those_of_a_plain_loop_over_drawn_groups() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 7, 60)
    labels = rng.integers(0, 3, 60)
    predictions = np.where(rng.random(60) < 0.7, labels, rng.integers(0, 3, 60))
    found = group_intervals(labels, predictions, groups, 3, resamples=200)
    names, drawn = np.unique(groups), np.random.default_rng(0)
    accuracy, f1 = [], []
    for times in drawn.multinomial(len(names), np.full(len(names), 1 / len(names)), 200):
        rows = np.concatenate([
            np.tile(np.flatnonzero(groups == name), count)
            for name, count in zip(names, times, strict=True)
        ])  # fmt: skip
        accuracy.append(np.mean(labels[rows] == predictions[rows]))
        f1.append(f1_score(labels[rows], predictions[rows], average="macro"))
    for name, values in (("accuracy", accuracy), ("f1_macro", f1)):
        np.testing.assert_allclose(found[name], np.quantile(values, [0.025, 0.975]), atol=1e-12)
    assert group_intervals(labels, predictions, np.zeros(60), 3) == {}


def test_a_line_of_scores_has_the_intervals_that_are_there() -> None:
    scores = {"accuracy": 0.8, "f1_macro": 0.75, "loss": 0.7}
    shown = scores_line(scores, {"f1_macro": [0.61, 0.87654]}, "groups")
    assert shown == "accuracy 0.8000, macro-F1 0.7500 (95 %, over groups: 0.6100 to 0.8765)"
