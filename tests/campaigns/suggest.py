"""Accuracy against the number of labels, where ``suggest`` chooses what to label, and at random.

``python -m tests.campaigns.suggest --seeds 5`` trains one model on discs that move aslant and turn
at once, as a start: from scratch 18 clips teach nothing. Then, with the demo's six motions, a pool
of videos and others to measure on, for each seed: it labels some of the pool at random, equally
many a class, and trains the head; lets ``suggest`` choose as many more, takes their known labels
and trains anew on all; and again. At random the same is done from the same first labels. It prints
a table, and the accuracies as JSON. Started again with the same ``--folder`` it goes on where it
stopped.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from scipy import stats

from slowfast_dist.data.synthetic import (
    DEMO_FRAMES,
    DEMO_SIZE,
    MOTIONS,
    Motion,
    make_videos,
    moving_disc,
)
from slowfast_dist.video.writer import write_video

SMALL = (
    "--data.synthetic", "false", "--data.num-frames", "8", "--data.sampling-rate", "2",
    "--data.short-side", "48", "48", "--data.crop-size", "48", "--data.num-workers", "0",
    "--wandb.mode", "disabled",
)  # fmt: skip
"""Behind the preset demo: half its frames and of their pixels, so that a training takes seconds."""

ASLANT = {
    f"{x} {y} {turn}": Motion(x, y, turn)
    for x in (-1, 1) for y in (-1, 1) for turn in (-1, 1)
}  # fmt: skip
"""Motions of the first model: none of the demo's, of which each moves or turns in one way alone."""

PROBE = (
    "--model.freeze", "backbone", "--model.probe", "true", "--optimizer.lr", "1e-6", "--epochs",
    "1", "--schedule.warmup-epochs", "0",
)  # fmt: skip
"""Of a few labels only the head learns, a logistic regression: what differs is which labels."""

WAYS = ("suggest", "random")


def start(words: Sequence[object]) -> None:
    subprocess.run(
        [sys.executable, "-m", "slowfast_dist", *map(str, words)], check=True, stdout=sys.stderr
    )


