"""One temperature for a trained model, by which its logits are divided, so that its probabilities
are about the shares that are right (Guo et al., On Calibration of Modern Neural Networks, ICML
2017). It changes no prediction: the order of the classes stays.

A video's views are averaged first, and the temperature then acts on the mean's logarithms, so that
it does not depend on the number of views which class is the most probable.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.scores import cross_entropy, predicted, softmax
from slowfast_dist.metrics.summary import LEAST_PROBABILITY
from slowfast_dist.metrics.uncertainty import expected_calibration_error, reliability

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.1, 10.0
"""Bounds of a temperature: those of trained classifiers are from about 0.5 to 5 (Guo et al., table
of their supplement), and a tenth or ten times is as good as certain or as guessing."""

LEAST_VIDEOS = 20
"""Videos below which no temperature is fitted: of fewer its own error is larger than what it could
mend."""

PARTS = 5
"""Parts of a validation, whole groups: each is scored with the temperature of the others."""

MOST_VIDEOS = 5000
"""Videos on which it is fitted at most, drawn from more of them: its error then is below a
hundredth, and 5,000 of 400 classes take 3 s."""


@dataclass(frozen=True)
class Calibration:
    """What a temperature does to N videos on which it was fitted.

    "loss" (cross-entropy) and "ece" are those of the logits as they are, "loss_calibrated" and
    "ece_calibrated" those of each of ``parts`` with the temperature of the others: scored on the
    videos that it is fitted on, a temperature would look better than it is. ``temperature``: of all
    of them; 1 where none is worth it, ``why`` then says so, and "" else.
    """

    temperature: float
    videos: int
    parts: int
    loss: float
    ece: float
    loss_calibrated: float
    ece_calibrated: float
    why: str = ""

    def facts(self, of: str) -> dict[str, Any]:
        """In JSON's types; ``of``: which videos they are, in words."""
        return {"of": of, **asdict(self)}


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """The temperature of the least cross-entropy of ``logits`` (N, K) / temperature against
    ``labels`` (N,), from LEAST_TEMPERATURE to MOST_TEMPERATURE. The loss is convex in its inverse,
    so that there is but one."""
    from scipy.optimize import minimize_scalar

    bounds = 1 / MOST_TEMPERATURE, 1 / LEAST_TEMPERATURE
    found = minimize_scalar(
        lambda inverse: cross_entropy(logits * inverse, labels), bounds=bounds, method="bounded",
        options={"xatol": 1e-6, "maxiter": 100},
    )  # fmt: skip
    # The search never tries the bounds themselves.
    tried = (float(found.x), *bounds)
    best = min(tried, key=lambda inverse: cross_entropy(logits * inverse, labels))
    return 1 / best


def calibrate(
    logits: NDArray[np.float64], labels: NDArray[Any], parts: NDArray[Any]
) -> Calibration | None:
    """Fit a temperature on videos that the model was not trained on. ``parts`` (N,): any numbers
    that tell the parts apart, of which each is scored with the temperature of the others. None
    without any video whose logits are finite."""
    good = np.flatnonzero(np.isfinite(logits).all(axis=1))
    if len(good) > MOST_VIDEOS:
        good = np.sort(np.random.default_rng(4).permutation(good)[:MOST_VIDEOS])
    logits, labels, parts = logits[good], labels[good], parts[good]
    if not len(labels):
        return None
    codes = np.unique(parts)
    scaled = logits.copy()
    for code in codes if len(codes) > 1 else ():
        inside = parts == code
        scaled[inside] /= fit_temperature(logits[~inside], labels[~inside])
    losses = cross_entropy(logits, labels), cross_entropy(scaled, labels)
    errors = _calibration_error(logits, labels), _calibration_error(scaled, labels)
    why = _why_not(logits, labels, len(codes), losses)
    temperature = 1.0 if why else fit_temperature(logits, labels)
    if why:
        losses, errors = (losses[0],) * 2, (errors[0],) * 2
    return Calibration(
        temperature, len(labels), len(codes), losses[0], errors[0], losses[1], errors[1], why
    )


def _why_not(
    logits: NDArray[np.float64], labels: NDArray[Any], parts: int, losses: Sequence[float]
) -> str:
    if len(labels) < LEAST_VIDEOS:
        return f"{len(labels)} videos are too few, of at least {LEAST_VIDEOS}"
    if parts < 2:
        return "all videos are of one group"
    if (predicted(logits) == labels).all():
        return "none is wrong, so that nothing tells how sure to be"
    if losses[1] >= losses[0]:
        return "it would not lower the loss of videos on which it is not fitted"
    return ""


def _calibration_error(logits: NDArray[np.float64], labels: NDArray[Any]) -> float:
    return expected_calibration_error(reliability(labels, softmax(logits)))


def parts_of(groups: NDArray[Any]) -> NDArray[np.int64]:
    """(N,): PARTS parts at most of N videos, each group (N,) in one, by chance; the same each
    time."""
    _, codes = np.unique(groups, return_inverse=True)
    count = int(codes.max(initial=-1)) + 1
    order = np.random.default_rng(3).permutation(count)
    return (order % PARTS)[codes]


def tempered(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Probabilities (..., K), perhaps means over views, with that temperature; NaN stay."""
    if temperature == 1:
        return probabilities
    logs = np.log(np.maximum(probabilities, LEAST_PROBABILITY)) / temperature
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    found: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return found


def calibration_line(facts: dict[str, Any]) -> str:
    """``facts`` as of `Calibration.facts`, for people."""
    of = f"{facts['videos']} {facts['of']} videos"
    if facts["why"]:
        return f"no temperature is fitted on the {of}: {facts['why']}"
    return (
        f"temperature {facts['temperature']:.3g}, fitted on the {of}: calibration error "
        f"{facts['ece']:.4f}, with it {facts['ece_calibrated']:.4f} (each of {facts['parts']} "
        "parts with that of the others)"
    )
