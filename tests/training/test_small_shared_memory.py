"""A container's 64 MB of /dev/shm are no reason to fail: batches need none of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slowfast_dist.data.synthetic import make_videos
from tests.helpers.training_runs import ROOT, command_of

IN_64_MB = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare"),
    reason="needs root to mount a small /dev/shm",
)
def test_a_training_with_workers_finishes_in_64_mb_of_shared_memory(tmp_path: Path) -> None:
    """2 workers, each with batches of 8 clips of 32 frames at 224 px, 38 MB each."""
    root, output = tmp_path / "videos", tmp_path / "run"
    make_videos(root, 10, seed=0, size=224, frames=32, classes=("moves left", "turns clockwise"))
    words, environment = command_of(
        ROOT / "train.py", "--data.root", root, "--output-dir", output, "--epochs", "1",
        "--data.num-frames", "32", "--data.sampling-rate", "1", "--data.crop-size", "224",
        "--data.short-side", "224", "224", "--data.flip", "false", "--data.num-workers", "2",
        "--model.name", "slowfast_tiny", "--model.pretrained", "false", "--mixed-precision", "no",
        "--global-batch-size", "8", "--micro-batch-size", "8", "--wandb.mode", "disabled",
    )  # fmt: skip
    probe = ["unshare", "-m", "sh", "-c", IN_64_MB, "-"]
    if subprocess.run([*probe, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount")
    done = subprocess.run(
        [*probe, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (output / "status").read_text() == "finished\n"
