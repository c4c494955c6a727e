"""The order of the data: the same steps and micro-batches at any process count."""

import numpy as np
import pytest

from slowfast_dist.data.sampler import (
    ClassSampling,
    ClipKey,
    DistributedBatchSampler,
    EvaluationSampler,
    class_shares,
)


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


def plain_draw(
    labels: list[int], shares: list[float], rng: np.random.Generator
) -> list[tuple[int, int]]:
    """`ClassSampling.draw` as loops over lists: (sample, how often it was there before)."""
    total, place, before = len(labels), rng.random(), 0
    found, reached = [], 0.0
    classes = [label for label in range(len(shares)) if shares[label] > 0]
    for label in classes:
        reached += shares[label]
        end = total if label == classes[-1] else int(reached * total + place)
        members = [sample for sample in range(total) if labels[sample] == label]
        left, round_ = end - before, 0
        while left > 0:
            for sample in rng.permutation(members)[:left]:
                found.append((int(sample), round_))
            left, round_ = left - len(members), round_ + 1
        before = end
    return [found[place] for place in rng.permutation(total)]


LABELS = [0] * 60 + [1] * 15 + [3] * 5
"""Of four classes, one without a sample."""


@pytest.mark.parametrize("how", ["sqrt", "balanced"])
def test_classes_are_drawn_as_a_plain_loop_draws_them(how: str) -> None:
    counts = np.bincount(LABELS, minlength=4)
    roots = {"sqrt": [60**0.5, 15**0.5, 0.0, 5**0.5], "balanced": [1.0, 1.0, 0.0, 1.0]}[how]
    shares = [root / sum(roots) for root in roots]
    np.testing.assert_allclose(class_shares(counts, how), shares)
    sampling = ClassSampling(np.array(LABELS), np.array(shares))
    for seed in range(20):
        order, repeats = sampling.draw(np.random.default_rng(seed))
        expected = plain_draw(LABELS, shares, np.random.default_rng(seed))
        assert list(zip(order.tolist(), repeats.tolist(), strict=True)) == expected


def test_each_class_has_its_share_and_each_of_its_samples_is_there_equally_often() -> None:
    sampling = ClassSampling(np.array(LABELS), class_shares(np.bincount(LABELS), "balanced"))
    drawn = np.zeros(4)
    for seed in range(300):
        order, _ = sampling.draw(np.random.default_rng(seed))
        assert len(order) == 80
        times = np.bincount(order, minlength=80)
        for label in (0, 1, 3):
            own = times[np.array(LABELS) == label]
            assert own.max() - own.min() <= 1
            assert abs(own.sum() - 80 / 3) < 1
        drawn += np.bincount(np.array(LABELS)[order], minlength=4) / 300
    np.testing.assert_allclose(drawn, [80 / 3, 80 / 3, 0, 80 / 3], atol=0.1)
    epochs = [sampling.draw(np.random.default_rng(seed))[0].tolist() for seed in range(5)]
    frequent = {tuple(sorted(sample for sample in order if sample < 60)) for order in epochs}
    assert len(frequent) == 5  # other samples of the frequent class in each epoch


def test_it_is_said_what_the_rarest_and_the_most_frequent_class_get() -> None:
    counts = np.bincount(LABELS)
    sampling = ClassSampling(np.array(LABELS), class_shares(counts, "balanced"))
    assert sampling.describe("abcd", "balanced") == (
        "class sampling balanced: of the 80 clips of an epoch 26.7 are of 'd' (5, each 5.3 times) "
        "and 26.7 are of 'a' (60, each 0.4 times)"
    )
    even = ClassSampling(np.array([0, 1, 0, 1]), np.array([0.5, 0.5]))
    assert even.describe("ab", "sqrt") == "class sampling sqrt: all classes have 2 clips as it is"


def test_classes_drawn_do_not_depend_on_the_process_count_and_no_clip_comes_twice() -> None:
    sampling = ClassSampling(np.array(LABELS), class_shares(np.bincount(LABELS), "balanced"))

    def keys(processes: int) -> list[ClipKey]:
        streams = []
        for rank in range(processes):
            sampler = DistributedBatchSampler(80, 12, 4, 7, rank, processes, sampling)
            sampler.set_epoch(2)
            streams.append(list(sampler))
        return [key for round_ in zip(*streams, strict=True) for keys in round_ for key in keys]

    alone = keys(1)
    assert keys(2) == keys(3) == alone
    assert len(set(alone)) == len(alone) == 80 and max(key.repeat for key in alone) >= 4


def test_a_repeat_has_other_random_numbers_than_any_clip_or_its_background() -> None:
    seeds = [
        [*ClipKey(epoch, sample, repeat).entropy(5), *more]
        for epoch in range(2) for sample in range(3) for repeat in range(4) for more in ([], [1])
    ]  # fmt: skip
    first = {float(np.random.default_rng(seed).random()) for seed in seeds}
    assert len(first) == len(seeds)
    assert ClipKey(1, 2).entropy(5) == [5, 1, 2]  # as before there were repeats
