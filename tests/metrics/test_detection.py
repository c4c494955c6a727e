"""Average precision in time equals ActivityNet's own, written out here in plain loops."""

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from slowfast_dist.metrics.detection import (
    IOUS,
    Events,
    boundary_errors,
    match,
    score_detections,
    temporal_iou,
)

CLASSES, FILES = 4, 6


def random_events(rng: np.random.Generator, count: int, ties: bool) -> Events:
    starts = rng.uniform(0, 100, count).round(0 if ties else 6)
    lengths = rng.uniform(1, 30, count).round(0 if ties else 6)
    return Events(
        rng.integers(0, FILES, count), rng.integers(0, CLASSES, count),
        np.stack([starts, starts + lengths], axis=1),
        rng.uniform(0, 1, count).round(1 if ties else 9),
    )  # fmt: skip


def plain_iou(one: np.ndarray, other: np.ndarray) -> float:
    shared = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    return shared / ((one[1] - one[0]) + (other[1] - other[0]) - shared)


def plain_average_precision(truth: Events, found: Events, label: int, iou: float) -> float:
    """One class at one temporal IoU."""
    wanted = [n for n in range(len(truth)) if truth.labels[n] == label]
    order = [n for n in range(len(found)) if found.labels[n] == label]
    order = sorted(order, key=lambda n: (found.scores[n], n), reverse=True)
    taken, hits = set(), []
    for n in order:
        same_file = [m for m in wanted if truth.files[m] == found.files[n]]
        shares = {m: plain_iou(found.bounds[n], truth.bounds[m]) for m in same_file}
        for m in sorted(same_file, key=lambda m: (shares[m], m), reverse=True):
            if shares[m] < iou:
                continue
            if m not in taken:
                taken.add(m)
                hits.append(True)
                break
        else:
            hits.append(False)
    precision = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
    recall = [sum(hits[: n + 1]) / len(wanted) for n in range(len(hits))]
    area, before = 0.0, 0.0
    for n in range(len(hits)):  # the highest precision at this recall or a greater one
        area += (recall[n] - before) * max(precision[n:])
        before = recall[n]
    return area


def plain_means(truth: Events, found: Events) -> np.ndarray:
    labels = sorted(set(truth.labels.tolist()))
    return np.array([
        np.mean([plain_average_precision(truth, found, label, iou) for label in labels])
        for iou in IOUS
    ])  # fmt: skip


def scores(truth: Events, found: Events, draws: np.ndarray | None = None):
    draws = np.zeros((0, FILES)) if draws is None else draws
    return score_detections(truth, found, match(truth, found), CLASSES, draws)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [False, True])
def test_mean_average_precision_is_that_of_plain_loops(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    truth, found = random_events(rng, 40, ties), random_events(rng, 90, ties)
    found.bounds[:30] = truth.bounds[:30] + rng.normal(0, 1, (30, 2)).round(0 if ties else 6)
    found.bounds[:, 1] = np.maximum(found.bounds[:, 1], found.bounds[:, 0] + 0.5)
    found.labels[:30], found.files[:30] = truth.labels[:30], truth.files[:30]
    means = scores(truth, found).means
    np.testing.assert_allclose(means, plain_means(truth, found), atol=1e-12)
    assert 0 < means[IOUS == 0.5] < 1


def test_a_draw_of_the_bootstrap_scores_as_the_files_drawn_would() -> None:
    rng = np.random.default_rng(3)
    truth, found = random_events(rng, 40, False), random_events(rng, 90, False)
    draws = rng.multinomial(FILES, np.full(FILES, 1 / FILES), 5).astype(np.float64)

    def drawn(events: Events, times: np.ndarray) -> Events:
        rows, files = [], []
        new = 0
        for file, count in enumerate(times.astype(int).tolist()):
            for _ in range(count):
                rows.append(np.flatnonzero(events.files == file))
                files.append(np.full(len(rows[-1]), new))
                new += 1
        picked = events.select(np.concatenate(rows))
        return Events(np.concatenate(files), picked.labels, picked.bounds, picked.scores)

    expected = [plain_means(drawn(truth, one), drawn(found, one)) for one in draws]
    np.testing.assert_allclose(scores(truth, found, draws).draws, expected, atol=1e-12)


def test_a_class_without_true_events_is_in_no_mean() -> None:
    truth = Events(np.array([0]), np.array([1]), np.array([[0.0, 10.0]]), np.zeros(1))
    found = Events(
        np.array([0, 0, 1]), np.array([1, 2, 1]),
        np.array([[0.0, 8.0], [0.0, 8.0], [0.0, 10.0]]), np.array([0.5, 0.9, 0.9]),
    )  # fmt: skip
    result = scores(truth, found)
    assert np.isnan(result.by_class[[0, 2, 3]]).all()
    # At .8 and below the second one found is right: precision 1 of 2.
    assert result.means.tolist() == [0.5 if iou <= 0.8 else 0.0 for iou in IOUS.tolist()]
    none = found.select(np.zeros(3, bool))
    assert scores(truth, none).means.tolist() == [0.0] * len(IOUS)
    assert scores(none, found).means.tolist() == [0.0] * len(IOUS)


def test_errors_of_onset_and_offset_are_of_matched_events() -> None:
    truth = Events(np.zeros(2, int), np.zeros(2, int), np.array([[0.0, 10], [20, 30]]), np.zeros(2))
    found = Events(np.zeros(1, int), np.zeros(1, int), np.array([[21.0, 28]]), np.ones(1))
    errors = boundary_errors(truth, found, match(truth, found)[0])
    assert errors.tolist() == [[1.0, -2.0]]


def published() -> ModuleType:
    """MMAction2's evaluation, of which this file needs nothing but numpy."""
    found = find_spec("mmaction")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs mmaction2 0.24, of which one file is read: pip install --no-deps")
    path = Path(found.submodule_search_locations[0], "core", "evaluation", "accuracy.py")
    if not path.is_file():
        pytest.skip("this mmaction2 has its evaluation elsewhere: 0.24 is compared with")
    spec = spec_from_file_location("mmaction_accuracy", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_mmaction2(seed: int) -> None:
    accuracy = published()
    rng = np.random.default_rng(seed)
    truth, found = random_events(rng, 60, False), random_events(rng, 150, False)
    found.bounds[:50], found.labels[:50] = truth.bounds[:50] + 0.5, truth.labels[:50]
    found.files[:50] = truth.files[:50]
    by_class = scores(truth, found).by_class
    for label in range(CLASSES):
        rows = found.labels == label
        predictions = np.array([
            [str(file), label, *bounds, score]
            for file, bounds, score in zip(
                found.files[rows], found.bounds[rows], found.scores[rows], strict=True
            )
        ], dtype=object)  # fmt: skip
        real = {
            str(file): truth.bounds[(truth.files == file) & (truth.labels == label)]
            for file in set(truth.files[truth.labels == label].tolist())
        }
        theirs = accuracy.average_precision_at_temporal_iou(real, predictions, IOUS)
        np.testing.assert_allclose(by_class[label], theirs, atol=1e-6)


def test_temporal_iou_is_symmetric_and_0_where_nothing_is_shared() -> None:
    pieces = np.array([[0.0, 10.0], [5.0, 15.0], [10.0, 20.0]])
    shares = temporal_iou(pieces, pieces)
    np.testing.assert_allclose(shares, [[1, 1 / 3, 0], [1 / 3, 1, 1 / 3], [0, 1 / 3, 1]])
