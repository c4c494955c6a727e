"""What needs OpenVINO in the process of the tests, in processes of their own."""

import os
import subprocess
import sys
from importlib import metadata

import pytest

from tests.conftest import OPENVINO
from tests.helpers.training_runs import ROOT


@pytest.mark.slow
@pytest.mark.parametrize(
    "files",
    [
        ["tests/inference/backends"],
        ["tests/commands/export", "-k", "openvino"],
        ["tests/commands/benchmark/test_answers.py"],
        ["tests/commands/evaluate/test_backend.py"],
    ],
    ids=lambda files: files[0],
)
def test_they_pass(files: list[str]) -> None:
    try:
        metadata.version("openvino")
    except metadata.PackageNotFoundError:
        pytest.skip("openvino, of the extra 'cpu', is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *files],
        cwd=ROOT, capture_output=True, text=True, timeout=900, env=os.environ | {OPENVINO: "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
