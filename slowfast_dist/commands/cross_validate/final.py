"""The model that is trained on all folds: calibrated by them, and scored on the rows of split test.

Its temperature, and the confidence below which it says unknown, are of the predictions that the
folds' models gave of videos that they never saw: the rows of split test choose nothing.
"""

from typing import Any

import numpy as np

from slowfast_dist.commands.cross_validate.plan import Training
from slowfast_dist.metrics.calibration import Calibration, tempered
from slowfast_dist.metrics.scores import predicted
from slowfast_dist.metrics.summary import LEAST_PROBABILITY, Predictions, summarise
from slowfast_dist.metrics.uncertainty import (
    expected_calibration_error,
    group_intervals,
    reliability,
)
from slowfast_dist.metrics.unknown import choose_min_confidence, unknown_facts
from slowfast_dist.report.card import write_card
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.models.saving import change_description
from slowfast_dist.runs.run import read_split_rows


def logits_of(predictions: Predictions) -> Any:
    """(N, K) of the probabilities in a file, up to a number that all classes share."""
    return np.log(np.maximum(predictions.probabilities, LEAST_PROBABILITY))


def finish_final(
    training: Training, found: Predictions, out_of_fold: Predictions,
    calibration: Calibration | None, recall: float | None,
) -> dict[str, Any]:  # fmt: skip
    """Put what all out-of-fold predictions say into its best_model.json, and return the scores of
    the rows of split test, ``found``. ``recall``: --evaluation.unknown-recall. Written again it is
    the same. Raises UserError or RunError where its files are damaged, or the disk refuses."""
    models = RunFolder(training.folder).models
    temperature = 1.0 if calibration is None else calibration.temperature
    changes: dict[str, Any] = {"temperature": temperature}
    if calibration is not None:
        changes["calibration"] = calibration.facts("out-of-fold")
    if recall is not None:
        labels, logits = out_of_fold.labels, logits_of(out_of_fold) / temperature
        least = choose_min_confidence(labels, logits, recall)
        changes |= {"min_confidence": least, "unknown": unknown_facts(labels, logits, least)}
    change_description(models, changes)
    write_card(models)
    return _scores(training, found, temperature)


def _scores(training: Training, found: Predictions, temperature: float) -> dict[str, Any]:
    labels, classes = found.labels, found.classes
    rows = read_split_rows(training.folder / "split.csv")
    group = {row.sample: row.group for row in rows if row.side == "val"}
    _, codes = np.unique([group.get(name) or name for name in found.names], return_inverse=True)
    told = summarise(found)
    grouped = int(codes.max()) + 1 < len(codes)
    intervals = told.intervals
    if grouped:
        guesses = predicted(found.scores)
        intervals = group_intervals(labels, guesses, codes, len(classes))
    calm = tempered(found.probabilities, temperature)
    with_it = Predictions.from_probabilities(found.names, labels, calm, classes)
    return {
        "videos": len(labels), "groups": int(codes.max()) + 1 if grouped else None,
        "metrics": told.metrics, "intervals": intervals,
        "intervals_over": "groups" if grouped else "videos", "ece": told.ece,
        "ece_calibrated": expected_calibration_error(reliability(labels, calm)),
        "loss_calibrated": float(with_it.losses.mean()), "temperature": temperature,
    }  # fmt: skip
