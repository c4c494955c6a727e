"""How long `predict` takes from the shell to the answer of one short video, and `--help`.

    python -m tests.campaigns.start                          # torch, ONNX Runtime, OpenVINO, --help
    python -m tests.campaigns.start --against ../before      # another checkout, in turn; ratios

A model of random weights (slowfast_tiny) and a video of 5 s are made. `predict` is without
`--backend`, once by torch (*first*: nothing was chosen yet) and then as an `evaluate` of many views
has left it, as a training of a minute does. Each command is started RUNS times, after one that does
not count, CPU and wall seconds are those of the process and all that it waited for, as the
operating system counts them. Printed are medians, and the median of the ratios of runs that
followed each other. `import torch` alone stands beside them: what needs torch is never faster.
What is compiled lies in a cache folder of its own.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.system.child import how_it_ended
from tests.helpers.predictors import MOTIONS
from tests.helpers.small_model import write_model

ROOT = Path(__file__).parents[2]

CLIP = DataConfig(num_frames=16, sampling_rate=4, short_side=(128, 128), crop_size=112)
"""As the preset of a first training on a laptop has it."""


def run(words: list[str], checkout: Path) -> tuple[float, float]:
    """CPU and wall seconds of a command of Python's."""
    begin = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    # -P: the current folder is no place to import from.
    command = [sys.executable, "-P", *words]
    pid = os.posix_spawn(sys.executable, command, environment, file_actions=null)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - begin
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"python {' '.join(words)}: {how_it_ended(code)}, with {checkout}")
    return usage.ru_utime + usage.ru_stime, wall


def commands(folder: Path) -> dict[str, list[str]]:
    """What is measured, by name, in this order; what it needs is made in the folder."""
    models = write_model(folder / "run" / "models", MOTIONS, data=CLIP)
    make_videos(folder / "videos", 1, seed=0, size=240, frames=150, classes=MOTIONS)
    video = next((folder / "videos").rglob("*.mp4"))
    module = ["-m", "slowfast_dist"]
    predict = [*module, "predict", str(models), str(video)]
    run([*module, "export", str(models), "--format", "onnx"], ROOT)
    table = {
        "import torch": ["-c", "import torch"],
        "--help": [*module, "--help"],
        "predict --help": [*module, "predict", "--help"],
        "predict, first": predict,
        "predict --backend onnx": [*predict, "--backend", "onnx"],
    }
    if all(map(find_spec, ("openvino", "onnx", "onnxscript"))):
        views = ["--temporal-views", "10", "--spatial-crops", "3"]
        output = ["--output", str(folder / "evaluated"), "--num-workers", "0"]
        data = ["--data", str(folder / "videos")]
        table["evaluate"] = [*module, "evaluate", str(folder / "run"), *data, *views, *output]
        table["predict, chosen"] = predict
    return table


def main(words: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--against", type=Path, help="another checkout; it predicts by torch")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON object at last")
    given = parser.parse_args(words)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        os.environ["SLOWFAST_DIST_CACHE"] = name
        table = commands(Path(name))
        for title, command in table.items():
            if title == "evaluate":
                run(command, ROOT)
                continue
            other = table["predict, first"] if "--backend" in command else command
            rows: list[tuple[float, ...]] = []
            for _ in range(1 + given.runs):
                row: tuple[float, ...] = run(command, ROOT)
                if given.against and title != "import torch":
                    row += run(other, given.against.resolve())
                rows.append(row)
            columns = list(zip(*rows[1:], strict=True))
            one = {"cpu_seconds": median(columns[0]), "wall_seconds": median(columns[1])}
            if len(columns) > 2:
                for place, kind in enumerate(("cpu", "wall")):
                    pairs = list(zip(columns[place], columns[place + 2], strict=True))
                    one[f"against_{kind}_seconds"] = median(other for _, other in pairs)
                    one[f"{kind}_ratio"] = median(ours / other for ours, other in pairs)
            found[title] = one
            figures = "  ".join(f"{key} {value:.3f}" for key, value in one.items())
            print(f"{title:<24}{figures}", flush=True)
    if given.json:
        print(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
