"""How many threads compute, before torch can be asked."""

import os
import subprocess
import sys

import pytest

CODE = """
from slowfast_dist.system.cpus import compute_threads
before = compute_threads()
import torch
print(before, compute_threads(), torch.get_num_threads())
"""


@pytest.mark.parametrize("given", [None, "1", "3,2", "none"])
def test_threads_are_those_that_torch_would_take(given: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if given is not None:
        environment["OMP_NUM_THREADS"] = given
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    before, after, torchs = done.stdout.split()
    assert before == after == torchs
