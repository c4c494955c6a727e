"""Tensors that no network can compute with are found, whatever the kernels make of them."""

import pytest
import torch

from slowfast_dist.model.finite import broken_tensors, describe_broken
from slowfast_dist.model.folding import folded
from slowfast_dist.model.slowfast import SlowFast, set_norm

WEIGHT = "blocks.1.multipathway_blocks.0.res_blocks.0.branch2.conv_a.weight"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("place", [0, 1000, -1])
def test_one_number_among_many_is_found(bad: float, dtype: torch.dtype, place: int) -> None:
    tensors = {"whole": torch.arange(5), "good": torch.rand(9), "bad": torch.rand(3, 777).to(dtype)}
    assert describe_broken(tensors) is None
    tensors["bad"].view(-1)[place] = bad
    assert broken_tensors(tensors) == {"bad": 1}


def test_large_numbers_are_numbers_and_variances_are_not_below_zero() -> None:
    tensors = {"a": torch.full((4,), 3e38), "b.running_var": torch.zeros(4)}
    assert describe_broken(tensors) is None
    tensors["b.running_var"][2] = -1e-3
    assert describe_broken(tensors) == "b.running_var (1 of its 4 numbers) is not finite"
    assert broken_tensors({"empty": torch.empty(0)}) == {} == broken_tensors({})


def test_the_fused_kernels_would_not_have_told() -> None:
    """The reason for all of this: probabilities of a network with a NaN in it."""
    torch.manual_seed(0)
    network = SlowFast("slowfast_tiny", 4, 0.0).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    set_norm(network.eval(), "frozen")
    with torch.no_grad():
        network.state_dict()[WEIGHT][0, 0] = torch.nan
        frames = torch.zeros(1, 8, 3, 32, 32, dtype=torch.uint8)
        looks_healthy = bool(folded(network)(frames).isfinite().all())
    if not looks_healthy:
        pytest.skip("this CPU's kernels keep NaN")
    assert list(broken_tensors(network.state_dict())) == [WEIGHT]
