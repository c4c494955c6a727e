"""How long the import of many rows takes, and how much memory.

``python -m tests.campaigns.import_rows --rows 1000000 --files 10000`` makes names of one video and
a table of segments of them, imports it twice, the second time without looking at the videos again,
and prints one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.campaigns.worker_memory import make


def run(command: Sequence[str], env: dict[str, str]) -> dict[str, float]:
    """What a process took, with those that it waited for."""
    started = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {
        "cpu_seconds": used.ru_utime + used.ru_stime, "seconds": time.perf_counter() - started,
        "peak_mb": used.ru_maxrss / 1024,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="rows_") as folder:
        table = make(Path(folder, "videos"), options.rows, options.files)
        command = [sys.executable, "-m", "slowfast_dist", "import", str(table), "--videos",
                   str(table.parent), "--output", str(Path(folder, "list.csv")),
                   "--overwrite"]  # fmt: skip
        env = os.environ | {"XDG_CACHE_HOME": folder}
        found: dict[str, Any] = {"rows": options.rows, "files": options.files}
        found |= {which: run(command, env) for which in ("first", "again")}
        with open(Path(folder, "list.csv")) as file:
            found["imported"] = sum(1 for _ in file) - 1
    print(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
