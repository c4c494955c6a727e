"""What only a GPU shows; `pytest -m gpu` runs it, elsewhere it skips."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from slowfast_dist.data.samples.batch import Batch
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.model.description import NetworkDescription, network_defaults
from slowfast_dist.model.inputs import normalise
from slowfast_dist.training.step import DeviceCopies
from tests.helpers.training_runs import ROOT, TINY, launch, rows, train, trained
from tests.model.test_description import MMACTION2

pytestmark = pytest.mark.gpu

GPU = {"ACCELERATE_USE_CPU": "false"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 6, seed=0, size=32, frames=12, classes=("moves left", "turns clockwise"))
    return root


@pytest.mark.parametrize("norm", ["local", "frozen", "sync"])
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_training_runs_in_each_precision(
    videos: Path, tmp_path: Path, precision: str, norm: str
) -> None:
    run = trained(
        tmp_path / "run", *TINY, "--data.root", videos, "--mixed-precision", precision,
        "--model.norm", norm, "--epochs", "2", "--global-batch-size", "4",
        "--micro-batch-size", "2", "--data.num-workers", "2", env=GPU,
    )  # fmt: skip
    environment = json.loads((run / "environment.json").read_text())
    assert environment["device"].startswith("cuda")
    assert environment["mixed_precision"] == precision
    last = rows(run, "epoch")[-1]
    assert last["train/samples_never"] == 0 and last["val/loss"] is not None


def test_a_resume_goes_on_as_the_run_would_have(videos: Path, tmp_path: Path) -> None:
    arguments = (
        *TINY, "--data.root", videos, "--epochs", "2", "--global-batch-size", "4",
        "--micro-batch-size", "2", "--checkpoint.every-steps", "1", "--checkpoint.keep", "9",
    )  # fmt: skip
    run = trained(tmp_path / "run", *arguments, env=GPU)
    resumed = trained(
        tmp_path / "resumed", *arguments, "--resume", run / "checkpoints" / "step_00000002",
        env=GPU,
    )  # fmt: skip
    for first, second in zip(rows(run, "epoch"), rows(resumed, "epoch"), strict=True):
        assert second["train/loss"] == pytest.approx(first["train/loss"], rel=1e-3)
        assert second["val/loss"] == pytest.approx(first["val/loss"], rel=1e-3)


def test_out_of_memory_is_one_line_that_names_the_remedy(videos: Path, tmp_path: Path) -> None:
    done = launch(
        "-c",
        "import sys, torch; torch.cuda.set_per_process_memory_fraction(1e-4); "
        "from slowfast_dist.cli.main import main; main(sys.argv[1:])",
        "train", *TINY, "--data.root", videos, "--output-dir", tmp_path / "run",
        "--data.crop-size", "224", "--data.short-side", "224", "224", "--data.num-frames", "64",
        env=GPU,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "--micro-batch-size" in done.stderr


LARGEST = """
import torch
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.training.micro_batch import GPU_MEMORY_SHARE, largest_micro_batch
from slowfast_dist.model.slowfast import SlowFast, set_norm
from slowfast_dist.training.optim import build_optimizer
from tests.training.test_micro_batch import settings

accelerator = make_accelerator("bf16", 60)
room = 3 * 2**30
torch.cuda.set_per_process_memory_fraction(room / torch.cuda.mem_get_info()[1])
config = settings(112, 512)
network = SlowFast("slowfast_r50", 4, dropout=0.5)
set_norm(network, "frozen")
network.to(accelerator.device, memory_format=torch.channels_last_3d).train()
before = torch.cuda.memory_allocated()
size, line = largest_micro_batch(network, config, accelerator)
print(line)
assert f"({2 * size} needs more than 92% of the 3 GiB of GPU memory)" in line
assert torch.cuda.max_memory_allocated() < before + 128 * 2**20  # cuBLAS keeps its workspace
optimizer = build_optimizer(network, config.optimizer)

def train(size):
    for _ in range(3):
        frames = torch.randint(0, 256, (size, 16, 3, 112, 112), dtype=torch.uint8, device="cuda")
        for _ in range(2):
            with accelerator.autocast():
                loss = network(frames).float().sum()
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()

