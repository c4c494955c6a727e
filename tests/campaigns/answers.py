"""How long the model of a run takes for a clip, by another checkout and by this one, in turn.

    git worktree add ../before COMMIT
    OMP_NUM_THREADS=2 python -m tests.campaigns.answers RUN --against ../before

Each is a process of its own, which waits while others compute: the other checkout's torch, this
one's torch and its OpenVINO, by the file that `export` left beside the model where there is one.
Clips are random bytes: they change no time. Printed are medians, and the median of the ratios to
the other checkout in the same round.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]

WORKER = """
import sys, time
from pathlib import Path
import numpy as np
from slowfast_dist.inference.predictor import open_predictor
run, backend, precision = sys.argv[1:]
predictor = open_predictor(Path(run), backend, precision)
network, data = predictor.network, predictor.best.data
out, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    size = (int(line), data.num_frames, data.crop_size, data.crop_size, 3)
    clips = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    wall, cpu = time.perf_counter(), time.process_time()
    network(clips)
    print(time.perf_counter() - wall, time.process_time() - cpu, file=out, flush=True)
"""
"""Computes as many clips as a line says, and answers with seconds, of the clock and of CPUs. What
it imports is in every checkout since 86b0ea3."""


class Worker:
    """A process of ``checkout`` that has loaded the model."""

    def __init__(self, checkout: Path, run: Path, backend: str, precision: str) -> None:
        words = [sys.executable, "-P", "-c", WORKER, str(run.resolve()), backend, precision]
        self.process = subprocess.Popen(
            words, env=os.environ | {"PYTHONPATH": str(checkout.resolve())}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def compute(self, clips: int) -> tuple[float, float]:
        ask, answer = self.process.stdin, self.process.stdout
        assert ask is not None and answer is not None
        print(clips, file=ask, flush=True)
        line = answer.readline()
        while line and len(line.split()) != 2:  # what it says of the model
            line = answer.readline()
        if not line:
            raise SystemExit(f"it ended: {self.process.args!r}")
        wall, cpu = map(float, line.split())
        return wall, cpu


def main(words: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--against", type=Path, required=True, help="another checkout")
    parser.add_argument("--mixed-precision", default="bf16", choices=("no", "bf16"))
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args(words)
    precision = given.mixed_precision
    workers = {"before": Worker(given.against, given.run, "torch", precision)}
    workers |= {name: Worker(ROOT, given.run, name, precision) for name in ("torch", "openvino")}
    found: dict[str, dict[str, float]] = {}
    for batch in given.batch_sizes:
        rows: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
        for number in range(given.rounds + 1):
            for name, worker in workers.items():
                seconds = worker.compute(batch)
                if number:  # the first one sets things up
                    rows[name].append(seconds)
        for name, times in rows.items():
            one = {}
            for place, kind in enumerate(("wall", "cpu")):
                pairs = zip(times, rows["before"], strict=True)
                one[f"{kind}_ms"] = 1000 * median(row[place] for row in times) / batch
                one[f"{kind}_ratio"] = median(row[place] / other[place] for row, other in pairs)
            found[f"{name} {batch}"] = one
            figures = "  ".join(f"{key} {value:.3f}" for key, value in one.items())
            print(f"{name:<10}batch {batch}  {figures}", flush=True)
    for worker in workers.values():
        worker.process.kill()
        worker.process.wait()
    print(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
