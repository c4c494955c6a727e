"""Sockets of a loader's processes: they work below any name, and nothing stays where they were."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from slowfast_dist.system.files import LONGEST
from tests.helpers.training_runs import ROOT, command_of

CODE = """
import torch
from torch.utils.data import DataLoader
from slowfast_dist.system.files import share_socket_folder
share_socket_folder()
print(sum(map(len, DataLoader([torch.zeros(1)] * 3, num_workers=1, timeout=200))))
"""


@pytest.mark.parametrize("length", [LONGEST, LONGEST + 1, 200])
def test_a_loader_works_whatever_the_length_of_its_name(length: int) -> None:
    with TemporaryDirectory(dir="/tmp") as base:
        folder = Path(base, "x" * (length - len(base) - 1))
        folder.mkdir()
        assert len(str(folder)) == length
        command, env = command_of("-c", CODE, env={"TMPDIR": str(folder)})
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
        )
        assert (done.returncode, done.stdout, list(folder.iterdir())) == (0, "3\n", [])
