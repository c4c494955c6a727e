"""``--micro-batch-size auto`` under real limits of memory, alone and in two processes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from slowfast_dist.config.training import Config
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.model.slowfast import SlowFast, set_norm
from slowfast_dist.training.micro_batch import (
    _largest_that_fits,
    largest_micro_batch,
    micro_batch_sizes,
)
from tests.helpers.training_runs import ROOT, TINY, launch, rows, trained

linux = pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux only")


@pytest.mark.parametrize(
    ("total", "processes", "most", "sizes"),
    [
        (16, 1, None, [1, 2, 4, 8, 16]),
        (16, 2, None, [1, 2, 4, 8]),
        (16, 3, None, [1, 2, 4]),  # a share is 6 videos
        (6, 4, None, [1, 2]),
        (2, 4, None, [1]),
        (12, 1, 4, [1, 2, 3, 4]),
        (12, 6, 12, [1, 2, 3, 4, 6, 12]),  # a resumed run keeps its own, at any process count
    ],
)
def test_sizes_divide_the_global_batch_and_leave_none_idle(
    total: int, processes: int, most: int | None, sizes: list[int]
) -> None:
    assert micro_batch_sizes(total, processes, most) == sizes


@pytest.mark.parametrize("total", [1, 7, 16, 60, 128])
def test_the_search_finds_the_largest_and_tries_nothing_much_larger(total: int) -> None:
    sizes = micro_batch_sizes(total, 1)
    for limit in range(total + 1):
        tried: list[int] = []

        def fits(size: int, tried: list[int] = tried, limit: int = limit) -> bool:
            known = max((good for good in tried if good <= limit), default=0)
            between = [other for other in sizes if known < other < size]
            assert size not in tried and all(other < 2 * known for other in between)
            tried.append(size)
            return size <= limit

        best = max((size for size in sizes if size <= limit), default=None)
        assert _largest_that_fits(sizes, fits) == best


def settings(crop: int, total: int) -> Config:
    data = replace(Config().data, num_frames=16, crop_size=crop, short_side=(crop, crop))
    return replace(Config(), global_batch_size=total, micro_batch_size="auto", data=data)


@pytest.mark.parametrize("norm", ["local", "frozen"])
def test_it_leaves_nothing_behind_and_says_when_it_matters(norm: Any) -> None:
    torch.manual_seed(0)
    network = SlowFast("slowfast_tiny", 4, dropout=0.5)
    set_norm(network, norm)
    network.train()
    network.head.proj.weight.grad = torch.ones_like(network.head.proj.weight)
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    generator = torch.get_rng_state()
    size, line = largest_micro_batch(network, settings(32, 4), Accelerator(cpu=True))
    assert size == 4
    assert line.startswith("micro-batch size auto: 4 (the whole global batch)")
    assert ("BatchNorm" in line) == (norm == "local")
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    grads = {name for name, p in network.named_parameters() if p.grad is not None}
    assert grads == {"blocks.6.proj.weight"}
    assert bool((network.head.proj.weight.grad == 1).all())


UNDER_LIMITS = """
import json, os, resource, sys
import psutil, torch
from slowfast_dist.config.errors import RunError
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.distributed.failures import shutdown
from slowfast_dist.training.micro_batch import _is_out_of_memory, largest_micro_batch
from slowfast_dist.model.slowfast import SlowFast, set_norm
from slowfast_dist.training.optim import build_optimizer
from tests.training.test_micro_batch import settings

accelerator = make_accelerator("no", 60)
config = settings(128, 32)
network = SlowFast("slowfast_tiny", 4, dropout=0.5)
set_norm(network, "frozen")
network.to(memory_format=torch.channels_last_3d).train()

def leave_mb(room):
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + int(room) * 10**6, resource.RLIM_INFINITY))

def trains(size):
    optimizer = build_optimizer(network, config.optimizer)
    frames = torch.randint(0, 256, (size, 16, 3, 128, 128), dtype=torch.uint8)
    try:
        for _ in range(2):
            optimizer.zero_grad()
            network(frames).sum().backward()
            optimizer.step()
    except RuntimeError as error:
        assert _is_out_of_memory(error), error
        return False
    return True