def first_model(folder: Path, videos: int, epochs: int) -> Path:
    """The run that the others start from, trained if it is not there yet."""
    run, root = folder / "first_model", folder / "aslant"
    if (run / "done").exists():
        return run
    for number, (name, motion) in enumerate(ASLANT.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(videos):
            rng = np.random.default_rng([2, number, index])
            frames = moving_disc(motion, DEMO_SIZE, DEMO_FRAMES, rng)
            write_video(root / name / f"{index:03d}.mp4", frames, 15)
    start([
        "train", "demo", "--data.root", root, *SMALL, "--evaluation.every", 5, "--epochs", epochs,
        "--data.val-fraction", "0.1", "--output-dir", run, "--resume", "auto",
    ])  # fmt: skip
    (run / "done").touch()
    return run


class Trial:
    """The trainings of one seed, in ``folder``, from the model of the run ``first``."""

    def __init__(self, folder: Path, videos: Path, first: Path, seed: int, step: int) -> None:
        self.folder, self.videos, self.model = folder, videos, first
        self.seed, self.step = seed, step
        folder.mkdir(parents=True, exist_ok=True)
        self.pool = sorted(path.relative_to(videos).as_posix() for path in videos.glob("*/*.mp4"))
        self.measured = sorted(
            path.relative_to(videos.parent).as_posix() for path in videos.parent.glob("val/*/*")
        )

    def first(self) -> list[str]:
        """Equally many of each class, at random."""
        rng = np.random.default_rng(self.seed)
        of_class = [[one for one in self.pool if one.startswith(name)] for name in MOTIONS]
        return [
            str(one) for some in of_class for one in rng.choice(some, self.step // 6, replace=False)
        ]

    def train(self, name: str, labelled: Sequence[str]) -> float:
        """The accuracy after the last epoch."""
        table, run = self.folder / f"{name}.csv", self.folder / name
        with open(table, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "split"])
            for path in labelled:
                writer.writerow([f"pool/{path}", path.split("/")[0], "train"])
            writer.writerows([path, path.split("/")[1], "val"] for path in self.measured)
        if not (run / "done").exists():
            start([
                "train", "demo", "--data.root", table, "--data.videos", self.videos.parent, *SMALL,
                *PROBE, "--model.weights", self.model, "--seed", self.seed, "--output-dir", run,
                "--resume", "auto",
            ])  # fmt: skip
            (run / "done").touch()
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return float([row["val/accuracy"] for row in rows if "val/accuracy" in row][-1])

    def more(self, way: str, name: str, labelled: Sequence[str], count: int) -> list[str]:
        """Further paths to label."""
        if way == "random":
            rest = sorted(set(self.pool) - set(labelled))
            rng = np.random.default_rng([self.seed, len(labelled)])
            return [str(one) for one in rng.choice(rest, count, replace=False)]
        output = self.folder / f"after_{name}.csv"
        start([
            "suggest", self.folder / name, self.videos, "--count", count, "--output", output,
            "--overwrite", "--seed", self.seed, "--num-workers", "0",
        ])  # fmt: skip
        with open(output, encoding="utf-8", newline="") as file:
            paths = [Path(row["path"]) for row in csv.DictReader(file)]
        return [path.relative_to(self.videos.absolute()).as_posix() for path in paths]

    def run(self, rounds: int) -> dict[str, list[float]]:
        """Of each way the accuracy with step, 2 step, ... labels."""
        first = self.first()
        start_accuracy = self.train("start", first)
        found = {}
        for way in WAYS:
            labelled, name, accuracies = list(first), "start", [start_accuracy]
            for number in range(1, rounds + 1):
                labelled += self.more(way, name, labelled, self.step)
                name = f"{way}_{number}"
                accuracies.append(self.train(name, labelled))
            found[way] = accuracies
        return found


def table_of(results: Sequence[Mapping[str, Any]], step: int) -> str:
    """In Markdown: means over seeds, and the difference's interval."""
    lines = ["| labels | suggest | random | difference (95 % over seeds) |", "|---|---|---|---|"]
    for place in range(len(results[0]["random"])):
        labels = step * (place + 1)
        chosen, drawn = ([one[way][place] for one in results] for way in WAYS)
        low, high = interval([a - b for a, b in zip(chosen, drawn, strict=True)])
        difference = mean(chosen) - mean(drawn)
        cells = f"{mean(chosen):.3f} | {mean(drawn):.3f} | {difference:+.3f} ({low:+.3f} to "
        lines.append(f"| {labels} | {cells}{high:+.3f}) |")
    return "\n".join(lines)


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Of their mean, by Student's t; NaN of one."""
    if len(differences) < 2 or len(set(differences)) == 1:
        return (differences[0], differences[0]) if len(differences) > 1 else (nan, nan)
    error = stats.sem(differences)
    low, high = stats.t.interval(0.95, len(differences) - 1, mean(differences), error)
    return float(low), float(high)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2, help="of choosing, after the first labels")
    parser.add_argument("--step", type=int, default=18, help="labels at first and of each round")
    parser.add_argument("--epochs", type=int, default=10, help="of the first model")
    parser.add_argument("--aslant", type=int, default=40, help="its videos a class")
    parser.add_argument("--pool", type=int, default=30, help="videos a class to choose from")
    parser.add_argument("--val", type=int, default=12, help="videos a class to measure on")
    parser.add_argument("--folder", type=Path, help="keep all there, and go on there")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        if not (folder / "videos" / "done").exists():
            make_videos(folder / "videos" / "pool", options.pool, 0)
            make_videos(folder / "videos" / "val", options.val, 1)
            (folder / "videos" / "done").touch()
        first = first_model(folder, options.aslant, options.epochs)
        results = []
        for seed in range(options.seeds):
            trial = Trial(
                folder / f"seed_{seed}", folder / "videos" / "pool", first, seed, options.step
            )
            results.append({"seed": seed, **trial.run(options.rounds)})
    print(table_of(results, options.step))
    print(json.dumps(results))
    return results


if __name__ == "__main__":
    main()
