"""How well features part classes: the predictions of scikit-learn, group by group."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from slowfast_dist.metrics.features import neighbours
from slowfast_dist.metrics.features.checks import (
    check_features,
    linear_predictions,
    neighbour_predictions,
)


def made(rows: int = 90, groups: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of three classes that overlap, their labels and groups."""
    rng = np.random.default_rng(0)
    labels, codes = rng.integers(0, 3, rows), rng.integers(0, groups, rows)
    centres = rng.normal(size=(3, 16))
    features = centres[labels] + 1.5 * rng.normal(size=(rows, 16))
    return features.astype(np.float32), labels, codes


@pytest.mark.parametrize("own", [False, True], ids=["groups", "each its own"])
def test_neighbours_are_those_of_scikit_learn(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, groups = made()
    groups = np.arange(len(labels)) if own else groups
    monkeypatch.setattr(neighbours, "ROWS_AT_ONCE", 7)
    found = neighbour_predictions(features, labels, groups, 4)  # so that there are ties
    model = KNeighborsClassifier(4, metric="cosine")
    expected = cross_val_predict(model, features, labels, groups=groups, cv=LeaveOneGroupOut())
    assert (found == expected).all() and 0.4 < (found == labels).mean() < 1


def test_the_linear_layer_is_that_of_scikit_learn() -> None:
    features, labels, groups = made()
    model = make_pipeline(StandardScaler(), LogisticRegression())
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    expected = cross_val_predict(model, features, labels, groups=groups, cv=folds)
    assert (linear_predictions(features, labels, groups) == expected).all()


def test_scores_are_those_of_scikit_learn_with_intervals_around_them() -> None:
    features, labels, groups = made()
    names = np.array(["a", "b", "c"])[labels]
    checks = check_features(features, names.tolist(), groups.astype(str).tolist())
    assert [one.name for one in checks] == ["neighbours", "linear"]
    for one in checks:
        assert one.accuracy == pytest.approx(accuracy_score(labels, one.predictions))
        assert one.f1_macro == pytest.approx(f1_score(labels, one.predictions, average="macro"))
        for name in ("accuracy", "f1_macro"):
            low, high = one.intervals[name]
            assert low < getattr(one, name) < high
        least = one.intervals["accuracy"][0]
        assert f"accuracy {one.accuracy:.4f} (95 %: {least:.4f} to " in one.line()


def test_few_rows_are_predicted_without_a_warning() -> None:
    """Two groups of a class each: whoever is left out was never seen."""
    features = np.eye(4, dtype=np.float32)
    labels, groups = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (neighbour_predictions(features, labels, groups) == 1 - labels).all()
        assert (linear_predictions(features, labels, groups) == 1 - labels).all()
