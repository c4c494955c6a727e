"""What a loader's worker holds of its own when a list has many segments: it should be flat.

``python -m tests.campaigns.worker_memory --rows 1000 1000000 --files 100`` makes lists of so many
segments of as many files, reads clips of each by two workers, in a process of its own, and prints
one JSON list with the memory of a worker in MB, before its first clip and after the last: what is
its own, and in no file. The table is one, which all workers map.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.training import Config
from slowfast_dist.data.loaders import make_loaders
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.data.workers import end_workers, prepare_workers
from slowfast_dist.video.writer import write_video

SIZE = 64


def make(folder: Path, rows: int, files: int) -> Path:
    """``files`` names of one video of 20 s, and a list of segments of them."""
    folder.mkdir()
    frames = np.random.default_rng(0).integers(0, 256, (300, SIZE, SIZE, 3), np.uint8)
    write_video(folder / "0.mp4", iter(frames), 15)
    for number in range(1, files):
        os.link(folder / "0.mp4", folder / f"{number}.mp4")
    table = folder / "segments.csv"
    with open(table, "w") as file:
        file.write("path,label,start,end\n")
        for number in range(rows):
            start = number // files * 15 / (rows // files)
            file.write(
                f"{number % files}.mp4,class_{number // 7 % 5},{start:.4f},{start + 3:.4f}\n"
            )
    return table


def own_megabytes(pid: int) -> float:
    """Pages of a process that are of no file."""
    [size] = re.findall(
        r"^Anonymous: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M
    )
    return int(size) * 1024 / 1e6


def measure(table: Path, batches: int) -> dict[str, Any]:
    prepare_workers(2)
    data = DataConfig(
        root=table, num_frames=8, short_side=(SIZE, SIZE), crop_size=SIZE, num_workers=2
    )
    config = Config(data=data, micro_batch_size=4, global_batch_size=4)
    videos = find_videos(data, 0)
    loaders = make_loaders(config, videos, 0, 1, 1, pin=False)
    loaders.sampler.set_epoch(0, 0)
    read = iter(loaders.train)
    workers = [worker.pid for worker in read._workers]  # type: ignore[attr-defined]
    before = max(map(own_megabytes, workers))
    for _ in islice(read, batches):
        pass
    after = max(map(own_megabytes, workers))
    end_workers(loaders.train)
    return {
        "rows": len(videos.train) + len(videos.val), "before_mb": before, "after_mb": after,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 1_000_000])
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--measure", type=Path, help="read this list alone")
    options = parser.parse_args(arguments)
    if options.measure:
        found = [measure(options.measure, options.batches)]
    else:
        found = []
        for rows in options.rows:
            with tempfile.TemporaryDirectory(prefix="lists_") as folder:
                table = make(Path(folder, "list"), rows, options.files)
                command = [sys.executable, "-m", "tests.campaigns.worker_memory", "--measure",
                           str(table), "--batches", str(options.batches)]  # fmt: skip
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
                found += json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