train(size)
assert torch.cuda.max_memory_allocated() <= GPU_MEMORY_SHARE * room
try:
    train(4 * size)
except torch.OutOfMemoryError:
    print("more does not")
"""


def test_an_automatic_micro_batch_trains_within_what_the_process_may_have() -> None:
    env = GPU | {"PYTHONPATH": str(ROOT)}
    done = launch("-c", LARGEST, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "more does not" in done.stdout


def test_auto_is_the_number_that_a_training_uses(videos: Path, tmp_path: Path) -> None:
    run = trained(
        tmp_path / "run", *TINY, "--data.root", videos, "--global-batch-size", "4", "--epochs", "1",
        "--micro-batch-size", "auto", env=GPU,
    )  # fmt: skip
    assert "micro_batch_size: 4\n" in (run / "config.yaml").read_text()


def test_a_step_on_the_gpu_is_the_plain_one_in_each_precision() -> None:
    """Gradients of the folded step against pytorchvideo's modules, layer by layer, on the CPU."""
    import copy

    from tests.model.test_folding import distance, network, plain_forward, step

    plain = network()
    _, truth = step(plain, lambda x: plain_forward(plain, x))
    ours = copy.deepcopy(plain).to("cuda", memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    for dtype, most in ((None, 0.02), (torch.bfloat16, 0.2), (torch.float16, 0.1)):
        grads = gpu_gradients(ours, dtype)
        assert distance({name: grad.cpu() for name, grad in grads.items()}, truth) < most, dtype


def gpu_gradients(model: nn.Module, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    from tests.model.test_folding import LABELS
    from tests.model.test_slowfast import random_frames

    model.zero_grad()
    with torch.autocast("cuda", dtype or torch.bfloat16, enabled=dtype is not None):
        logits = model(random_frames().cuda()).float()
    # fp16 without a scaler: at this loss no gradient of the small network is lost.
    functional.cross_entropy(logits, LABELS.cuda()).backward()
    return {name: p.grad.float() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("network", [network_defaults("slowfast_r50"), MMACTION2])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_frames_normalised_in_one_kernel_are_those_of_float32_rounded(
    dtype: torch.dtype, network: NetworkDescription
) -> None:
    frames = torch.arange(256, dtype=torch.uint8, device="cuda").reshape(1, 4, 1, 8, 8)
    frames = frames.expand(2, 4, 3, 8, 8)
    exact = normalise(frames, network)
    with torch.autocast("cuda", dtype):
        clip = normalise(frames, network, dtype=dtype)
    assert clip.dtype == dtype
    torch.testing.assert_close(clip, exact.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=0)


def test_a_copy_in_its_own_stream_is_there_when_it_is_used() -> None:
    copies = DeviceCopies(torch.device("cuda"))
    busy = torch.randn(4096, 4096, device="cuda")
    for value in range(20):
        frames = torch.full((4, 32, 3, 64, 64), value, dtype=torch.uint8)
        numbers = torch.full((4,), value)
        batch = Batch(frames, numbers, numbers, numbers, numbers).pin_memory()
        busy = busy @ busy / 4096
        moved = copies.to_device(batch)
        assert (moved.frames == value).all() and (moved.labels == value).all()


def test_activations_computed_again_take_less_memory() -> None:
    from tests.model.test_folding import network

    peaks = []
    for again in (False, True):
        model = network().to("cuda")
        model.checkpoint_activations = again
        frames = torch.randint(0, 256, (8, 32, 3, 112, 112), dtype=torch.uint8, device="cuda")
        torch.cuda.reset_peak_memory_stats()
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(frames).float().sum()
        loss.backward()
        peaks.append(torch.cuda.max_memory_allocated())
        del model, loss
    assert peaks[1] < 0.8 * peaks[0]


def test_a_compiled_training_runs_and_says_what_it_took(videos: Path, tmp_path: Path) -> None:
    done = train(
        *TINY, "--data.root", videos, "--epochs", "1", "--global-batch-size", "4",
        "--micro-batch-size", "2", "--output-dir", tmp_path / "run", "--model.compile",
        "--mixed-precision", "bf16", env=GPU,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ", compiled" in done.stdout and "compiled: the first step took" in done.stdout
