"""A list of many segments of few files against a list of as many files: time and memory to read it.

``python -m tests.campaigns.long_lists --rows 1000000 --files 10000`` makes empty files and both
lists, reads each in a process of its own, in turn, and prints one JSON object.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from slowfast_dist.data.listing.manifest import list_videos

FOLDERS = 100
"""Over which the files are spread: few file systems like a million in one."""

CLASSES = 50


def name(number: int) -> str:
    return f"{number % FOLDERS:02}/clip_{number:07}.mp4"


def make(folder: Path, rows: int, files: int) -> None:
    """Both lists, and the files that they name."""
    for number in range(FOLDERS):
        (folder / f"{number:02}").mkdir()
    for number in range(rows):
        (folder / name(number)).touch()
    with open(folder / "files.csv", "w") as whole, open(folder / "segments.csv", "w") as parts:
        whole.write("path,label\n")
        parts.write("path,label,start,end\n")
        for number in range(rows):
            label, start = f"class_{number % CLASSES}", 5 * (number // files)
            whole.write(f"{name(number)},{label}\n")
            parts.write(f"{name(number % files)},{label},{start}.25,{start + 3}.5\n")


def read(table: Path) -> dict[str, Any]:
    """What it takes this process, which does nothing else."""
    before, started = time.process_time(), time.perf_counter()
    rows = len(list_videos(table, "data.root").videos)
    return {
        "rows": rows, "cpu_seconds": time.process_time() - before,
        "seconds": time.perf_counter() - started,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--read", type=Path, help="read this list alone")
    options = parser.parse_args(arguments)
    if options.read:
        found = read(options.read)
    else:
        with tempfile.TemporaryDirectory(prefix="lists_") as folder:
            make(Path(folder), options.rows, options.files)
            found = {kind: {} for kind in ("segments", "files")}
            rounds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in found}
            for _ in range(options.repeats):
                for kind, several in rounds.items():
                    command = [sys.executable, "-m", "tests.campaigns.long_lists", "--read",
                               str(Path(folder, f"{kind}.csv"))]  # fmt: skip
                    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
                    several.append(json.loads(done.stdout))
            for kind, several in rounds.items():
                found[kind] = {fact: median(one[fact] for one in several) for fact in several[0]}
    print(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