found = {}
leave_mb(sys.argv[2 + accelerator.process_index])
if "TRY" in os.environ:
    sys.exit(0 if trains(int(os.environ["TRY"])) else 3)
found["size"], found["line"] = largest_micro_batch(network, config, accelerator)
if accelerator.num_processes > 1:
    leave_mb(1000 if accelerator.is_main_process else 20)
    try:
        largest_micro_batch(network, config, accelerator)
    except RunError as error:
        found["error"] = str(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with open(f"{sys.argv[1]}/{accelerator.process_index}.json", "w") as file:
    json.dump(found, file)
shutdown(accelerator)
"""


def run_under_limits(
    folder: Path, *megabytes: int, **environment: str
) -> subprocess.CompletedProcess[str]:
    script = folder / "under_limits.py"
    script.write_text(UNDER_LIMITS)
    env = {"PYTHONPATH": str(ROOT)} | environment
    return launch(str(script), folder, *map(str, megabytes), processes=len(megabytes), env=env)


def under_limits(folder: Path, *megabytes: int) -> list[dict[str, Any]]:
    """What each process found that may take so much more address space than it has."""
    done = run_under_limits(folder, *megabytes)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(len(megabytes))]


@linux
@pytest.mark.slow
def test_what_it_finds_trains_within_the_limit_and_eight_times_as_much_does_not(
    tmp_path: Path,
) -> None:
    # Twice as much may still, or four times: refused for what they should need, with caution.
    (found,) = under_limits(tmp_path, 850)
    assert 1 < found["size"] < 32
    assert run_under_limits(tmp_path, 850, TRY=str(found["size"])).returncode == 0
    # Some library may crash without memory, in place of raising an error.
    assert run_under_limits(tmp_path, 850, TRY=str(8 * found["size"])).returncode in (3, -6, -11)
    # 850 MB are .79 GiB, of which an optimizer's first step has taken some.
    assert f"({2 * found['size']} needs more than 80% of the 0.7" in found["line"]


@pytest.mark.slow
@linux
def test_processes_with_different_limits_agree_on_what_fits_on_all(tmp_path: Path) -> None:
    found = under_limits(tmp_path, 2000, 500)
    assert found[0] == found[1]
    assert found[0]["size"] < 16
    assert "GiB of free memory on process 1)" in found[0]["line"]
    assert found[0]["error"].startswith("--micro-batch-size auto: one video at a time needs more")
    for remedy in ("on process 1", "--data.crop-size (128)", "--data.num-frames (16)"):
        assert remedy in found[0]["error"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 5, seed=0, size=32, frames=12, classes=("moves left", "turns clockwise"))
    return root


def weights(run: Path) -> bytes:
    return (max((run / "checkpoints").iterdir()) / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_training_is_that_of_the_number_and_a_resumed_one_keeps_it(
    videos: Path, tmp_path: Path
) -> None:
    arguments = (
        *TINY, "--data.root", videos, "--global-batch-size", "4", "--epochs", "1",
        "--checkpoint.every-steps", "1", "--model.norm", "local",
    )  # fmt: skip
    two = trained(tmp_path / "two", *arguments, "--micro-batch-size", "2")
    auto = trained(tmp_path / "auto", *arguments, "--micro-batch-size", "auto", processes=2)
    again = trained(tmp_path / "again", "--config", auto / "config.yaml", processes=2)
    assert "micro_batch_size: 2\n" in (auto / "config.yaml").read_text()
    assert weights(auto) == weights(again)
    assert [row["step/loss"] for row in rows(auto, "step")] == pytest.approx(
        [row["step/loss"] for row in rows(two, "step")], abs=1e-4
    )
    resumed = trained(
        tmp_path / "resumed", *arguments, "--micro-batch-size", "auto", "--resume",
        two / "checkpoints" / "step_00000001",
    )  # fmt: skip
    assert "micro_batch_size: 2\n" in (resumed / "config.yaml").read_text()
    assert weights(resumed) == weights(two)
