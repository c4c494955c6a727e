"""What the scores of labelled videos say of a model, beyond a row of metrics.jsonl.

Pure functions of arrays that were gathered from all processes before.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics import (
    confusion,
    losses,
    per_class,
    predicted,
    softmax,
    top_k_accuracies,
)
from slowfast_dist.uncertainty import bootstrap_intervals, expected_calibration_error, reliability


def judge(
    labels: NDArray[Any],
    logits: NDArray[Any],
    names: Sequence[str],
    classes: Sequence[str],
    ks: Iterable[int],
    hardest: int,
    resamples: int,
) -> dict[str, Any]:
    """Top-k, calibration, intervals, per class, hardest mistakes, by their names in metrics.json.

    ``labels`` int (N,), ``logits`` (N, K), ``names`` of the N videos, ``classes`` the K names.
    ``ks``: see `metrics.top_k_accuracies`; ``hardest``: mistakes listed at most; ``resamples``: see
    `uncertainty.bootstrap_intervals`.
    """
    predictions = predicted(logits)
    bins = reliability(labels, softmax(logits))
    return {
        **top_k_accuracies(labels, logits, ks),
        "ece": expected_calibration_error(bins),
        "intervals": bootstrap_intervals(labels, predictions, len(classes), resamples),
        "per_class": per_class(labels, predictions, classes),
        "confusion": confusion(labels, predictions, len(classes)).tolist(),
        "calibration": [asdict(one) for one in bins],
        "hardest": hardest_mistakes(labels, logits, names, classes, hardest),
    }


def hardest_mistakes(
    labels: NDArray[Any],
    logits: NDArray[Any],
    names: Sequence[str],
    classes: Sequence[str],
    most: int,
) -> list[dict[str, Any]]:
    """The wrong predictions of the highest loss, worst first, ``most`` at most.

    Each with path, label and prediction (names), the prediction's probability ("confidence"), the
    label's ("probability") and the loss, which is -log of the label's. Arguments as of `judge`.
    """
    predictions, probabilities, loss = predicted(logits), softmax(logits), losses(logits, labels)
    worst = np.argsort(-loss, kind="stable")
    return [
        {
            "path": names[video],
            "label": classes[labels[video]],
            "prediction": classes[predictions[video]],
            "confidence": float(probabilities[video, predictions[video]]),
            "probability": float(probabilities[video, labels[video]]),
            "loss": float(loss[video]),
        }
        for video in worst[predictions[worst] != labels[worst]][:most]
    ]
