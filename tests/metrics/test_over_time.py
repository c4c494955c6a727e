"""Scores over time: of all files together, of their classes, and how far they come by chance."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from slowfast_dist.metrics.detection import Events
from slowfast_dist.metrics.over_time import (
    ERRORS,
    SCORES,
    FileScores,
    score_file,
    summarise_over_time,
)
from slowfast_dist.metrics.segmentation import runs_of

NAMES = ("a", "b", "c")
FPS = 10


def made_file(rng: np.random.Generator, none: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of a file's frames, true and found."""
    truth = np.repeat(rng.integers(0, none + 1, 12), rng.integers(5, 20, 12))
    found = np.roll(truth, int(rng.integers(0, 4)))
    found[found == 3] = rng.integers(0, 3)  # a model without a background says always something
    return truth, found


def events_of(files: list[np.ndarray], background: int | None) -> Events:
    rows = [
        (file, label, first / FPS, end / FPS)
        for file, labels in enumerate(files)
        for label, first, end in runs_of(labels, [3, background or 3]).tolist()
    ]
    table = np.array(rows)
    scores = np.random.default_rng(1).uniform(0, 1, len(rows))
    return Events(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2:], scores)


@pytest.mark.parametrize("background", [None, 2])
def test_scores_are_of_all_files_together(background: int | None) -> None:
    rng = np.random.default_rng(0)
    made = [made_file(rng, 3 if background is None else 2) for _ in range(5)]
    truths, founds = [one[0] for one in made], [one[1] for one in made]
    files: list[FileScores] = [
        score_file(truth, found, np.full(len(truth), 1 / FPS), 3, background)
        for truth, found in made
    ]
    truth, found = events_of(truths, background), events_of(founds, background)
    recordings = np.array([0, 0, 1, 2, 3])
    summary = summarise_over_time(files, recordings, truth, found, NAMES, resamples=200)
    all_true, all_found = np.concatenate(truths), np.concatenate(founds)
    labelled = all_true < 3
    assert labelled.all() == (background is not None)
    accuracy = accuracy_score(all_true[labelled], all_found[labelled])
    macro = f1_score(all_true[labelled], all_found[labelled], average="macro")
    assert summary.values["frame_accuracy"] == pytest.approx(accuracy, abs=1e-12)
    assert summary.values["frame_f1_macro"] == pytest.approx(macro, abs=1e-12)
    assert summary.seconds.sum() == pytest.approx(len(all_true) / FPS)
    assert summary.values["edit_score"] == pytest.approx(np.mean([one.edit for one in files]))
    assert summary.values["map_50_95"] == pytest.approx(
        np.nanmean([row["ap_50_95"] for row in summary.per_class if row["true_events"]])
    )
    assert set(summary.intervals) == set(SCORES)
    for name, (low, high) in summary.intervals.items():
        assert 0 <= low < high <= 1, name
        assert low - 0.05 <= summary.values[name] <= high + 0.05, name
    assert [row["true_events"] for row in summary.per_class] == [
        int((truth.labels == label).sum()) for label in range(3)
    ]


def test_recordings_are_drawn_whole() -> None:
    """Two files of one recording, one all right, one all wrong: drawn together they are half right
    in each draw."""
    right = score_file(np.zeros(10, int), np.zeros(10, int), np.ones(10), 3, None)
    wrong = score_file(np.zeros(10, int), np.ones(10, int), np.ones(10), 3, None)
    none = Events(np.empty(0, int), np.empty(0, int), np.empty((0, 2)), np.empty(0))
    files = [right, wrong, right, wrong]
    by_file = summarise_over_time(files, np.arange(4), none, none, NAMES, 100)
    together = summarise_over_time(files, np.array([0, 0, 1, 1]), none, none, NAMES, 100)
    alone = summarise_over_time(files, np.zeros(4, int), none, none, NAMES, 100)
    assert together.intervals["frame_accuracy"] == (0.5, 0.5)
    low, high = by_file.intervals["frame_accuracy"]
    assert low < 0.5 < high
    assert alone.intervals == {} and alone.values["frame_accuracy"] == 0.5
    assert [by_file.values[name] for name in ERRORS] == [None] * len(ERRORS)
