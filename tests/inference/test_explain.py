"""Where a network looks: integrated gradients, held against shuffled heads."""

import numpy as np
import pytest
import torch

from slowfast_dist.inference.explain import (
    CELLS,
    SHUFFLED_HEADS,
    STEPS,
    Explainer,
    Map,
    attributions,
)
from slowfast_dist.inference.windows import Stopped
from slowfast_dist.model.inputs import pathways
from slowfast_dist.model.slowfast import SlowFast

pytestmark = pytest.mark.usefixtures("on_cpu")

FEATURES, SLOW = 640, 512
"""Of slowfast_tiny; those of the slow pathway come first."""


def network(classes: int = 3) -> SlowFast:
    torch.manual_seed(0)
    return SlowFast("slowfast_tiny", classes, 0.0).eval().requires_grad_(False)


def clip(seed: int = 0, frames: int = 8, size: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (frames, size, size, 3), dtype=np.uint8)


def as_frames(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2)[None]


def test_features_of_pathways_are_those_of_frames() -> None:
    net = network()
    frames = as_frames(clip())
    x = pathways(frames, net.description)
    assert torch.equal(net.pathway_features(x), net.features(frames))
    assert x[0].shape[2] == 2  # the list is not written into


def test_the_parts_add_up_to_what_the_class_gained() -> None:
    """The axiom of completeness of integrated gradients, to what STEPS points reach."""
    net = network()
    frames = as_frames(clip())
    head = net.head.proj.weight[1]
    slow, fast = attributions(net, frames, head[None])
    assert slow.shape == fast.shape == (1, 8, CELLS, CELLS)
    x = pathways(frames, net.description)
    grey = [part.mean(dim=(2, 3, 4), keepdim=True).expand_as(part).clone() for part in x]
    gained = float((net.pathway_features(x) - net.pathway_features(grey))[0] @ head)
    assert float(slow.sum() + fast.sum()) == pytest.approx(gained, rel=0.2)


def test_a_class_that_hears_of_one_pathway_alone_is_told_so() -> None:
    net = network()
    heads = torch.zeros(2, FEATURES)
    heads[0, :SLOW] = 1  # the slow pathway, which hears of the fast one by its laterals
    heads[1, SLOW:] = 1  # the fast one alone
    slow, fast = attributions(net, as_frames(clip()), heads)
    assert float(slow[1].abs().max()) == 0 and float(fast[1].abs().max()) > 0
    assert float(slow[0].abs().max()) > 0 and float(fast[0].abs().max()) > 0


def test_a_class_that_sees_a_disc_has_its_map_there() -> None:
    """A head that learned: the features that the disc adds to a grey clip are its weights."""
    net = network()
    frames = np.full((8, 32, 32, 3), 100, np.uint8)
    frames[2:6, 4:12, 18:28] = clip(1)[2:6, 4:12, 18:28]
    with torch.no_grad():
        empty = as_frames(np.full((8, 32, 32, 3), 100, np.uint8))
        seen = net.features(as_frames(frames)) - net.features(empty)
        net.head.proj.weight[2] = 10 * seen[0] / seen.norm()
    found = Explainer(net).explain(frames, 2)
    there = found.joined.shares[1:7, 1:7, 8:15].sum()  # the cells, and one around them
    assert found.joined.strength > 0.8 and there > 0.6
    when = found.joined.when
    assert when.sum() == pytest.approx(1) and when[2:6].sum() > 0.6
    colours = found.joined.colours(32)
    assert colours.shape == (8, 32, 32) and 0.8 < colours.max() <= found.joined.strength + 1e-6
    place = np.unravel_index(colours.argmax(), colours.shape)
    assert 1 <= place[0] <= 6 and 2 <= place[1] < 14 and 16 <= place[2] < 30


def test_it_may_be_stopped_between_its_parts() -> None:
    net, frames, told = Explainer(network()), clip(), list[float]()

    def go_on(share: float) -> bool:
        told.append(share)
        return True

    whole = net.explain(frames, 1, go_on)
    assert (whole.joined.found == net.explain(frames, 1).joined.found).all()
    assert len(told) == STEPS * (1 + SHUFFLED_HEADS) and told == sorted(told) and told[-1] == 1
    with pytest.raises(Stopped):
        net.explain(frames, 1, lambda share: share < told[3])


@pytest.mark.parametrize("seed", range(3))
def test_random_weights_give_no_map(seed: int) -> None:
    """The randomisation test of Adebayo et al. (2018), here of the last layer."""
    net = network(classes=5)
    torch.manual_seed(seed)
    net.head.proj.reset_parameters()
    explainer = Explainer(net)
    for label in range(5):
        found = explainer.explain(clip(seed), label).joined
        assert found.strength < 0.2
        flat = np.full(found.shares.shape, 1 / found.shares.size)
        assert np.abs(found.shares - flat).sum() <= 2 * found.strength + 1e-6


def test_the_same_clip_gives_the_same_map_whatever_came_before() -> None:
    explainer = Explainer(network())
    first = explainer.explain(clip(), 1)
    explainer.explain(clip(1), 2)
    again = explainer.explain(clip(), 1)
    for name in ("joined", "slow", "fast"):
        one, other = getattr(first, name), getattr(again, name)
        assert one.found.shape == (8, CELLS, CELLS) and one.found.dtype == np.float32
        assert one.found.min() >= 0 and one.found.sum() == pytest.approx(1, rel=1e-4)
        assert np.array_equal(one.found, other.found) and one.strength == other.strength


def test_of_several_labels_each_stands_for_itself() -> None:
    """What all classes share explains none of one label a clip, and each of several."""
    net = network()
    with torch.no_grad():
        net.head.proj.weight += 5 * net.head.proj.weight[0].clone()
    first, again = (Explainer(net, several).explain(clip(), 1) for several in (False, True))
    assert not np.allclose(first.joined.found, again.joined.found)
    alone = Explainer(network(classes=1)).explain(clip(), 0)  # nothing to be held against
    assert alone.joined.found.max() > 2 / alone.joined.found.size


def test_what_overflows_has_a_flat_map() -> None:
    net = network()
    with torch.no_grad():
        net.head.proj.weight[0] = torch.inf
    found = Explainer(net, several_labels=True).explain(clip(), 0).joined
    assert found.strength == 0 and np.allclose(found.found, 1 / found.found.size)
    assert found.when == pytest.approx(np.full(8, 1 / 8))


def test_what_may_be_chance_lies_evenly_on_all() -> None:
    cells = np.zeros((2, CELLS, CELLS), np.float32)
    cells[1, 3, 4] = 1
    one = Map(cells, 0.75)
    assert one.shares.sum() == pytest.approx(1) and one.shares[1, 3, 4] > 0.75
    assert one.when == pytest.approx([0.125, 0.875])
    assert SHUFFLED_HEADS > 1 and one.colours(64).max() == pytest.approx(0.75)
