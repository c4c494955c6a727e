"""What a child sends comes through whole, and so does how it ended."""

from pathlib import Path

import pytest

from slowfast_dist.system.child import Message
from slowfast_dist.system.stream import Ended, StreamProcess
from tests.helpers.child_modules import importable

CHATTY = """
import numpy as np, os
def work(channel, request):
    os.write(1, b"noise\\n")
    channel.send({"said": request["word"]}, np.arange(6, dtype="u1").reshape(2, 3))
    channel.send({"told": channel.receive().header["values"]})
    1 / 0
"""


def test_a_process_that_prints_and_a_bug_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a library prints is no message; an error of ours comes with its traceback."""
    got: list[Message | Ended] = []
    work = importable(tmp_path, monkeypatch, CHATTY, "work")
    with StreamProcess(work, {"word": "é"}, got.append) as process:
        process.send({"values": [1, 2]})
        process._thread.join(300)
    first, second, bug, end = got
    assert isinstance(first, Message) and first.header == {"said": "é"}
    assert first.data is not None and first.data.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert isinstance(second, Message) and second.header == {"told": [1, 2]}
    assert isinstance(bug, Message) and "ZeroDivisionError" in bug.header["bug"]
    assert end == Ended("exit code 1")


def test_a_process_that_is_killed_says_by_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[Message | Ended] = []
    code = "import os, signal\ndef work(channel, request): os.kill(os.getpid(), signal.SIGSEGV)\n"
    with StreamProcess(importable(tmp_path, monkeypatch, code, "work"), {}, got.append) as process:
        process._thread.join(300)
    assert got == [Ended("signal SIGSEGV")]
