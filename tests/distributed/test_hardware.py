"""What the program chooses by the hardware, says at its start, and what the flags change."""

from pathlib import Path

import pytest
import torch

from slowfast_dist.config.checks import validate
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.config.training import Config
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.distributed import accelerator as accelerator_module
from slowfast_dist.distributed.accelerator import (
    hardware_precision,
    make_accelerator,
    share_cpus,
)
from slowfast_dist.model.slowfast import SlowFast, freeze, set_norm
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.training.network import summary
from tests.helpers.training_runs import ROOT, TINY, launch, rows, train, trained

FEW = ("--epochs", "1", "--global-batch-size", "4", "--micro-batch-size", "2")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 5, seed=0, size=32, frames=12, classes=("moves left", "turns clockwise"))
    return root


@pytest.fixture(scope="module")
def plain_run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run") / "run"
    return trained(output, *TINY, *FEW, "--data.root", videos)


def model_bytes(run: Path) -> bytes:
    return (max((run / "checkpoints").iterdir()) / "model.safetensors").read_bytes()


def test_activations_computed_again_give_the_same_training_to_the_bit(
    videos: Path, plain_run: Path, tmp_path: Path
) -> None:
    done = train(
        *TINY, *FEW, "--data.root", videos, "--output-dir", tmp_path / "run",
        "--model.checkpoint-activations",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cpu, 1 thread: fp32, channels_last_3d, BatchNorm local" in done.stdout
    assert "activations computed again" in done.stdout
    assert model_bytes(tmp_path / "run") == model_bytes(plain_run)


@pytest.mark.slow
def test_gradients_travel_in_fp16_and_a_training_stays_the_same_to_a_little(
    videos: Path, plain_run: Path, tmp_path: Path
) -> None:
    run = trained(
        tmp_path / "run", *TINY, *FEW, "--data.root", videos, "--distributed.compression", "fp16",
        processes=2,
    )  # fmt: skip
    ours = [row["step/loss"] for row in rows(run, "step")]
    assert ours == pytest.approx([row["step/loss"] for row in rows(plain_run, "step")], abs=2e-2)
    assert model_bytes(run) != model_bytes(plain_run)  # they were rounded


def test_bf16_gradients_are_refused_where_they_cannot_be_added_up() -> None:
    done = launch(
        "-c",
        "from slowfast_dist.distributed.accelerator import make_accelerator; "
        "make_accelerator('no', 60, 'bf16')",
        env={"PYTHONPATH": str(ROOT)},
    )
    assert "UserError: --distributed.compression bf16 needs GPUs" in done.stderr


def test_compiling_and_computing_again_exclude_each_other() -> None:
    model = ModelConfig(compile=True, checkpoint_activations=True)
    with pytest.raises(UserError, match=r"--model\.checkpoint-activations true"):
        validate(Config(data=DataConfig(root=Path("videos")), model=model))


def test_threads_are_shared_out_unless_the_environment_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(3)
        share_cpus(1)
        assert torch.get_num_threads() == 3
        monkeypatch.delenv("OMP_NUM_THREADS")
        share_cpus(1)
        assert torch.get_num_threads() == available_cpus()
        share_cpus(1000)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_line_at_the_start_says_what_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    accelerator = make_accelerator("no", 60)
    network = SlowFast("slowfast_tiny", 4, 0.0)
    assert "contiguous, BatchNorm local" in summary(accelerator, network, compiled=False)
    freeze(network, 2)
    assert "folded in the 2 frozen stages" in summary(accelerator, network, compiled=False)
    set_norm(network, "frozen")
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    words = summary(accelerator, network, compiled=True)
    assert "fp32, channels_last_3d, frozen BatchNorm folded into the convolutions" in words
    assert words.endswith(", compiled")


def test_bf16_is_chosen_only_where_the_cpu_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    bf16 = frozenset({torch.float32, torch.bfloat16})
    cases = (True, bf16, "bf16"), (False, bf16, "no"), (True, frozenset({torch.float32}), "no")
    for supported, types, expected in cases:
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=supported: has)
        monkeypatch.setattr(accelerator_module, "fused_dtypes", lambda which=types: which)
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        assert hardware_precision() == expected
