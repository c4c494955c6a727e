"""Metrics of a classification over N samples and K classes, in float64, from logits or counts.

Everything here is a pure function of arrays that were gathered from all processes before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOP_K = 5
"""top5_accuracy is reported where there are more classes than this; with fewer it is always 1."""


ABSURD_LOSS = 103.3
"""Cross-entropy, in nats, from which a model has diverged: the right class of a video then has, in
the geometric mean, a probability below exp(-103.3) = 1.4e-45, the least that float32 has. Guessing
among 400 classes gives 6.0; what a bad model gives stays far below."""

PER_CLASS = ("class", "precision", "recall", "f1", "support")
"""What is said of each class, in this order."""


ALL_CLASSES = "_all_classes"
"""What the name of a macro average ends in where it is over every class of the model."""

MACRO_CLASSES = "macro_classes"
"""Name below train/ and val/ of the number of classes that the macro averages are over: those that
occur in labels or predictions."""


@dataclass(frozen=True)
class ClassScores:
    """What metrics are made of: N samples, of which ``right`` are predicted right and whose class
    is ``top5_hits`` times among the five highest logits (None: not counted), and for each of the K
    classes precision, recall, F1 and support (its number of samples), (K,) each."""

    samples: int
    right: int
    top5_hits: int | None
    precision: NDArray[Any]
    recall: NDArray[Any]
    f1: NDArray[Any]
    support: NDArray[Any]
    occurs: NDArray[np.bool_]
    """Whether a class is the label or the prediction of any sample, (K,)."""

    def share(self, count: int) -> float:
        """``count`` as a share of the samples; 0 without any."""
        return count / max(self.samples, 1)

    def macro(self, scores: NDArray[Any]) -> float:
        """The mean of ``scores`` (K,) over the classes that occur, as scikit-learn's macro average
        is where it is given no list of classes; 0 where none does."""
        return float(scores[self.occurs].mean()) if self.occurs.any() else 0.0

    def weighted(self, scores: NDArray[Any]) -> float:
        """The mean of the classes' ``scores`` (K,), each weighted by its number of samples."""
        return float(scores @ self.support) / max(int(self.support.sum()), 1)


METRICS: dict[str, Callable[[ClassScores], float | None]] = {
    "accuracy": lambda of: of.share(of.right),
    "top5_accuracy": lambda of: (
        None if of.top5_hits is None or len(of.support) <= TOP_K else of.share(of.top5_hits)
    ),
    "precision_macro": lambda of: of.macro(of.precision),
    f"precision_macro{ALL_CLASSES}": lambda of: float(of.precision.mean()),
    "precision_weighted": lambda of: of.weighted(of.precision),
    "recall_macro": lambda of: of.macro(of.recall),
    f"recall_macro{ALL_CLASSES}": lambda of: float(of.recall.mean()),
    "recall_weighted": lambda of: of.weighted(of.recall),
    "f1_macro": lambda of: of.macro(of.f1),
    f"f1_macro{ALL_CLASSES}": lambda of: float(of.f1.mean()),
    "f1_weighted": lambda of: of.weighted(of.f1),
}
"""The metrics of an epoch beside its loss, by their names below train/ and val/ in metrics.jsonl;
one that gives None is left out. A new metric is a line here, and a name in config.fields.METRICS,
which lists (without numpy) what --checkpoint.monitor may name."""


def classification_metrics(
    labels: NDArray[Any],
    predictions: NDArray[Any],
    num_classes: int,
    top5_hits: int | None = None,
) -> dict[str, float]:
    """METRICS of ``labels`` and ``predictions``, class indices (N,), and MACRO_CLASSES.

    _macro is the mean over the classes that occur in ``labels`` or ``predictions``,
    _macro_all_classes that over all K; _weighted counts a class by its number of samples. A class
    that is never predicted has precision 0, one without samples recall 0, and each of them F1 0.
    ``top5_hits``, the samples whose class is among the five highest logits, adds
    top5_accuracy where K > 5. All are 0 where N is 0.
    """
    scores = _class_scores(labels, predictions, num_classes, top5_hits)
    found = {name: metric(scores) for name, metric in METRICS.items()}
    known = {name: value for name, value in found.items() if value is not None}
    return known | {MACRO_CLASSES: int(scores.occurs.sum())}


def over_classes(values: Mapping[str, Any], num_classes: int, prefix: str = "") -> str:
    """As "over 2 of 6 classes", where the macro averages in ``values`` are over some of the classes
    alone; else "". ``prefix``: as train/ in a row of metrics.jsonl."""
    found = values.get(prefix + MACRO_CLASSES, num_classes)
    return f"over {found} of {num_classes} classes" if found != num_classes else ""


