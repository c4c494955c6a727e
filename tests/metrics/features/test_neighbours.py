"""The nearest rows, against a plain search over all pairs."""

import numpy as np
import pytest

from slowfast_dist.metrics.features import neighbours
from slowfast_dist.metrics.features.neighbours import count_labels, nearest_rows, neighbour_count


def plain_nearest(features: np.ndarray, groups: np.ndarray, count: int) -> list[list[int]]:
    """Sorted by the angle, row by row."""
    found = []
    for row, one in enumerate(features):
        others = [other for other in range(len(features)) if groups[other] != groups[row]]
        cosine = {
            other: one @ features[other] / np.linalg.norm(one) / np.linalg.norm(features[other])
            for other in others
        }
        nearest = sorted(others, key=lambda other: -cosine[other])[:count]
        found.append(nearest + [-1] * (count - len(nearest)))
    return found


@pytest.mark.parametrize("groups", [40, 7, 2, 1], ids="{} groups".format)
def test_they_are_those_of_a_plain_search(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two groups some rows have fewer than are asked for, of one group all have none."""
    monkeypatch.setattr(neighbours, "ROWS_AT_ONCE", 7)
    features = np.random.default_rng(groups).normal(size=(40, 9))
    codes = np.arange(40) if groups == 40 else np.arange(40) % groups
    codes[2:] = 0 if groups == 2 else codes[2:]
    found = nearest_rows(features, codes, 5)
    assert found.tolist() == plain_nearest(features, codes, 5)
    assert (found >= 0).all() == (groups > 2) and (found >= 0).any() == (groups > 1)


def test_more_may_be_asked_for_than_there_are() -> None:
    found = nearest_rows(np.eye(3, dtype=np.float16) + 1, np.arange(3), 10)
    assert (found >= 0).sum(axis=1).tolist() == [2, 2, 2]
    assert nearest_rows(np.zeros((0, 4), np.float16), np.zeros(0, np.int64), 3).shape == (0, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0])
def test_a_row_without_an_angle_has_none_and_is_none(value: float) -> None:
    features = np.random.default_rng(0).normal(size=(6, 4))
    features[2] = value
    found = nearest_rows(features, np.arange(6), 5)
    assert (found[2] == -1).all() and 2 not in found
    assert (np.delete(found, 2, axis=0) >= 0).sum(axis=1).tolist() == [4] * 5


def test_labels_of_the_nearest_are_counted() -> None:
    nearest = np.array([[1, 2, 3], [3, -1, -1], [-1, -1, -1]])
    labels = np.array([0, 2, 2, 1])
    assert count_labels(nearest, labels, 3).tolist() == [[0, 1, 2], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("each", "expected"), [(1, 3), (6, 3), (8, 4), (12, 6), (20, 10), (500, 10)]
)
def test_an_average_class_can_fill_them_all(each: int, expected: int) -> None:
    labels = np.arange(6).repeat(each)
    assert neighbour_count(labels) == expected
