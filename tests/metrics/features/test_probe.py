"""The linear probe against scikit-learn's own pipeline, and what it says of itself."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from slowfast_dist.metrics.features.probe import STRENGTHS, fit_probe


def clusters(
    classes: int, each: int, apart: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, 30), their classes (N,)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, 30)) * apart
    labels = np.repeat(np.arange(classes), each)
    return centres[labels] + rng.normal(size=(len(labels), 30)) * 3 + 5, labels


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("balanced", [False, True])
def test_it_is_the_pipeline_as_one_linear_layer(classes: int, balanced: bool) -> None:
    features, labels = clusters(classes, 12, 1.0)
    features, labels = features[5:], labels[5:]
    weights = np.linspace(0.5, 2, len(labels))
    found = fit_probe(features, labels, weights=weights, balanced=balanced)
    assert found.strength in STRENGTHS
    model = make_pipeline(
        StandardScaler(),
        LogisticRegression(
            C=found.strength, max_iter=300, class_weight="balanced" if balanced else None
        ),
    )
    model.fit(features, labels, logisticregression__sample_weight=weights)
    logits = features @ found.weight.T + found.bias
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chances, model.predict_proba(features), rtol=1e-6, atol=1e-9)


def test_a_class_without_clips_has_no_row() -> None:
    features, labels = clusters(3, 6, 2.0)
    labels = np.array([0, 2, 5])[labels]
    assert fit_probe(features, labels).labels.tolist() == [0, 2, 5]


def test_accuracy_is_of_clips_that_were_held_out_with_their_group() -> None:
    """Clips of a group are alike, and groups tell nothing of the class."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 6)
    labels = np.repeat(rng.permutation(np.repeat([0, 1], 20)), 6)
    features = rng.normal(size=(40, 30))[groups] + rng.normal(size=(240, 30)) * 0.05
    apart = fit_probe(features, labels, groups).accuracy
    mixed = fit_probe(features, labels).accuracy
    assert apart is not None and mixed is not None
    assert apart < 0.7 < 0.9 < mixed
    clear, classes = clusters(3, 20, 3.0)
    accuracy = fit_probe(clear, classes).accuracy
    assert accuracy is not None and accuracy > 0.95


def test_of_too_few_clips_it_says_nothing() -> None:
    features, labels = clusters(3, 1, 2.0)
    assert fit_probe(features, labels).accuracy is None
    features, labels = clusters(2, 8, 2.0)
    assert fit_probe(features, labels, groups=labels).accuracy is None


def test_where_no_class_has_a_clip_for_each_part_none_is_held_out() -> None:
    labels = np.repeat(np.arange(6), 2)
    features = np.random.default_rng(0).normal(size=(12, 4)) + 5 * labels[:, None]
    assert fit_probe(features, labels).accuracy is None
    assert fit_probe(features, labels, groups=np.arange(12)).accuracy is None
