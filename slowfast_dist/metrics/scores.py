"""Metrics of a classification over N samples and K classes, in float64, from logits or counts.

Everything here is a pure function of arrays that were gathered from all processes before.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOP_K = 5
"""top5_accuracy is reported where there are more classes than this."""


def classification_metrics(
    labels: NDArray[Any],
    predictions: NDArray[Any],
    num_classes: int,
    top5_hits: int | None = None,
) -> dict[str, float]:
    """The metrics of a row of metrics.jsonl, without their train/ or val/ prefix, and without loss.

    ``labels`` and ``predictions`` are class indices (N,). Keys: accuracy, and precision, recall and
    f1, each _macro (mean over all K classes, also those without a sample) and _weighted (by the
    number of samples). A class that is never predicted has precision 0, one without samples
    recall 0. ``top5_hits``, the samples whose class is among the five highest logits, adds
    top5_accuracy where K > 5. All are 0 where N is 0.
    """
    precision, recall, f1, support = _scores(labels, predictions, num_classes)
    total = len(labels)
    metrics = {"accuracy": float(np.sum(labels == predictions)) / max(total, 1)}
    if top5_hits is not None and num_classes > TOP_K:
        metrics["top5_accuracy"] = top5_hits / max(total, 1)
    for name, scores in (("precision", precision), ("recall", recall), ("f1", f1)):
        metrics[f"{name}_macro"] = float(scores.mean())
        metrics[f"{name}_weighted"] = float(scores @ support) / max(total, 1)
    return metrics


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


def per_class(
    labels: NDArray[Any], predictions: NDArray[Any], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """For each class its name, precision, recall, f1 and support (its number of samples)."""
    precision, recall, f1, support = _scores(labels, predictions, len(classes))
    return [
        {
            "class": name,
            "precision": float(precision[index]),
            "recall": float(recall[index]),
            "f1": float(f1[index]),
            "support": int(support[index]),
        }
        for index, name in enumerate(classes)
    ]


def confusion(
    labels: NDArray[Any], predictions: NDArray[Any], num_classes: int
) -> NDArray[np.int64]:
    """Counts (K, K): row = true class, column = predicted class."""
    if len(labels) == 0:  # scikit-learn refuses no samples
        return np.zeros((num_classes, num_classes), np.int64)
    from sklearn.metrics import confusion_matrix  # a second of imports: predict does without

    return confusion_matrix(labels, predictions, labels=np.arange(num_classes))


def _scores(
    labels: NDArray[Any], predictions: NDArray[Any], num_classes: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Precision, recall, F1 and support of each class, (K,) each."""
    if len(labels) == 0:
        zeros = np.zeros(num_classes)
        return zeros, zeros, zeros, zeros.astype(np.int64)
    from sklearn.metrics import precision_recall_fscore_support

    return precision_recall_fscore_support(
        labels, predictions, labels=np.arange(num_classes), zero_division=0
    )
