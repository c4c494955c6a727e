"""What the CPU can do and how many threads compute, before torch can be asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slowfast_dist.distributed.accelerator import cpu_precision
from slowfast_dist.system.cpus import FORBIDDEN_BY, has_bf16, has_cpus_alone

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


@pytest.mark.skipif(sys.platform != "linux", reason="it is asked of Linux")
@pytest.mark.parametrize("file", ["nvidiactl", "nvmap", "kfd", "dri/renderD128", "dxg", "accel0"])
def test_where_there_may_be_another_device_torch_is_asked(tmp_path: Path, file: str) -> None:
    (tmp_path / "nvme0").touch()  # a disk
    assert has_cpus_alone({}, tmp_path, tmp_path / "modules")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    assert not has_cpus_alone({}, tmp_path, tmp_path / "modules")


def test_a_driver_whose_device_nobody_opened_yet_counts(tmp_path: Path) -> None:
    (tmp_path / "modules" / "nvidia").mkdir(parents=True)
    assert not has_cpus_alone({}, tmp_path, tmp_path / "modules")


def test_where_a_launcher_says_anything_torch_is_asked(tmp_path: Path) -> None:
    assert not has_cpus_alone({"ACCELERATE_TORCH_DEVICE": "cpu"}, tmp_path)


def test_cpus_alone_are_as_torch_sees_it() -> None:
    if has_cpus_alone({}):
        assert not torch.cuda.is_available() and not torch.xpu.is_available()
