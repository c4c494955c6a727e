"""A template that does not answer is said with what it does, and given up."""

import logging
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from slowfast_dist.config.errors import WorkerError
from slowfast_dist.system.workers import status
from slowfast_dist.system.workers import template as module
from slowfast_dist.system.workers.template import Template

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the template is for Linux alone")

IMPORTS = "import time; time.sleep(600)\n"


@pytest.mark.parametrize("how", ["is stopped: continue it with kill -CONT", "still imports its"])
def test_one_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Its owner is not: the next one is another template."""
    (tmp_path / "never_imported.py").write_text(IMPORTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "threads", lambda: 2)  # so it is started anew
    monkeypatch.setattr(status, "SLOW_SECONDS", 0.5)
    monkeypatch.setattr(status, "START_SECONDS", 1.5)
    template = Template("never_imported")
    if "stopped" in how:
        os.kill(template.pid, signal.SIGSTOP)
    files = len(os.listdir("/proc/self/fd"))
    said = f"^no worker can be started: no answer in 2 s: the process {template.pid}, .* {how}"
    with (
        caplog.at_level(logging.INFO, "slowfast_dist"),
        pytest.raises(WorkerError, match=said + ".*--data.num-workers 0"),
    ):
        template.fork(b"", [])
    [record] = caplog.records
    assert "a worker has not started in 1 s: the process" in record.message
    assert how in record.message and not template.is_usable()
    assert len(os.listdir("/proc/self/fd")) == files - 1  # its socket
    template.end()
    assert not psutil.pid_exists(template.pid)
