"""Edit score and segmental F1 equal MS-TCN's, written out here in plain loops."""

from functools import cache
from itertools import groupby

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from slowfast_dist.metrics.segmentation import (
    OVERLAPS,
    class_counts,
    class_f1,
    confusion_of,
    edit_score,
    f1_of,
    frame_labels,
    overlap_counts,
    runs_of,
)

BACKGROUND = 0


def random_labels(rng: np.random.Generator, runs: int) -> np.ndarray:
    return np.repeat(rng.integers(0, 5, runs), rng.integers(1, 12, runs))


def plain_runs(labels: list[int]) -> list[tuple[int, int, int]]:
    runs, place = [], 0
    for label, group in groupby(labels):
        end = place + len(list(group))
        if label != BACKGROUND:
            runs.append((label, place, end))
        place = end
    return runs


def plain_edit(first: list[int], second: list[int]) -> float:
    @cache
    def distance(n: int, m: int) -> int:
        if not n or not m:
            return n + m
        changed = distance(n - 1, m - 1) + (first[n - 1] != second[m - 1])
        return min(changed, distance(n - 1, m) + 1, distance(n, m - 1) + 1)

    longer = max(len(first), len(second))
    return 1 - distance(len(first), len(second)) / longer if longer else 1.0


def plain_counts(
    truth: list[tuple[int, int, int]], found: list[tuple[int, int, int]], overlap: float
) -> tuple[int, int, int]:
    hit, right, wrong = [False] * len(truth), 0, 0
    for label, first, end in found:
        shares = []
        for other, start, stop in truth:
            share = (min(end, stop) - max(first, start)) / (max(end, stop) - min(first, start))
            shares.append(share if other == label else 0.0)
        best = int(np.argmax(shares)) if shares else -1
        if shares and shares[best] >= overlap and not hit[best]:
            hit[best] = True
            right += 1
        else:
            wrong += 1
    return right, wrong, len(truth) - sum(hit)


@pytest.mark.parametrize("seed", range(20))
def test_scores_of_runs_are_those_of_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = random_labels(rng, 25), random_labels(rng, int(rng.integers(1, 40)))
    runs, found_runs = runs_of(truth, [BACKGROUND]), runs_of(found, [BACKGROUND])
    plain, plain_found = plain_runs(truth.tolist()), plain_runs(found.tolist())
    assert list(map(tuple, runs.tolist())) == plain
    expected = plain_edit([one[0] for one in plain], [one[0] for one in plain_found])
    assert edit_score(runs[:, 0], found_runs[:, 0]) == pytest.approx(expected, abs=1e-12)
    counts = overlap_counts(runs, found_runs)
    for place, overlap in enumerate(OVERLAPS):
        assert tuple(counts[place].tolist()) == plain_counts(plain, plain_found, overlap)
    right, wrong, missed = counts[0].tolist()
    if right:
        precision, recall = right / (right + wrong), right / (right + missed)
        assert f1_of(counts)[0] == pytest.approx(2 * precision * recall / (precision + recall))


def test_nothing_found_and_nothing_there() -> None:
    none, one = runs_of(np.zeros(5, int), [BACKGROUND]), runs_of(np.ones(5, int), [BACKGROUND])
    assert edit_score(none[:, 0], none[:, 0]) == 1.0
    assert edit_score(one[:, 0], none[:, 0]) == edit_score(none[:, 0], one[:, 0]) == 0.0
    assert overlap_counts(none, one).tolist() == [[0, 1, 0]] * 3
    assert overlap_counts(one, none).tolist() == [[0, 0, 1]] * 3
    assert f1_of(overlap_counts(none, none)).tolist() == [0.0] * 3


def test_frames_count_as_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, found = random_labels(rng, 40)[:150], random_labels(rng, 40)[:150]
    confusion = confusion_of(truth, found, 5)
    assert confusion.tolist() == confusion_matrix(truth, found, labels=range(5)).tolist()
    f1 = class_f1(class_counts(confusion))
    np.testing.assert_allclose(f1, f1_score(truth, found, labels=range(5), average=None))
    shown = rng.uniform(0.01, 0.1, 150)
    seconds = confusion_of(truth, found, 5, shown)
    np.testing.assert_allclose(
        seconds, confusion_matrix(truth, found, labels=range(5), sample_weight=shown)
    )
    assert np.isnan(class_f1(class_counts(confusion_of(truth % 2, found % 2, 3)))[2])


def test_where_segments_overlap_the_later_one_has_the_frames() -> None:
    spans = np.array([[0, 6], [4, 8], [9, 10], [4, 5]])
    labels = frame_labels(12, spans, np.array([1, 2, 3, 4]), 0)
    assert labels.tolist() == [1, 1, 1, 1, 4, 2, 2, 2, 0, 3, 0, 0]


def test_where_a_segment_overlaps_the_background_it_has_the_frames() -> None:
    spans = np.array([[2, 9], [0, 6], [5, 7]])
    labels = frame_labels(10, spans, np.array([3, 1, 3]), 4, background=3)
    assert labels.tolist() == [1, 1, 1, 1, 1, 1, 3, 3, 3, 4]
