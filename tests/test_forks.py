"""That a script which is forked (tests/helpers/forks.py) does what one that is started does."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers import forks
from tests.helpers.training_runs import command_of, launch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the template is for Linux alone")

SCRIPT = """
import atexit, os, signal, sys, threading, time
atexit.register(print, "the end")
print(sys.argv[1:], __name__, os.path.basename(__file__), os.getcwd(), sys.path[0])
print(os.environ["ACCELERATE_USE_CPU"], [signal.getsignal(n) for n in (2, 10, 15)])
print("é", file=sys.stderr)
threading.Thread(target=lambda: (time.sleep(0.1), print("a thread"))).start()
{end}
"""

ONE_FAILS = """
import os, pathlib, time
there = pathlib.Path({there!r})
while os.environ["RANK"] == "0":  # the other one is a process that has begun
    if there.exists():
        raise SystemExit(4)
    time.sleep(0.02)
print(os.getpid(), flush=True)
there.touch()
time.sleep(600)
"""


@pytest.mark.parametrize(
    "end", ["", "sys.exit(3)", "sys.exit('said')", "1 / 0", "os.kill(os.getpid(), signal.SIGTERM)"]
)
def test_it_prints_and_ends_alike(tmp_path: Path, end: str) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.format(end=end), encoding="utf-8")
    forked, started = (
        launch(tmp_path / "script.py", "a b", "--c", fork=fork) for fork in (True, False)
    )
    assert (forked.returncode, forked.stdout) == (started.returncode, started.stdout)
    # The fork's traceback begins in what runs the script.
    assert forked.stderr.splitlines()[:1] == started.stderr.splitlines()[:1]
    assert forked.stderr.splitlines()[-1:] == started.stderr.splitlines()[-1:]
    assert isinstance(forked, subprocess.CompletedProcess) and forked.args == started.args


def test_of_several_each_knows_its_rank_and_a_failed_one_ends_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "script.py"
    script.write_text("import os\nprint(os.environ['RANK'], os.environ['WORLD_SIZE'], flush=True)")
    assert sorted(launch(script, processes=3).stdout.split("\n")) == ["", "0 3", "1 3", "2 3"]
    monkeypatch.setattr(forks, "FAIL_SECONDS", 1.0)
    script.write_text(ONE_FAILS.format(there=str(tmp_path / "there")))
    failed = launch(script, processes=2)
    assert failed.returncode == 4 and not psutil.pid_exists(int(failed.stdout))


def test_one_that_takes_too_long_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[forks.Fork] = []

    class Noted(forks.Fork):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            begun.append(self)

    monkeypatch.setattr(forks, "Fork", Noted)
    (tmp_path / "script.py").write_text("import time\ntime.sleep(600)")
    _, environment = command_of("-")
    with pytest.raises(TimeoutError, match="not within 0 s"):
        forks.run([str(tmp_path / "script.py")], [environment], seconds=0.3)
    (killed,) = begun
    assert killed.returncode == -signal.SIGKILL and not psutil.pid_exists(killed.pid)
