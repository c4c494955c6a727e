"""What the CPU can do and how many threads compute, before torch can be asked."""

import os
import subprocess
import sys

import pytest

from slowfast_dist.distributed.accelerator import cpu_precision
from slowfast_dist.system.cpus import FORBIDDEN_BY, has_bf16

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


def test_bf16_is_known_as_torch_would_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if any(map(os.environ.get, (*FORBIDDEN_BY, "ACCELERATE_MIXED_PRECISION"))):
        pytest.skip("torch was told of it when it was imported")
    known = has_bf16()
    if known is not None:  # Linux, on x86
        assert cpu_precision("auto") == ("bf16" if known else "no")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert has_bf16() is (None if known else known)