def logit_metrics(labels: NDArray[Any], logits: NDArray[Any]) -> dict[str, float]:
    """``classification_metrics`` of labels (N,) and logits (N, K), with "loss" before them."""
    hits = top_k_hits(labels, logits, TOP_K)
    metrics = classification_metrics(labels, predicted(logits), logits.shape[1], hits)
    return {"loss": cross_entropy(logits, labels), **metrics}


def predicted(logits: NDArray[Any]) -> NDArray[np.int64]:
    """The class of the highest logit (N,); of equal ones the first, as torch.argmax does."""
    return np.argmax(logits, axis=1)


def top_k_hits(labels: NDArray[Any], logits: NDArray[Any], k: int) -> int:
    """How many of the samples have their class among the k highest logits (N, K).

    Of equal logits the lower class comes first, so that k = 1 counts what ``predicted`` gets right.
    NaN counts as higher than all others, and for k below K is no hit itself.
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    later = np.arange(logits.shape[1]) > labels[:, None]
    behind = (logits < own) | ((logits == own) & later)
    return int(np.sum(behind.sum(axis=1) >= logits.shape[1] - k))


def top_k_accuracies(
    labels: NDArray[Any], logits: NDArray[Any], ks: Iterable[int]
) -> dict[str, float]:
    """``top{k}_accuracy`` of labels (N,) and logits (N, K) for each k below K, in rising order.

    From k = K on every sample counts as right, which says nothing. All are 0 where N is 0.
    """
    return {
        f"top{k}_accuracy": top_k_hits(labels, logits, k) / max(len(labels), 1)
        for k in sorted(set(ks))
        if k < logits.shape[1]
    }


def average_views(logits: NDArray[Any]) -> NDArray[np.float64]:
    """The views of N samples, logits (N, V, K), as one: logits (N, K) whose probabilities are the
    mean of the views' probabilities. With one view they are that view's logits themselves.

    Probabilities, not logits, are averaged, as in the field's tests (PySlowFast's head applies the
    softmax before its test meter adds the views up): each view has one vote, where in a mean of
    logits a view of large ones outvotes all others. Finite wherever the logits are: the sums are
    taken relative to the largest term.
    """
    count, views, classes = logits.shape
    if views == 1:
        return logits[:, 0].astype(np.float64)
    each = log_softmax(logits.reshape(count * views, classes)).reshape(logits.shape)
    largest = each.max(axis=1, keepdims=True)
    return np.log(np.exp(each - largest).mean(axis=1)) + largest[:, 0]


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Logarithms of the class probabilities, (N, K)."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Class probabilities, (N, K)."""
    return np.exp(log_softmax(logits))


def cross_entropy(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """Mean of -log p(label) over the samples: no smoothing, no class weights; 0 where N is 0."""
    return float(losses(logits, labels).sum()) / max(len(labels), 1)


def losses(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """-log p(label) of each sample, (N,)."""
    return -np.take_along_axis(log_softmax(logits), labels[:, None], axis=1)[:, 0]


def is_sound_loss(loss: float) -> bool:
    """Whether a cross-entropy is a finite number and below `ABSURD_LOSS`."""
    return isfinite(loss) and loss < ABSURD_LOSS


def per_class(
    labels: NDArray[Any], predictions: NDArray[Any], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """For each class the values of PER_CLASS: "class" is its name, "support" its samples."""
    scores = _class_scores(labels, predictions, len(classes))
    columns = (scores.precision, scores.recall, scores.f1, scores.support)
    rows = zip(classes, *(column.tolist() for column in columns), strict=True)
    return [dict(zip(PER_CLASS, row, strict=True)) for row in rows]


def confusion(
    labels: NDArray[Any], predictions: NDArray[Any], num_classes: int
) -> NDArray[np.int64]:
    """Counts (K, K): row = true class, column = predicted class."""
    if len(labels) == 0:  # scikit-learn refuses no samples
        return np.zeros((num_classes, num_classes), np.int64)
    from sklearn.metrics import confusion_matrix  # a second of imports: predict does without

    return confusion_matrix(labels, predictions, labels=np.arange(num_classes))


def _class_scores(
    labels: NDArray[Any],
    predictions: NDArray[Any],
    num_classes: int,
    top5_hits: int | None = None,
) -> ClassScores:
    right = int(np.sum(labels == predictions))
    if len(labels) == 0:
        zeros = np.zeros(num_classes)
        counts = zeros.astype(np.int64)
        return ClassScores(0, 0, top5_hits, zeros, zeros, zeros, counts, zeros.astype(np.bool_))
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predictions, labels=np.arange(num_classes), zero_division=0
    )
    occurs = np.isin(np.arange(num_classes), np.concatenate([labels, predictions]))
    return ClassScores(len(labels), right, top5_hits, precision, recall, f1, support, occurs)
