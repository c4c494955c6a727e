"""A template that does not answer is said with what it does, and given up."""

import errno
import gc
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from slowfast_dist.config.errors import WorkerError
from slowfast_dist.system.workers import status
from slowfast_dist.system.workers import template as module
from slowfast_dist.system.workers.template import Template, start_template

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


@pytest.mark.parametrize("kind", ["forked", "started anew"])
def test_a_limit_of_processes_or_files_is_one_line(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def refuse(*arguments: Any, **others: Any) -> Any:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    gc.collect()
    files = sorted(os.listdir("/proc/self/fd"))
    said = "^no worker can be started: Resource temporarily unavailable$"
    with monkeypatch.context() as patch:
        patch.setattr(module, "threads", lambda: 1 if kind == "forked" else 2)
        patch.setattr(os, "fork", refuse)
        patch.setattr(subprocess, "Popen", refuse)
        with pytest.raises(WorkerError, match=said):
            Template("json")
    assert sorted(os.listdir("/proc/self/fd")) == files
    template = start_template()
    files = sorted(os.listdir("/proc/self/fd"))
    for what, name in ((module, "new_memory"), (os, "pipe")):
        with monkeypatch.context() as patch:
            patch.setattr(what, name, refuse)
            with pytest.raises(WorkerError, match=said):
                template.fork(b"", [])
        assert sorted(os.listdir("/proc/self/fd")) == files
