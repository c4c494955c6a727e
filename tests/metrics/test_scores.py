"""metrics.py against scikit-learn and torch, and at the edges where they refuse or differ."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from slowfast_dist.metrics import scores as metrics


def sample(n: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and logits (N, K) in which the last class has no sample and is predicted."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k - 1, n)
    logits = rng.normal(size=(n, k)) * 3
    logits[np.arange(n), labels] += rng.normal(size=n) * 4
    return labels, logits


@pytest.mark.parametrize("k", [2, 5, 7, 30])
def test_equal_to_scikit_learn(k: int) -> None:
    labels, logits = sample(101, k)
    predictions = logits.argmax(1)
    ours = metrics.logit_metrics(labels, logits)
    classes = list(range(k))
    expected = {
        "loss": torch.nn.functional.cross_entropy(
            torch.from_numpy(logits), torch.from_numpy(labels)
        ).item(),
        "accuracy": sk.accuracy_score(labels, predictions),
    }
    for average in ("macro", "weighted"):
        scores = sk.precision_recall_fscore_support(
            labels, predictions, labels=classes, average=average, zero_division=0
        )
        end = "macro_all_classes" if average == "macro" else average
        for name, value in zip(("precision", "recall", "f1"), scores[:3], strict=True):
            expected[f"{name}_{end}"] = value
    scores = sk.precision_recall_fscore_support(
        labels, predictions, average="macro", zero_division=0
    )
    for name, value in zip(("precision", "recall", "f1"), scores[:3], strict=True):
        expected[f"{name}_macro"] = value
    expected["macro_classes"] = len({*labels, *predictions})
    if k > 5:
        expected["top5_accuracy"] = sk.top_k_accuracy_score(labels, logits, k=5, labels=classes)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), name


def test_perfect_predictions_on_two_of_six_classes_are_perfect() -> None:
    labels = np.array([1, 1, 4, 4])
    result = metrics.classification_metrics(labels, labels, 6)
    for name in ("precision", "recall", "f1"):
        assert result[f"{name}_macro"] == result[f"{name}_weighted"] == 1.0
        assert result[f"{name}_macro_all_classes"] == pytest.approx(1 / 3)
    assert result["macro_classes"] == 2
    assert metrics.over_classes(result, 6) == "over 2 of 6 classes"
    assert metrics.over_classes(result, 2) == ""
    assert metrics.over_classes({"val/f1_macro": 1.0}, 6, "val/") == ""  # of an older version


def test_macro_averages_are_those_of_scikit_learn_whatever_classes_are_missing() -> None:
    """A class that is only predicted, or only a label, counts; one that is neither does not."""
    rng = np.random.default_rng(7)
    missing = 0
    for _ in range(200):
        k = int(rng.integers(1, 12))
        some = rng.permutation(k)
        n = int(rng.integers(1, 30))
        labels = rng.choice(some[: rng.integers(1, k + 1)], n)
        predictions = rng.choice(some[rng.integers(0, k) :], n)
        predictions = np.where(rng.random(n) < 0.5, labels, predictions)
        found = metrics.classification_metrics(labels, predictions, k)
        for end, classes in (("", None), ("_all_classes", range(k))):
            scores = sk.precision_recall_fscore_support(
                labels, predictions, labels=classes, average="macro", zero_division=0
            )
            for name, value in zip(("precision", "recall", "f1"), scores[:3], strict=True):
                assert found[f"{name}_macro{end}"] == pytest.approx(value, abs=1e-12)
        occurring = len(np.union1d(labels, predictions))
        assert found["macro_classes"] == occurring
        missing += occurring < k
    assert missing > 50


def test_no_samples_give_zeros() -> None:
    none, logits = np.zeros(0, np.int64), np.zeros((0, 7))
    assert set(metrics.logit_metrics(none, logits).values()) == {0.0}
    assert metrics.confusion(none, none, 7).tolist() == np.zeros((7, 7)).tolist()
    assert [row["support"] for row in metrics.per_class(none, none, ("a", "b"))] == [0, 0]


def test_equal_logits_are_ranked_as_argmax_and_torch_rank_them() -> None:
    logits = np.array([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0], [3.0, 1.0, 3.0]])
    labels = np.array([2, 0, 2])
    assert metrics.predicted(logits).tolist() == torch.from_numpy(logits).argmax(1).tolist()
    for k, hits in ((1, 1), (2, 3), (3, 3)):
        assert metrics.top_k_hits(labels, logits, k) == hits
    assert metrics.top_k_hits(labels, logits, 1) == 1


def test_loss_of_extreme_and_half_precision_logits_is_exact() -> None:
    logits = np.array([[1000.0, -1000.0], [-1000.0, 1000.0]])
    assert metrics.cross_entropy(logits, np.array([0, 0])) == 1000.0
    labels, wide = sample(50, 9)
    narrow = wide.astype(np.float32)
    reference = torch.nn.functional.cross_entropy(
        torch.from_numpy(narrow).double(), torch.from_numpy(labels)
    ).item()
    assert metrics.cross_entropy(narrow, labels) == pytest.approx(reference, abs=1e-12)
    assert narrow.dtype == np.float32 and (narrow == wide.astype(np.float32)).all()


def test_per_class_and_confusion_tell_true_from_predicted() -> None:
    labels, predictions = np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1])
    assert metrics.confusion(labels, predictions, 3).tolist() == [[1, 2, 0], [0, 1, 0], [0, 0, 0]]
    first, second, third = metrics.per_class(labels, predictions, ("walk", "run", "rest"))
    assert first == {
        "class": "walk",
        "precision": 1.0,
        "recall": pytest.approx(1 / 3),
        "f1": 0.5,
        "support": 3,
    }
    assert second["precision"] == pytest.approx(1 / 3) and second["recall"] == 1.0
    assert third == {"class": "rest", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


# Top-k


@pytest.mark.parametrize("k", [3, 6, 12])
def test_top_k_is_that_of_scikit_learn_below_the_number_of_classes(k: int) -> None:
    labels, logits = sample(73, k)
    found = metrics.top_k_accuracies(labels, logits, (5, 1, 3, 1, 40))
    below = [one for one in (1, 3, 5) if one < k]
    assert list(found) == [f"top{one}_accuracy" for one in below]
    for one in below:
        expected = sk.top_k_accuracy_score(labels, logits, k=one, labels=list(range(k)))
        assert found[f"top{one}_accuracy"] == pytest.approx(expected, abs=1e-12)
    assert found["top1_accuracy"] == metrics.logit_metrics(labels, logits)["accuracy"]
    nothing = metrics.top_k_accuracies(labels[:0], logits[:0], [1])
    assert nothing == {"top1_accuracy": 0.0}


def test_what_is_not_a_number_is_no_hit() -> None:
    nan = float("nan")
    logits = np.array([[nan, nan, nan], [nan, 1.0, 0.0], [2.0, nan, 1.0]])
    labels = np.array([1, 0, 0])
    assert [metrics.top_k_hits(labels, logits, k) for k in (1, 2)] == [0, 1]


# Views


def test_views_are_averaged_as_probabilities() -> None:
    """One view that is sure does not outvote two that agree, as it would by its logits."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(11, 6, 4)) * 4
    expected = torch.from_numpy(logits).softmax(dim=2).mean(dim=1).numpy()
    found = metrics.average_views(logits)
    np.testing.assert_allclose(metrics.softmax(found), expected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(np.exp(found), expected, rtol=0, atol=1e-15)
    labels = rng.integers(0, 4, 11)
    loss = -np.log(expected[np.arange(11), labels]).mean()
    assert metrics.cross_entropy(found, labels) == pytest.approx(loss, abs=1e-12)
    views = np.array([[[2.0, 0.0], [2.0, 0.0], [-30.0, 0.0]]])
    assert metrics.predicted(metrics.average_views(views)) == [0]
    assert metrics.predicted(views.mean(axis=1)) == [1]


def test_one_view_is_not_touched_and_extreme_ones_stay_finite() -> None:
    logits = np.random.default_rng(6).normal(size=(9, 1, 5)).astype(np.float32) * 50
    assert np.array_equal(metrics.average_views(logits), logits[:, 0].astype(np.float64))
    most = float(np.finfo(np.float32).max)
    views = np.array([[[most, -most, 0.0], [most, -most, 0.0]], [[0.0, -2000.0, -3000.0]] * 2])
    found = metrics.average_views(views)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0], [0.0, -2 * most, -most])
    np.testing.assert_allclose(found[1], [0.0, -2000.0, -3000.0])
    assert metrics.average_views(np.zeros((0, 3, 4))).shape == (0, 4)
