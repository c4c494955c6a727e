"""``benchmark index``: what it measures is there, and of the size that it should be."""

import json
import os

import pytest

from slowfast_dist.config.benchmark import BenchmarkIndex
from slowfast_dist.config.checks import validate
from slowfast_dist.config.errors import UserError
from tests.helpers.training_runs import launch


@pytest.mark.slow
def test_the_index_of_made_files_is_measured(tmp_path) -> None:
    done = launch(
        "-m", "slowfast_dist", "benchmark", "index", "--files", "12000", "--json",
        env={"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["probe"]["cpu_ms_per_file"] > 0.1
    first, second = result["rows"]
    assert (first["files"], second["files"]) == (10_000, 12_000)
    for row in (first, second):
        assert 0 < row["listing_cpu_seconds"] < row["second_start_cpu_seconds"] < 10
        assert row["broadcast_mb"] * 1e6 / row["files"] < 150
        assert row["worker_videos_read"] >= 10_000
    assert abs(second["worker_uss_mb"] - first["worker_uss_mb"]) < 3
    assert os.listdir(tmp_path) == []


def test_too_few_files_are_refused() -> None:
    with pytest.raises(UserError, match=r"--files 99: "):
        validate(BenchmarkIndex(files=99))
