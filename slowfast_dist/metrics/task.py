"""What a model's outputs mean: one label a clip, or several. The only place that decides it.

A task turns logits into probabilities, views into one, and both with labels into losses and scores.
Shape letters: N samples, V views, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics import scores, several

LossName = Literal["ce", "bce"]


@dataclass(frozen=True)
class OneLabel:
    """Each sample is of one class: softmax, cross-entropy. Labels int64 (N,)."""

    several = False
    loss: LossName = "ce"
    thresholds: tuple[float, ...] | None = None

    def probabilities(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        return scores.softmax(logits)

    def average_views(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        return scores.average_views(logits)

    def decisions(self, logits: NDArray[Any]) -> NDArray[Any]:
        """The class of each sample, int64 (N,)."""
        return scores.predicted(logits)

    def losses(self, logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
        return scores.losses(logits, labels)

    def metrics(self, logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
        """Of a validation, as in metrics.jsonl, with "loss" before them."""
        return scores.logit_metrics(labels, logits)

    def per_class(
        self, logits: NDArray[Any], labels: NDArray[Any], classes: Sequence[str]
    ) -> list[dict[str, Any]]:
        return scores.per_class(labels, self.decisions(logits), classes)

    def fitted(self, logits: NDArray[Any], labels: NDArray[Any]) -> "OneLabel":
        """With what is chosen on a validation: here nothing is."""
        return self

    def guess(self, classes: int) -> float:
        """The loss of a model that knows nothing."""
        return log(max(1, classes))


@dataclass(frozen=True)
class SeveralLabels:
    """Each sample is of any number of classes: a sigmoid each, binary cross-entropy averaged over
    them. Labels bool (N, K). ``thresholds``: of each class the probability from which on it is said
    to be there; None before a validation chose them."""

    several = True
    loss: LossName = "bce"
    thresholds: tuple[float, ...] | None = None

    def probabilities(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        return several.sigmoid(logits)

    def average_views(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        return several.average_views(logits)

    def decisions(self, logits: NDArray[Any]) -> NDArray[Any]:
        """Whether each class is said to be there, bool (N, K)."""
        return self.decide(self.probabilities(logits))

    def decide(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        assert self.thresholds is not None
        return several.decide(probabilities, self.thresholds)

    def losses(self, logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
        return several.losses(logits, labels)

    def metrics(self, logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
        loss = float(self.losses(logits, labels).sum()) / max(len(labels), 1)
        return {"loss": loss, **self.scores(logits, labels)}

    def scores(self, logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
        """Without the loss, and without what needs thresholds where there are none."""
        probabilities = self.probabilities(logits)
        decisions = None if self.thresholds is None else self.decide(probabilities)
        return several.metrics(labels, probabilities, decisions)

    def per_class(
        self, logits: NDArray[Any], labels: NDArray[Any], classes: Sequence[str]
    ) -> list[dict[str, Any]]:
        probabilities = self.probabilities(logits)
        decisions = self.decide(probabilities)
        return several.per_class(labels, decisions, classes, probabilities, self.thresholds)

    def fitted(self, logits: NDArray[Any], labels: NDArray[Any]) -> "SeveralLabels":
        """With the thresholds of the highest F1 on a validation."""
        found = several.choose_thresholds(labels, self.probabilities(logits))
        return replace(self, thresholds=found)

    def guess(self, classes: int) -> float:
        return log(2)


Task = OneLabel | SeveralLabels

ONE_LABEL = OneLabel()


def task_of(loss: str, thresholds: Sequence[float] | None = None) -> Task:
    """That of --loss.name, ce or bce."""
    if loss == "ce":
        return OneLabel()
    return SeveralLabels(thresholds=None if thresholds is None else tuple(thresholds))
