"""Whoever serves a process ends with it, also where that process is killed outright.

What a child sends comes through whole, and so does how it ended.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.system.child import Ended, Message, StreamProcess
from tests.helpers.child_modules import importable
from tests.helpers.training_runs import ROOT, living

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the kernel")

LOADER = """
import os, sys, time
from pathlib import Path
from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.listing.columns import InfoColumns
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.data.loaders import make_evaluation_loader
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.video.probe import probe_file

videos = list_videos(Path(sys.argv[1]), "data", single_class=True).videos
videos = videos.probed(InfoColumns.of([probe_file(video.path) for video in videos]))
clips = EvaluationClips(videos, DataConfig(num_frames=4, crop_size=32))
videos[1].path.unlink()
os.mkfifo(videos[1].path)
batches = iter(make_evaluation_loader(clips, 1, 2, 0, 1, pin=False))
next(batches)
Path(sys.argv[1], "started").touch()
time.sleep(600)
"""
"""Two loader workers, each with its decoding child, one of which hangs."""

PROBE = """
import sys, time
from pathlib import Path
from slowfast_dist.system.workers.pool import map_in_children

folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
(folder / "hanging.py").write_text(
    "import time\\n"
    "def answer(path): time.sleep(600 if path.name == 'hangs' else 0)\\n"
)
import hanging
for _ in map_in_children(hanging.answer, [Path("hangs"), Path("a")], 2, lambda _: 600):
    (folder / "started").touch()
"""
"""Two probing processes, one of which hangs and so does not see the end of its input."""


@pytest.mark.parametrize(("code", "below"), [(LOADER, 4), (PROBE, 2)], ids=["loader", "probe"])
def test_a_killed_process_leaves_no_orphan(tmp_path: Path, code: str, below: int) -> None:
    make_videos(tmp_path / "videos", 4, seed=0, size=32, frames=6, classes=("moves left",))
    process = psutil.Popen(
        [sys.executable, "-c", code, tmp_path / "videos"], cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    started, deadline = tmp_path / "videos" / "started", time.monotonic() + 300
    while len(orphans := process.children(recursive=True)) < below or not started.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert living(orphans, 5) == []


LATE = """
import os, sys, time
from slowfast_dist.system.signals import die_with_parent
parent = os.getpid()
if not os.fork():
    while os.getppid() == parent:
        time.sleep(0.01)
    die_with_parent(parent)
    print("lives on", flush=True)
"""


def test_one_whose_parent_has_ended_already_ends_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LATE], cwd=ROOT, capture_output=True, text=True, timeout=120
    )  # returns when the child, too, has let go of standard output
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("script", "environment", "launched"),
    [
        ("accelerate", {"RANK": "0"}, True),
        ("accelerate_job.sh", {"RANK": "0"}, False),
        ("accelerate", {}, False),
    ],
)
def test_what_a_script_leaves_in_the_background_outlives_it_unless_it_is_a_launcher(
    tmp_path: Path, script: str, environment: dict[str, str], launched: bool
) -> None:
    path = tmp_path / script
    code = "from slowfast_dist.distributed.launchers import launcher; print(launcher() is not None)"
    path.write_text(f"{sys.executable} -c '{code}'; true # accelerate launch\n")
    clean = {name: value for name, value in os.environ.items() if "RANK" not in name}
    env = clean | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(["sh", str(path)], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout == f"{launched}\n", done.stderr


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
