"""The summary of predictions, against a plain computation of the same."""

import numpy as np
import pytest

from slowfast_dist.config import fields
from slowfast_dist.metrics.scores import METRICS, confusion, logit_metrics, per_class
from slowfast_dist.metrics.summary import Predictions, hardest_videos, summarise

NAMES = [f"{row}.mp4" for row in range(5)]
PROBABILITIES = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.999, 0.001]])
LABELS = np.array([0, 1, 1, 0, 1])


def test_logits_and_their_probabilities_say_the_same() -> None:
    rng = np.random.default_rng(0)
    labels, logits, classes = rng.integers(0, 7, 60), rng.normal(size=(60, 7)) * 3, list("abcdefg")
    names = [f"{row}.mp4" for row in range(60)]
    predictions = Predictions.from_logits(names, labels, logits, classes)
    summary = summarise(predictions, hardest=4)
    again = Predictions.from_probabilities(names, labels, predictions.probabilities, classes)
    read_back = summarise(again, hardest=4)
    assert (read_back.cells, read_back.bins) == (summary.cells, summary.bins)
    assert [one.path for one in read_back.hardest] == [one.path for one in summary.hardest]
    guesses = logits.argmax(1)
    assert summary.metrics == logit_metrics(labels, logits)
    assert summary.per_class == per_class(labels, guesses, classes)
    assert (summary.confusion == confusion(labels, guesses, 7)).all()
    assert summary.accuracy == pytest.approx(summary.metrics["accuracy"])
    assert summary.confidence == pytest.approx(predictions.probabilities.max(axis=1).mean())
    assert summary.videos == 60


def test_the_hardest_videos_are_those_of_the_highest_loss() -> None:
    predictions = Predictions.from_logits(NAMES, LABELS, np.log(PROBABILITIES), ["x", "y"])
    summary = summarise(predictions, hardest=2)
    assert (summary.videos, summary.mistakes, summary.accuracy) == (5, 3, 0.4)
    assert [one.path for one in summary.hardest] == ["4.mp4", "1.mp4"]
    second = summary.hardest[1]
    assert (second.label, second.prediction) == ("y", "x")
    assert (second.confidence, second.probability) == pytest.approx((0.9, 0.1))
    assert second.loss == pytest.approx(-np.log(0.1))
    assert summary.metrics["loss"] == pytest.approx(-np.log(PROBABILITIES[range(5), LABELS]).mean())
    every = hardest_videos(predictions, 9)
    assert [one.path for one in every] == ["4.mp4", "1.mp4", "3.mp4", "0.mp4", "2.mp4"]
    assert hardest_videos(predictions, 0) == []
    assert len(hardest_videos(predictions, 9, mistakes_only=True)) == 3


def test_no_video_has_a_summary_of_zeros() -> None:
    none = Predictions.from_logits([], np.zeros(0, np.int64), np.zeros((0, 3)), ["a", "b", "c"])
    summary = summarise(none, hardest=3)
    assert (summary.videos, summary.hardest, summary.cells) == (0, [], [])
    assert (summary.intervals, summary.ece, summary.confidence) == ({}, 0, 0)
    assert set(summary.metrics.values()) == {0.0}


def test_every_metric_may_be_monitored() -> None:
    """--checkpoint.monitor knows the names without numpy: a new metric needs its name there."""
    assert set(fields.METRICS) == {"loss", *METRICS, *fields.OF_SEVERAL_LABELS}
