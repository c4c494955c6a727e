"""The order of the data: the same steps and micro-batches at any process count."""

import numpy as np
import pytest

from slowfast_dist.data.sampler import ClipKey, DistributedBatchSampler, EvaluationSampler


def steps_of(num_samples: int, global_batch: int, micro_batch: int, world_size: int, epoch: int):
    """For each step the micro-batches of all processes, in order of their number."""
    samplers = [
        DistributedBatchSampler(num_samples, global_batch, micro_batch, 7, rank, world_size)
        for rank in range(world_size)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    streams = [iter(sampler) for sampler in samplers]
    steps = []
    for step in range(samplers[0].steps_per_epoch):
        micro_batches = []
        for _ in range(samplers[0].rounds(step)):
            micro_batches += [next(stream) for stream in streams]
        steps.append([keys for keys in micro_batches if keys])
    assert all(next(stream, None) is None for stream in streams)
    return steps


@pytest.mark.parametrize("world_size", [2, 3, 5, 8])
@pytest.mark.parametrize(
    ("num_samples", "global_batch", "micro_batch"),
    [(21, 8, 2), (16, 8, 4), (3, 8, 2), (37, 12, 3), (10, 4, 4)],
)
def test_steps_do_not_depend_on_the_process_count(
    num_samples: int, global_batch: int, micro_batch: int, world_size: int
) -> None:
    alone = steps_of(num_samples, global_batch, micro_batch, 1, epoch=3)
    assert steps_of(num_samples, global_batch, micro_batch, world_size, epoch=3) == alone


def test_an_epoch_has_every_sample_once_in_a_new_order() -> None:
    first, second = (steps_of(21, 8, 2, 2, epoch) for epoch in (0, 1))
    for steps in (first, second):
        samples = [key.sample for step in steps for keys in step for key in keys]
        assert sorted(samples) == list(range(21))
    assert [key.sample for key in first[0][0]] != [key.sample for key in second[0][0]]
    assert [len(keys) for keys in first[-1]] == [2, 2, 1]


def test_micro_batches_are_the_positions_that_the_design_gives() -> None:
    sampler = DistributedBatchSampler(10, 4, 2, seed=1, rank=1, world_size=2)
    alone = DistributedBatchSampler(10, 4, 2, seed=1)
    order = [key for keys in alone for key in keys]
    assert list(sampler) == [order[2:4], order[6:8], []]
    assert order[0] == ClipKey(0, order[0].sample)


def test_a_resumed_epoch_goes_on_at_its_step() -> None:
    sampler = DistributedBatchSampler(21, 8, 2, seed=1)
    sampler.set_epoch(4)
    whole = list(sampler)
    sampler.set_epoch(4, start_step=1)
    assert list(sampler) == whole[4:]
    assert len(sampler) == len(whole) - 4


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_evaluation_sees_every_view_once_without_padding(world_size: int) -> None:
    seen = []
    for rank in range(world_size):
        sampler = EvaluationSampler(5, 3, batch_size=4, rank=rank, world_size=world_size)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        seen += [(key.video, key.view) for keys in batches for key in keys]
    assert sorted(seen) == [(video, view) for video in range(5) for view in range(3)]


def test_the_order_is_that_of_the_documented_formula() -> None:
    """Micro-batch k of step s: positions sG + kb to min(sG + (k+1)b, (s+1)G, N), process k mod W.

    The length is what the iteration gives, from any step on, also behind the last.
    """
    rng = np.random.default_rng(0)
    for _ in range(60):
        samples, micro, world = (int(n) for n in rng.integers(1, (200, 6, 7)))
        whole, seed, epoch = micro * int(rng.integers(1, 8)), int(rng.integers(99)), 3
        order = np.random.default_rng([seed, epoch]).permutation(samples)
        rank = int(rng.integers(world))
        sampler = DistributedBatchSampler(samples, whole, micro, seed, rank, world)
        start = int(rng.integers(sampler.steps_per_epoch + 1))
        sampler.set_epoch(epoch, start)
        expected = []
        for step in range(start, -(-samples // whole)):
            in_step = min(whole, samples - step * whole)
            for first in range(0, -(-in_step // micro), world):
                begin = step * whole + (first + rank) * micro
                end = min(begin + micro, (step + 1) * whole, samples)
                expected.append([ClipKey(epoch, int(sample)) for sample in order[begin:end]])
        assert list(sampler) == expected and len(sampler) == len(expected)
