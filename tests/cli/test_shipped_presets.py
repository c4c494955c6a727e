"""The presets that start from Kinetics weights, on a few real clips at full size (minutes)."""

import os
from pathlib import Path

import pytest
import torch

from tests.helpers.training_runs import rows, trained

CLIPS = {"hugging": 3, "punching": 3}
"""Real clips of each class; one of them for validation."""


@pytest.fixture(scope="module")
def few_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = os.environ.get("SLOWFAST_DIST_TEST_DATA")
    if not folder:
        pytest.skip("SLOWFAST_DIST_TEST_DATA is not set: no real videos to test with")
    root = tmp_path_factory.mktemp("clips")
    for name, count in CLIPS.items():
        (root / name).mkdir()
        for clip in sorted(Path(folder, "ut_interaction", name).iterdir())[:count]:
            (root / name / clip.name).symlink_to(clip)
    return root


@pytest.fixture(scope="module")
def hub_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the hub's format: the builder's own model, with Kinetics' 400 classes."""
    from slowfast_dist.model.slowfast import create_slowfast

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("hub") / "SLOWFAST_8x8_R50.pyth"
    model = create_slowfast(model_num_class=400, slowfast_fusion_conv_kernel_size=(7, 1, 1))
    torch.save({"model_state": model.state_dict()}, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "batches"),
    [
        ("original", ("--global-batch-size", "2", "--micro-batch-size", "2")),
        ("finetune", ("--global-batch-size", "2", "--micro-batch-size", "1")),
    ],
)
def test_a_preset_trains_slowfast_r50_at_224(
    few_clips: Path, hub_file: Path, tmp_path: Path, preset: str, batches: tuple[str, ...]
) -> None:
    """Two optimizer steps and a validation, from a file as the hub has them."""
    run = trained(
        tmp_path / "run", preset, "--data.root", few_clips, "--data.val-fraction", "0.34",
        "--model.weights", hub_file, "--epochs", "1", "--schedule.warmup-epochs", "0",
        "--log-every", "1", "--wandb.mode", "disabled", *batches,
        env={"OMP_NUM_THREADS": str(os.cpu_count())},
    )  # fmt: skip
    steps, (epoch,) = rows(run, "step"), rows(run, "epoch")
    assert len(steps) == 2 and all(row["step/grad_norm"] > 0 for row in steps)
    assert epoch["val/videos"] == 2 and epoch["best"]
    assert (run / "models" / "best_model_weights.pth").stat().st_size > 130e6
