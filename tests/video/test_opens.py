"""A loader's process opens its videos some thousand times an epoch: nothing of them stays."""

import os
import subprocess
import sys
from typing import Any

import pytest

from tests.helpers.training_runs import ROOT

READS = """
import sys
from pathlib import Path
import numpy as np
import psutil
from slowfast_dist.video.guarded_reader import GuardedReader
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.views import SpatialView
from slowfast_dist.video.reader import read_frames
from slowfast_dist.system.memory import give_back_free_memory

way, decoder, opens, paths = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
videos = [(Path(path), probe_file(Path(path))) for path in paths]
view = SpatialView(4, 20, 48, 64, 32, True)
reader = GuardedReader()
read = reader.read if way == "guard" else read_frames

def state():
    give_back_free_memory()  # as the guard's child does; what is left is held
    processes = [psutil.Process(), *psutil.Process().children()]
    return [
        sum(process.memory_full_info().uss for process in processes),
        sum(process.num_fds() for process in processes),
        sum(process.num_threads() for process in processes),
        len(processes),
    ]

for number in range(opens):
    if number == opens // 10:
        before = state()
    path, info = videos[number % len(videos)]
    read(path, np.array([number % info.frames, 3]), info, decoder, view)
print(*before, *state())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the guard is for Linux alone")
@pytest.mark.parametrize(
    ("way", "decoder", "opens"),
    [("guard", "auto", 10_000), ("directly", "auto", 10_000), ("directly", "decord", 2_000)],
)
def test_ten_thousand_opens_leave_memory_files_and_threads_as_they_were(
    videos: Any, way: str, decoder: str, opens: int
) -> None:
    """Memory that belongs to the processes alone, from the first tenth of the opens on."""
    if decoder == "decord":
        pytest.importorskip("decord")
    kinds = ["H.264"] if decoder == "decord" else ["H.264", "H.264 cut", "VP9", "MPEG-4"]
    paths = [videos.path(kind) for kind in kinds]
    done = subprocess.run(
        [sys.executable, "-c", READS, way, decoder, str(opens), *paths], cwd=ROOT,
        capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    memory, files, threads, processes, *after = map(int, done.stdout.split())
    print(f"{opens} opens {way}, {decoder}: {(after[0] - memory) / 1024:.0f} kB more")
    assert after[0] - memory < 5 * 1024**2
    assert after[1:] == [files, threads, processes]
