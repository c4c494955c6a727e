"""What to label next, against gradients that torch computes and a plain k-means++ over them."""

import numpy as np
import pytest
import torch

from slowfast_dist.metrics.selection import badge
from slowfast_dist.metrics.selection.badge import Rows, choose, gradient_factors


def made(rows: int = 60, classes: int = 4, width: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits of a random last layer."""
    rng = np.random.default_rng(0)
    features = np.abs(rng.normal(size=(rows, width))).astype(np.float32)
    weight = rng.normal(size=(classes, width))
    return features, features @ weight.T


def of_one_label(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and the most probable class of each."""
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    return chances, np.eye(logits.shape[1], dtype=bool)[chances.argmax(axis=1)]


def gradients(features: np.ndarray, logits: np.ndarray, several: bool) -> np.ndarray:
    """(N, K * F): of the loss in the last layer's weights, what is predicted taken as true."""
    found = []
    for row, given in zip(features, logits, strict=True):
        own = torch.tensor(given)
        layer = torch.linalg.lstsq(torch.tensor(row[None], dtype=torch.float64), own[None])
        weight = layer.solution.T.clone().requires_grad_()  # any that gives these logits
        out = weight @ torch.tensor(row, dtype=torch.float64)
        if several:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                out, (own > 0).double(), reduction="sum"
            )
        else:
            loss = torch.nn.functional.cross_entropy(out[None], own.argmax()[None])
        found.append(torch.autograd.grad(loss, weight)[0].numpy().ravel())
    return np.stack(found)


def plain(vectors: np.ndarray, count: int, seed: int) -> list[int]:
    """k-means++ from the longest vector on, all distances from the vectors themselves."""
    rng = np.random.default_rng(seed)
    chosen = [int((vectors**2).sum(axis=1).argmax())]
    while len(chosen) < count:
        far = ((vectors[:, None] - vectors[chosen]) ** 2).sum(axis=2).min(axis=1)
        chosen.append(int((np.cumsum(far) > rng.random() * far.sum()).argmax()))
    return chosen


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several"])
def test_the_choice_is_that_of_plain_gradients(
    several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks, as in one; another seed chooses others."""
    features, logits = made()
    chances, decided = (
        (1 / (1 + np.exp(-logits)), logits > 0) if several else of_one_label(logits)
    )
    factors = gradient_factors(chances, decided).astype(np.float32)
    vectors = gradients(features, logits, several)
    made_here = (factors[:, :, None] * features[:, None, :]).reshape(len(features), -1)
    np.testing.assert_allclose(made_here, vectors, atol=1e-5)
    monkeypatch.setattr(badge, "ROWS_AT_ONCE", 7)
    blocks = Rows(features.shape[1]), Rows(factors.shape[1])
    for row, factor in zip(features, factors, strict=True):
        blocks[0].add(row)
        blocks[1].add(factor)
    assert len(blocks[0]) == 60 and len(blocks[0].blocks()) == 9
    drawn = set()
    for seed in range(5):
        expected = plain(vectors, 12, seed)
        assert choose([features], [factors], 12, seed) == expected
        assert choose(blocks[0].blocks(), blocks[1].blocks(), 12, seed) == expected
        drawn.add(tuple(expected))
    assert len(drawn) == 5


def test_what_a_model_is_sure_of_and_copies_come_last() -> None:
    """Of 20 sure ones and 3 unsure ones, of which two are copies, the different ones are chosen."""
    features = np.ones((23, 5), np.float32)
    features[21:] = [[1, 0, 0, 3, 0], [1, 0, 0, 3, 0]]
    logits = np.zeros((23, 3))
    logits[:20, 0] = 30
    factors = gradient_factors(*of_one_label(logits)).astype(np.float32)
    for seed in range(10):
        first, second = choose([features], [factors], 2, seed)
        # The sure ones are one point, to which the third is further than the second.
        assert first == 21 and second != 22
    assert sorted(choose([features], [factors], 40, 0)) == list(range(23))
    assert Rows(3).blocks() == []


def test_what_clashes_is_not_chosen_beside_another() -> None:
    features, logits = made()
    factors = gradient_factors(*of_one_label(logits)).astype(np.float32)
    found = choose(
        [features], [factors], 60, 0,
        lambda row: np.arange(max(0, row - 1), min(60, row + 2)),
    )  # fmt: skip
    assert min(abs(a - b) for a in found for b in found if a != b) == 2 and len(found) >= 20
