"""A linear probe: how far features tell classes apart by a linear layer alone, and that layer."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Values of scikit-learn's C, the inverse of the regularisation, that are tried: of features with
variance 1, hundreds a clip, more lets the logits of training clips grow without an end."""

FOLDS = 3
"""Parts of the clips that are predicted by a probe of the others, to choose C."""

MOST_ITERATIONS = 300
"""Of the solver: a probe that has not quite converged is a start as good as any."""


@dataclass(frozen=True)
class Probe:
    """``weight`` float64 (C, D) and ``bias`` (C,) of the ``labels`` int64 (C,), the classes that
    have clips. ``accuracy``: of clips predicted by a probe of others; None where a class has too
    few for that."""

    labels: NDArray[np.int64]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    strength: float
    accuracy: float | None


def fit_probe(
    features: NDArray[np.float64], labels: NDArray[np.int64],
    groups: NDArray[np.int64] | None = None, weights: NDArray[np.float64] | None = None,
    balanced: bool = False, seed: int = 0,
) -> Probe:  # fmt: skip
    """A logistic regression on features (N, D) of labels (N,), its strength chosen by the loss of
    clips that were held out.

    ``groups`` (N,): of which none is on both sides; ``weights`` (N,) of the clips; ``balanced``:
    all classes weigh alike. Needs two classes.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    parts = _parts(labels, groups, seed)
    strength, accuracy = STRENGTHS[1], None
    if parts:
        losses = []
        for tried in STRENGTHS:
            loss = right = 0.0
            for train, held in parts:
                model = _fitted(features[train], labels[train], weights[train], tried, balanced)
                chances = model.predict_proba(features[held])
                places = np.searchsorted(model.classes_, labels[held])
                chance = chances[np.arange(len(held)), places]
                loss -= float((np.log(np.maximum(chance, 1e-12)) * weights[held]).sum())
                right += int((model.predict(features[held]) == labels[held]).sum())
            losses.append((loss, tried, right / len(labels)))
        _, strength, accuracy = min(losses)
    model = _fitted(features, labels, weights, strength, balanced)
    scaler, regression = model[0], model[1]
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:  # of two classes: the logit of the second over that of the first
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scaler.scale_
    bias = bias - weight @ scaler.mean_
    return Probe(regression.classes_.astype(np.int64), weight, bias, strength, accuracy)


def _fitted(
    features: NDArray[np.float64], labels: NDArray[np.int64], weights: NDArray[np.float64],
    strength: float, balanced: bool,
) -> Any:  # fmt: skip
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(
        C=strength, max_iter=MOST_ITERATIONS, class_weight="balanced" if balanced else None
    )
    model = make_pipeline(StandardScaler(), regression)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, labels, logisticregression__sample_weight=weights)


def _parts(
    labels: NDArray[np.int64], groups: NDArray[np.int64] | None, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows to train on and rows held out; none where a class would be missing from a training."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    counts = np.unique(labels, return_counts=True)[1]
    if counts.min() < 2 or counts.max() < FOLDS or len(labels) < 2 * FOLDS:
        return []
    if groups is not None and len(np.unique(groups)) < FOLDS:
        return []
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer clips than folds
        folds = kind(FOLDS, shuffle=True, random_state=seed)
        parts = list(folds.split(np.zeros((len(labels), 1)), labels, groups))
    every = len(np.unique(labels))
    complete = all(len(np.unique(labels[train])) == every and len(held) for train, held in parts)
    return parts if complete else []
