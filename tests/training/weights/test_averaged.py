"""Averages of the weights against torch's AveragedModel."""

from typing import Any

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel

from slowfast_dist.model.slowfast import SlowFast, freeze, set_norm
from slowfast_dist.training.weights.averaged import AveragedWeights, capture, of_average


def network() -> SlowFast:
    torch.manual_seed(0)
    return SlowFast("slowfast_tiny", 3, 0.0).train()


def change(net: SlowFast, step: int) -> None:
    """As a training step would."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.rand(parameter.shape, generator=generator))


def test_an_exponential_average_is_that_of_torch_with_a_decay_that_begins_small() -> None:
    net, decay = network(), 0.9
    average = AveragedWeights(net, decay)

    def blend(averaged: Any, own: Any, updates: Any) -> None:
        weight = 1 - min(decay, (1 + int(updates)) / (10 + int(updates)))
        torch._foreach_lerp_(averaged, own, weight)

    theirs = AveragedModel(net, multi_avg_fn=blend, use_buffers=False)
    for step in range(100):
        change(net, step)
        average.update()
        theirs.update_parameters(net)
    own = {name: value.clone() for name, value in net.state_dict().items()}
    with average.in_network():
        now = dict(net.named_parameters())
        for name, value in theirs.module.named_parameters():
            assert torch.equal(now[name], value), name
            assert not torch.equal(value, own[name]), name
    assert all(torch.equal(value, own[name]) for name, value in net.state_dict().items())


def test_the_decay_of_few_steps_forgets_the_first_weights() -> None:
    net = network()
    average = AveragedWeights(net, 0.9999)
    decays = [average.decay_at(updates) for updates in range(300)]
    assert decays[:3] == [0.0, 2 / 11, 3 / 12] and decays == sorted(decays) and decays[-1] < 0.98
    assert np.prod(decays[1:]) < 1e-9  # what the first weights still weigh; .97 without warm-up
    assert average.decay_at(10**6) == 0.9999


def test_an_equal_average_is_that_of_torch() -> None:
    net = network()
    average, theirs = AveragedWeights(net), AveragedModel(net, use_buffers=False)
    for step in range(5):
        change(net, step)
        average.update()
        theirs.update_parameters(net)
    with average.in_network():
        now = dict(net.named_parameters())
        for name, value in theirs.module.named_parameters():
            torch.testing.assert_close(now[name], value, rtol=1e-5, atol=1e-6)


def test_what_is_frozen_is_not_kept() -> None:
    net = network()
    set_norm(net, "frozen")
    freeze(net, 3)
    average = AveragedWeights(net, 0.9)
    kept = of_average(capture({"ema": average})[0], "ema")
    assert set(kept) == {name for name, p in net.named_parameters() if p.requires_grad}
    assert not any(name.startswith(("blocks.0.", "blocks.1.", "blocks.2.")) for name in kept)
