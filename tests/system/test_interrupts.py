"""What is taken for the end of standard output, and what is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.training_runs import ROOT

COMMAND = """
import os, sys
from slowfast_dist.cli import main as cli
def act(words):
    {act}
cli.choose = act
cli.main([])
"""

OTHER_PIPE = "read, write = os.pipe(); os.close(read); os.write(write, b'x')"
OTHER_FULL = "os.write(os.open('/dev/full', os.O_WRONLY), b'x')"
PRINT = "print('x', flush=True)"


def ended(act: str, unbuffered: str, stdout: int) -> tuple[int, str]:
    """Exit code and standard error of a command that does ``act``."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND.format(act=act)], cwd=ROOT, stdout=stdout,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows says it in another way")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_broken_pipe_is_that_of_standard_output_only_where_that_is_closed(
    unbuffered: str,
) -> None:
    read, write = os.pipe()
    os.close(read)
    assert ended(PRINT, unbuffered, write) == (141, "")
    os.close(write)
    code, said = ended(OTHER_PIPE, unbuffered, subprocess.DEVNULL)
    assert code == 1 and said.endswith("BrokenPipeError: [Errno 32] Broken pipe\n")


TRAINING = """
import os, sys
from slowfast_dist.training.run import _closed_output_said
try:
    with _closed_output_said():
        {act}
except Exception as error:
    print(type(error).__name__, file=sys.stderr)
os._exit(0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows says it in another way")
@pytest.mark.parametrize(("act", "name"), [(PRINT, "RunError"), (OTHER_PIPE, "BrokenPipeError")])
def test_a_training_says_that_its_output_was_closed_only_where_it_was(act: str, name: str) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", TRAINING.format(act=act)], cwd=ROOT, stderr=subprocess.PIPE,
        stdout=write if act == PRINT else subprocess.DEVNULL, text=True,
    )  # fmt: skip
    os.close(write)
    assert done.stderr.splitlines()[-1] == name


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_that_of_standard_output_only_where_that_is_full() -> None:
    full = "No space left on device: disk full\n"
    with open("/dev/full", "w") as output:
        for unbuffered in ("", "1"):
            code_and_line = ended(PRINT, unbuffered, output.fileno())
            assert code_and_line == (1, f"error: standard output: {full}")
    code, said = ended(OTHER_FULL, "", subprocess.DEVNULL)
    assert code == 1 and said.startswith("error: a file that the system does not name (of /dev/shm")
    assert said.endswith(full) and "standard output" not in said
