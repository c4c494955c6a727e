"""launch/ray_train.py by a real Ray, on this host, where Ray is installed."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from slowfast_dist.data.synthetic import make_videos
from tests.helpers.training_runs import ROOT, TINY, rows

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="ray is not installed: pip install 'ray[train]'"
)
SCRIPT = ROOT / "launch" / "ray_train.py"


@needs_ray
@pytest.mark.slow
def test_ray_train_trains_in_its_own_group_and_thread(tmp_path: Path) -> None:
    root, output = tmp_path / "videos", tmp_path / "run"
    make_videos(root, 4, seed=0, size=32, frames=12, classes=("moves left", "turns clockwise"))
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, SCRIPT, "--workers", "2", *TINY, "--data.root", root, "--epochs", "2",
         "--data.num-workers", "1", "--global-batch-size", "4", "--micro-batch-size", "2",
         "--output-dir", output],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (output / "status").read_text() == "finished\n"
    assert '"processes": 2' in (output / "environment.json").read_text()
    assert [row["epoch"] for row in rows(output, "epoch")] == [1, 2]
    assert f"finished: {output}" in done.stdout + done.stderr


@needs_ray
def test_a_mistake_is_one_line_before_ray_starts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--workers", "2", "--epochs", "0", "--data.root", tmp_path],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: --epochs 0")
