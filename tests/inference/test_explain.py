"""Where a network looks: maps by gradients, against shuffled weights."""

import copy

import numpy as np
import pytest
import torch

from slowfast_dist.inference.explain import (
    CELLS,
    Explainer,
    attributions,
    enlarged,
    normalise_on,
    shuffled,
)
from slowfast_dist.model.inputs import pathways
from slowfast_dist.model.slowfast import SlowFast

pytestmark = pytest.mark.usefixtures("on_cpu")


def network(classes: int = 3) -> SlowFast:
    torch.manual_seed(0)
    return SlowFast("slowfast_tiny", classes, 0.0).eval()


def clip(seed: int = 0, frames: int = 8, size: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (frames, size, size, 3), dtype=np.uint8)


def as_frames(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2)[None]


def test_gradients_are_those_of_the_differences_of_logits() -> None:
    """At the input of both pathways, compared with central differences in float64."""
    net = network().double()
    frames = as_frames(clip())
    x = [part.double() for part in pathways(frames, net.description)]
    leaves = [part.clone().requires_grad_() for part in x]
    found = torch.autograd.grad(net.of_pathways(leaves)[0, 1], leaves)
    for pathway in (0, 1):
        place = (0, 1, 1, 9, 17)
        sides = []
        for sign in (1, -1):
            moved = [part.clone() for part in x]
            moved[pathway][place] += sign * 1e-5
            with torch.no_grad():
                sides.append(net.of_pathways(moved)[0, 1])
        difference = float(sides[0] - sides[1]) / 2e-5
        assert float(found[pathway][place]) == pytest.approx(difference, rel=1e-3, abs=1e-9)


def test_a_class_that_looks_at_one_pathway_alone_is_told_so() -> None:
    net = network().requires_grad_(False)
    slow_features = 512  # of 640
    net.head.proj.weight[0, slow_features:] = 0  # class 0 hears of the slow pathway and laterals
    net.head.proj.weight[1, :slow_features] = 0  # class 1 of the fast one alone
    frames = as_frames(clip())
    slow, fast = attributions(net, frames, 1)
    assert slow.shape == (2, 32, 32) and fast.shape == (8, 32, 32)
    assert float(slow.abs().max()) == 0 and float(fast.max()) > 0
    slow, fast = attributions(net, frames, 0)
    assert float(slow.max()) > 0 and float(fast.max()) > 0


def test_the_same_clip_gives_the_same_map_whatever_came_before() -> None:
    explainer = Explainer(network())
    first = explainer.explain(clip(), 1)
    explainer.explain(clip(1), 2)
    again = explainer.explain(clip(), 1)
    for name in ("joined", "slow", "fast"):
        values = getattr(first, name)
        assert values.shape == (8, CELLS, CELLS) and values.dtype == np.float32
        assert values.min() >= 0 and np.array_equal(values, getattr(again, name))
    assert first.when.shape == (8,) and first.when.sum() == pytest.approx(1)
    assert enlarged(first.joined, 32).shape == (8, 32, 32)


def test_other_weights_give_another_map() -> None:
    """The randomisation test of Adebayo et al. (2018): the weights decide, not the clip."""
    net = network()
    other = shuffled(net, 77)
    normalise_on(other, as_frames(clip()))
    both = (copy.deepcopy(net), other)
    first, second = (Explainer(one).explain(clip(), 0).joined for one in both)
    alike = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    assert abs(alike) < 0.5


def test_a_shuffled_network_has_the_same_weights_in_another_order() -> None:
    net = network()
    other = shuffled(net, 0)
    for ours, theirs in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours.flatten().sort()[0], theirs.flatten().sort()[0])
    assert not torch.equal(net.head.proj.weight, other.head.proj.weight)
    assert torch.equal(shuffled(net, 0).head.proj.weight, other.head.proj.weight)
    with torch.no_grad():
        normalise_on(other, as_frames(clip()))
        logits = other(as_frames(clip()))
    assert torch.isfinite(logits).all() and not any(module.training for module in other.modules())
