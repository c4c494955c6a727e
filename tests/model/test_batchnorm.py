"""Running statistics over several processes equal those of one process, in real processes."""

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from slowfast_dist.model.batchnorm import RunningStatistics

STEPS = (5, 4, 1)
"""Micro-batches of each step; the last leaves processes idle."""


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4), nn.ReLU(), nn.BatchNorm3d(4))


def inputs() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 3, 2, 4, 4, generator=generator) + i for i in range(sum(STEPS))]


def layers_of(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm3d)]


def plain() -> dict[str, Tensor]:
    """What torch's own BatchNorm has after all micro-batches in order."""
    model = network()
    for frames in inputs():
        model(frames)
    return model.state_dict()


def run(model: nn.Module, rank: int, world_size: int, peek: bool) -> RunningStatistics:
    statistics = RunningStatistics(layers_of(model), rank, world_size)
    batches, first = inputs(), 0
    for count in STEPS:
        for micro_batch in range(rank, -(-count // world_size) * world_size, world_size):
            if micro_batch < count:
                statistics.before_own(micro_batch)
                model(batches[first + micro_batch])
            else:
                with statistics.unchanged():
                    model(batches[0])
        statistics.after_step(count)
        first += count
        if peek:
            with statistics.merged():
                pass
    return statistics


def worker(rank: int, world_size: int, folder: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size
    )
    model, peeked = network(), network()
    statistics = run(model, rank, world_size, peek=False)
    run(peeked, rank, world_size, peek=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, peeked.state_dict()[name]), f"merged() left a trace in {name}"
    with statistics.merged():
        torch.save(model.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world_size", [2, 3])
def test_parts_of_processes_add_up_to_one_process(tmp_path: Path, world_size: int) -> None:
    spawn(worker, (world_size, str(tmp_path)), nprocs=world_size)
    expected = plain()
    for rank in range(world_size):
        state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in expected.items():
            torch.testing.assert_close(state[name], value, rtol=1e-6, atol=1e-7)


def test_one_process_is_plain_batchnorm_to_the_bit() -> None:
    model = network()
    statistics = run(model, 0, 1, peek=True)
    for name, value in plain().items():
        assert torch.equal(model.state_dict()[name], value), name
    again = network()
    restored = RunningStatistics(layers_of(again), 0, 1)
    restored.restore(statistics.part(), 0, statistics.batches, statistics.decayed)
    assert torch.equal(restored.part(), statistics.part())


def test_a_repeat_leaves_no_trace() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    with RunningStatistics(layers_of(model), 0, 1).unchanged():
        model(inputs()[0])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert model[1].momentum == 0.1
