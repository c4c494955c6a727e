"""What a checkpoint counts on is on the disk before it: the system calls of a real training."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from slowfast_dist.data.synthetic import make_videos
from tests.helpers.training_runs import ROOT, TINY, command_of, rows

CALL = re.compile(r"^(?:\d+ +)?(write|fsync|rename\w*)\((.*)")
"""Where another thread's call came between its begin and its end, a line has the begin alone."""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing: apt-get install it")
def test_rows_are_on_the_disk_before_the_checkpoint_of_their_step(tmp_path: Path) -> None:
    root, output, trace = tmp_path / "videos", tmp_path / "run", tmp_path / "trace"
    make_videos(root, 4, seed=0, size=32, frames=12, classes=("moves left", "turns clockwise"))
    words, environment = command_of(
        ROOT / "train.py", *TINY, "--data.root", root, "--epochs", "2", "--global-batch-size", "2",
        "--micro-batch-size", "2", "--checkpoint.every-steps", "2", "--log-samples",
        "--output-dir", output,
    )  # fmt: skip
    traced = ["strace", "-f", "-y", "-s", "0", "-e", "trace=write,fsync,rename,renameat,renameat2"]
    done = subprocess.run(
        [*traced, "-o", trace, *words], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=1200,
    )  # fmt: skip
    if done.returncode and "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    saved, unsynced = 0, set[str]()
    for line in trace.read_text(errors="replace").splitlines():
        found = CALL.match(line)
        if found is None:
            continue
        call, arguments = found.groups()
        appended = [
            name for name in ("metrics.jsonl", "samples.csv", "training_log.txt")
            if f"/{name}>" in arguments
        ]  # fmt: skip
        if call == "write":
            unsynced |= {*appended}
        elif call == "fsync":
            unsynced -= {*appended}
        elif re.search(r'checkpoints/step_\d+"(\)| <)', arguments):
            assert unsynced == set(), f"{arguments}: not yet on the disk: {unsynced}"
            saved += 1
    assert saved == len(rows(output, "checkpoint")) >= 4
