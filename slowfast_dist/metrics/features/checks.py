"""How well features tell classes apart before any training: by neighbours and by a linear layer.

Each row is predicted from rows of other groups alone, as videos of one recording resemble each
other.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.features.neighbours import Numbers, count_labels, nearest_rows
from slowfast_dist.metrics.scores import classification_metrics
from slowfast_dist.metrics.uncertainty import bootstrap_intervals, group_intervals

NEIGHBOURS = 5
"""Nearest rows that vote: scikit-learn's default."""

FOLDS = 5
"""Parts of the groups, of each of which a linear layer predicts what it learned on the others."""

Features = NDArray[np.float32]


@dataclass(frozen=True)
class FeatureCheck:
    """``name``: neighbours or linear; ``title``: for people; ``predictions`` (N,) of the classes;
    ``intervals``: of 95 %, over groups where any has
    several rows, else over rows."""

    name: str
    title: str
    predictions: Numbers
    accuracy: float
    f1_macro: float
    intervals: dict[str, tuple[float, float]]

    def as_json(self) -> dict[str, Any]:
        return {"accuracy": self.accuracy, "f1_macro": self.f1_macro, "intervals": self.intervals}

    def line(self) -> str:
        """As "nearest neighbours: accuracy 0.8500 (95 %: 0.7700 to 0.9300), macro-F1 ..."."""
        parts = []
        for name, title in (("accuracy", "accuracy"), ("f1_macro", "macro-F1")):
            text = f"{title} {getattr(self, name):.4f}"
            if name in self.intervals:
                low, high = self.intervals[name]
                text += f" (95 %: {low:.4f} to {high:.4f})"
            parts.append(text)
        return f"{self.title}: {', '.join(parts)}"


def check_features(
    features: Features, labels: Sequence[str], groups: Sequence[str]
) -> list[FeatureCheck]:
    """Both checks of features (N, F) with their ``labels`` and ``groups`` (N,), of at least two
    classes and two groups each."""
    classes, numbers = np.unique(labels, return_inverse=True)
    _, codes = np.unique(groups, return_inverse=True)
    grouped = bool((np.bincount(codes) > 1).any())

    def scored(name: str, title: str, predictions: Numbers) -> FeatureCheck:
        found = classification_metrics(numbers, predictions, len(classes))
        intervals = (
            group_intervals(numbers, predictions, codes, len(classes)) if grouped
            else bootstrap_intervals(numbers, predictions, len(classes))
        )  # fmt: skip
        return FeatureCheck(
            name, title, predictions, found["accuracy"], found["f1_macro"], intervals
        )

    near = neighbour_predictions(features, numbers, codes)
    linear = linear_predictions(features, numbers, codes)
    return [
        scored("neighbours", f"{NEIGHBOURS} nearest neighbours", near),
        scored("linear", "a linear layer", linear),
    ]


def neighbour_predictions(
    features: Features, labels: Numbers, groups: Numbers, neighbours: int = NEIGHBOURS
) -> Numbers:
    """The class (N,) that most of a row's nearest ``neighbours`` have, by the angle, among rows of
    other groups; of equally many the first.

    As scikit-learn's KNeighborsClassifier(neighbours, metric="cosine") by LeaveOneGroupOut.
    """
    nearest = nearest_rows(features, groups, neighbours)
    found: Numbers = count_labels(nearest, labels, int(labels.max()) + 1).argmax(axis=1)
    return found


def linear_predictions(features: Features, labels: Numbers, groups: Numbers) -> Numbers:
    """The class (N,) of each row by logistic regression, with scikit-learn's defaults on features
    of mean 0 and deviation 1, that was fitted to the other folds; no group is in two folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = np.zeros(len(labels), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes in few groups, and of fits that could go on
        for train, test in StratifiedGroupKFold(
            _folds(labels, groups), shuffle=True, random_state=0
        ).split(features, labels, groups):
            if len(np.unique(labels[train])) == 1:  # there is nothing to be told apart
                found[test] = labels[train[0]]
                continue
            layer = make_pipeline(StandardScaler(), LogisticRegression())
            found[test] = layer.fit(features[train], labels[train]).predict(features[test])
    return found


def _folds(labels: Numbers, groups: Numbers) -> int:
    """As many as scikit-learn takes: no more than there are groups, or rows of the largest class.
    """
    return min(FOLDS, len(np.unique(groups)), int(np.bincount(labels).max()))
