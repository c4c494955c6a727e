"""One temperature: against plain references, what it leaves alone, and when none is fitted."""

import numpy as np
import pytest
import torch

from slowfast_dist.metrics.calibration import (
    LEAST_TEMPERATURE,
    LEAST_VIDEOS,
    MOST_TEMPERATURE,
    MOST_VIDEOS,
    calibrate,
    fit_temperature,
    parts_of,
    tempered,
)
from slowfast_dist.metrics.scores import cross_entropy, softmax
from slowfast_dist.metrics.uncertainty import expected_calibration_error, reliability


def videos(count: int, scale: float, seed: int = 0, classes: int = 5) -> tuple:
    """Labels drawn by the logits' own probabilities, and the logits ``scale`` times as large: they
    are right with a temperature of ``scale``."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(count, classes))
    chances = softmax(logits)
    labels = np.array([rng.choice(classes, p=row) for row in chances])
    return scale * logits, labels


def by_torch(logits: np.ndarray, labels: np.ndarray) -> float:
    """The usual way: LBFGS on the logarithm of the temperature."""
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_t], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-12
    )
    given, truth = torch.tensor(logits), torch.tensor(labels)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(given / log_t.exp(), truth)
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(log_t.detach().exp())


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0, 6.0])
def test_the_temperature_is_that_of_the_least_log_loss(scale: float) -> None:
    logits, labels = videos(400, scale)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(by_torch(logits, labels), rel=1e-4)
    assert found == pytest.approx(scale, rel=0.2)
    grid = np.geomspace(LEAST_TEMPERATURE, MOST_TEMPERATURE, 2000)
    losses = [cross_entropy(logits / one, labels) for one in grid]
    assert cross_entropy(logits / found, labels) <= min(losses) + 1e-12


def test_it_stays_within_its_bounds() -> None:
    logits, labels = videos(100, 1.0)
    assert fit_temperature(logits, logits.argmax(axis=1)) == LEAST_TEMPERATURE
    assert fit_temperature(logits, logits.argmin(axis=1)) == pytest.approx(MOST_TEMPERATURE)
    assert fit_temperature(1000 * logits, labels) == pytest.approx(MOST_TEMPERATURE)


def test_the_error_with_it_is_that_of_videos_on_which_it_is_not_fitted() -> None:
    logits, labels = videos(200, 4.0)
    parts = np.arange(200) % 4
    found = calibrate(logits, labels, parts)
    assert found is not None and found.parts == 4
    scaled = logits.copy()
    for part in range(4):
        out = parts == part
        scaled[out] = logits[out] / by_torch(logits[~out], labels[~out])
    assert found.loss_calibrated == pytest.approx(cross_entropy(scaled, labels), rel=1e-6)
    bins = reliability(labels, softmax(scaled))
    assert found.ece_calibrated == pytest.approx(expected_calibration_error(bins), abs=1e-3)
    assert found.loss == pytest.approx(cross_entropy(logits, labels))
    assert found.ece_calibrated < found.ece / 2
    assert found.temperature == pytest.approx(by_torch(logits, labels), rel=1e-4)
    assert found.why == ""
    # Fitted and scored on the same videos it would look better still.
    flattering = cross_entropy(logits / found.temperature, labels)
    assert flattering < found.loss_calibrated < found.loss


@pytest.mark.parametrize(
    ("count", "right", "parts", "why"),
    [
        (LEAST_VIDEOS - 1, False, 5, "too few"),
        (60, True, 5, "none is wrong"),
        (60, False, 1, "of one group"),
    ],
)
def test_none_is_fitted_where_it_would_be_a_guess(
    count: int, right: bool, parts: int, why: str
) -> None:
    logits, labels = videos(count, 4.0)
    found = calibrate(logits, logits.argmax(axis=1) if right else labels, np.arange(count) % parts)
    assert found is not None and why in found.why
    assert found.temperature == 1
    assert (found.loss, found.ece) == (found.loss_calibrated, found.ece_calibrated)


def test_none_is_kept_that_does_not_help_on_other_videos() -> None:
    """The parts contradict each other."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(60, 4))
    parts = np.repeat([0, 1], 30)
    labels = np.where(parts == 0, logits.argmax(axis=1), logits.argmin(axis=1))
    found = calibrate(logits, labels, parts)
    assert found is not None and found.temperature == 1
    assert "not lower the loss" in found.why


def test_what_is_no_number_is_left_out_and_many_videos_are_drawn_from() -> None:
    logits, labels = videos(MOST_VIDEOS + 500, 2.0)
    logits[::7] = np.nan
    found = calibrate(logits, labels, np.arange(len(labels)) % 5)
    assert found is not None and found.videos == np.isfinite(logits[:, 0]).sum()
    logits, labels = videos(MOST_VIDEOS + 500, 2.0)
    more = calibrate(logits, labels, np.arange(len(labels)) % 5)
    assert more is not None and more.videos == MOST_VIDEOS
    assert calibrate(np.full((1, 5), np.nan), labels[:1], np.zeros(1)) is None


def test_groups_stay_whole() -> None:
    groups = np.array(["a", "b", "c", "a", "d", "e", "f", "b"])
    parts = parts_of(groups)
    for group in set(groups):
        assert len(set(parts[groups == group])) == 1
    assert len(set(parts)) == 5
    assert np.array_equal(parts, parts_of(groups))


def test_probabilities_with_a_temperature_are_those_of_the_divided_logits() -> None:
    logits, _ = videos(50, 3.0)
    assert tempered(softmax(logits), 2.5) == pytest.approx(softmax(logits / 2.5))
    one = np.array([0.0, 1.0, 0.0])
    assert tempered(one, 3.0) == pytest.approx(one)
    assert tempered(one, 1.0) is one
    assert np.isnan(tempered(np.full((2, 3), np.nan), 2.0)).all()
    mean = softmax(logits)[:2].mean(axis=0)
    assert tempered(mean, 4.0).argmax() == mean.argmax()
