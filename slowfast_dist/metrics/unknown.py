"""Saying `unknown` where a model is not sure: the word, and from which confidence on it is not."""

from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.scores import predicted, softmax

UNKNOWN = "unknown"
"""What is said in place of a class."""

STEP = 1e-4
"""Steps of a chosen threshold, so that it can be typed as it is printed."""


def unknown_facts(
    labels: NDArray[np.int64], logits: NDArray[np.float64], min_confidence: float
) -> dict[str, Any]:
    """What a threshold does to labelled videos, ``labels`` (N,) and ``logits`` (N, K): "recall":
    the share of those that the model gets wrong that become `unknown`, "lost": that of those that
    it gets right; None where there are none; "wrong" and "right": how many there are."""
    doubtful = softmax(logits).max(axis=1) < min_confidence
    right = predicted(logits) == labels

    def share(those: NDArray[np.bool_]) -> float | None:
        return float(doubtful[those].mean()) if those.any() else None

    return {
        "min_confidence": min_confidence, "recall": share(~right), "lost": share(right),
        "wrong": int((~right).sum()), "right": int(right.sum()),
    }  # fmt: skip


def choose_min_confidence(
    labels: NDArray[np.int64], logits: NDArray[np.float64], recall: float
) -> float:
    """The least confidence, in steps of STEP and at most 1, below which at least the share
    ``recall`` of the videos lies that the model gets wrong; 0 where it gets none wrong."""
    wrong = np.sort(softmax(logits).max(axis=1)[predicted(logits) != labels])
    if not len(wrong):
        return 0.0
    last = float(wrong[max(1, ceil(recall * len(wrong) - 1e-9)) - 1])
    return min(1.0, round((floor(last / STEP + 1e-9) + 1) * STEP, 4))


def unknown_line(facts: dict[str, Any]) -> str:
    """For people."""
    parts = [
        f"{facts[share]:.0%} of the {facts[which]} that are {which}"
        for share, which in (("recall", "wrong"), ("lost", "right"))
        if facts[which]
    ]
    return f"below --min-confidence {facts['min_confidence']:g} are {' and '.join(parts)}"


def label_of(label: str, confidence: float, min_confidence: float) -> str:
    """The class, or `unknown` where it is less sure than that."""
    return label if confidence >= min_confidence else UNKNOWN
