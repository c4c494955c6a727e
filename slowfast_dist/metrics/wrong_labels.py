"""Which labels are probably wrong, by what models that never saw them in training say: confident
learning.

C. Northcutt, L. Jiang and I. Chuang, "Confident Learning: Estimating Uncertainty in Dataset
Labels", JAIR 70, 2021: a sample is counted where it confidently belongs, and its label is doubted
where that is another class. A class is confident from its own mean on, so that one of which a model
is always unsure is not taken for noise.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.features.neighbours import count_labels
from slowfast_dist.metrics.summary import Predictions


class WrongLabels(NamedTuple):
    """Of the samples whose label is probably wrong, the surest first: their ``rows``, the class
    that each probably is, and by how much that is more probable than the label, -1 to 1; below 0
    where the label is more probable but less than is usual for its class."""

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    margins: NDArray[np.float64]


def class_thresholds(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(K,): the mean probability of each class over its own samples, from which on a sample belongs
    to it confidently; more than 1 for a class without samples."""
    samples, classes = probabilities.shape
    own = probabilities[np.arange(samples), labels]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=own, minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_classes(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> NDArray[np.int64]:
    """(N,): the most probable of the classes that each sample belongs to confidently, of equal ones
    the first; -1 where it belongs to none."""
    reaches = probabilities >= class_thresholds(labels, probabilities)
    best = np.where(reaches, probabilities, -1.0).argmax(axis=1)
    return np.where(reaches.any(axis=1), best, -1)


def confident_joint(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> NDArray[np.int64]:
    """(K, K): samples by their label (row) and by the class that they confidently belong to."""
    classes = probabilities.shape[1]
    found = confident_classes(labels, probabilities)
    cells = labels[found >= 0] * classes + found[found >= 0]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def wrong_labels(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> WrongLabels:
    """Those off the diagonal of the confident joint. ``labels`` (N,), ``probabilities`` (N, K) by
    models that were not trained on these samples, as of a cross-validation."""
    found = confident_classes(labels, probabilities)
    rows = np.flatnonzero((found >= 0) & (found != labels))
    margins = probabilities[rows, found[rows]] - probabilities[rows, labels[rows]]
    order = np.argsort(-margins, kind="stable")
    return WrongLabels(rows[order], found[rows[order]], margins[order])


@dataclass(frozen=True)
class Doubt:
    """A sample, by its name, whose label is probably wrong: its label and the class that it
    probably is, with the probabilities of both.

    ``nearest``: of how many samples, the nearest in the model's features, the labels are known;
    ``nearest_probable`` and ``nearest_label``: how many of them have the probable class, and the
    same label."""

    path: str
    label: str
    probable: str
    label_probability: float
    probability: float
    nearest: int = 0
    nearest_probable: int = 0
    nearest_label: int = 0

    @property
    def nearest_words(self) -> str:
        """For people: as "8 of its 10 nearest clips are labelled waving, 1 clapping"; "" where none
        are known."""
        if not self.nearest:
            return ""
        verb = "is" if self.nearest == 1 else "are"
        which = "its nearest clip" if self.nearest == 1 else f"its {self.nearest} nearest clips"
        told = f"{self.nearest_probable or 'none'} of {which} {verb} labelled {self.probable}"
        return f"{told}, {self.nearest_label or 'none'} {self.label}"


def doubts_of(found: Predictions) -> list[Doubt]:
    """As `wrong_labels` has them, of predictions by models that never saw these samples; none of
    several labels a sample, of which confident learning says nothing."""
    if found.decided is not None:
        return []
    labels, sure = found.labels, found.probabilities
    nearest = np.full((len(labels), 0), -1) if found.nearest is None else found.nearest
    wrong = wrong_labels(labels, sure)
    near = count_labels(nearest[wrong.rows], labels, len(found.classes))
    rows, places = wrong.rows.tolist(), wrong.classes.tolist()
    return [
        Doubt(
            found.names[row], found.classes[int(labels[row])], found.classes[place],
            float(sure[row, labels[row]]), float(sure[row, place]),
            *(int(one) for one in (counts.sum(), counts[place], counts[labels[row]])),
        )
        for row, place, counts in zip(rows, places, near, strict=True)
    ]  # fmt: skip
