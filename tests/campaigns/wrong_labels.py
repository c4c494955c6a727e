"""The demo with a share of its labels exchanged: are those on the list of probably wrong ones?

``python -m tests.campaigns.wrong_labels --seeds 1`` exchanges 5 % of the labels, cross-validates
the demo on them (5 trainings), and prints one JSON object: precision and recall of what ``review
--order wrong`` shows, how many of the suggested classes are the true ones, and the same of lists in
which the nearest clips have a say.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slowfast_dist.commands.review.run_source import folds_of
from slowfast_dist.commands.review.samples import in_order
from slowfast_dist.commands.review.sources import find_source
from slowfast_dist.config.commands.browser import Review
from slowfast_dist.data.synthetic import make_demo_videos, make_videos
from slowfast_dist.metrics.features.neighbours import count_labels
from slowfast_dist.metrics.summary import Predictions
from slowfast_dist.metrics.wrong_labels import doubts_of
from slowfast_dist.runs.predictions import read_predictions, with_neighbours


def exchange(videos: Path, table: Path, share: float, seed: int) -> dict[str, str]:
    """Write a list of all videos, a ``share`` of them with another class, drawn evenly; returns the
    true class of each of those."""
    rng = np.random.default_rng(seed)
    names = sorted(str(path.relative_to(videos)) for path in videos.glob("*/*.mp4"))
    classes = sorted({name.partition("/")[0] for name in names})
    chosen = rng.choice(len(names), round(share * len(names)), replace=False).tolist()
    wrong = {names[place]: names[place].partition("/")[0] for place in chosen}
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for name in names:
            label = name.partition("/")[0]
            others = [one for one in classes if one != label]
            writer.writerow([name, str(rng.choice(others)) if name in wrong else label])
    return wrong


def scores(folder: Path, wrong: dict[str, str]) -> dict[str, float]:
    """Of the list of a cross-validation: its length, precision and recall, and the share of those
    found for which the true class is suggested."""
    listed = in_order(find_source(folder, Review()), "wrong")
    found = [one for one in listed if one.path in wrong]
    right = sum(one.predicted == wrong[one.path] for one in found)
    return {
        "listed": len(listed), "exchanged": len(wrong),
        "precision": len(found) / len(listed), "recall": len(found) / len(wrong),
        "true_class": right / max(1, len(found)),
    }  # fmt: skip


def by_neighbours(folder: Path, wrong: dict[str, str]) -> dict[str, dict[str, float]]:
    """As `scores`, of two other lists: ``agreed``, those listed of which most nearest clips have
    the suggested class, and ``joined``, all that are listed and those that the nearest clips raise:
    most have another class than the label, the model's own prediction."""
    paths = [one / "predictions" / "val_best.csv" for one in folds_of(folder)]
    parts = [with_neighbours(path, read_predictions(path)) for path in paths]
    whole = Predictions.joined(parts)
    assert whole.nearest is not None
    listed = doubts_of(whole)
    agreed = [one.path for one in listed if 2 * one.nearest_probable > one.nearest]
    counts = count_labels(whole.nearest, whole.labels, len(whole.classes))
    said = whole.predicted
    own = np.take_along_axis(counts, said[:, None], axis=1)[:, 0]
    raised = (said != whole.labels) & (2 * own > counts.sum(axis=1))
    names = {whole.names[row] for row in np.flatnonzero(raised).tolist()}
    lists = {"agreed": set(agreed), "joined": names | {one.path for one in listed}}
    return {
        title: {
            "listed": len(one), "precision": len(one & wrong.keys()) / max(1, len(one)),
            "recall": len(one & wrong.keys()) / len(wrong),
        }
        for title, one in lists.items()
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.05, help="of the labels")
    parser.add_argument("--seeds", type=int, default=1, help="exchanges, each cross-validated")
    parser.add_argument("--clips", type=int, default=0, help="of a class; 0: the demo's own")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="keep all there, and go on there")
    options = parser.parse_args(arguments)
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        videos = folder / "videos"
        if options.clips and not videos.exists():
            make_videos(videos, options.clips, 0)
        make_demo_videos(videos)
        for seed in range(options.seeds):
            table = folder / f"labels_{seed}.csv"
            wrong = exchange(videos, table, options.share, seed)
            run = folder / f"run_{seed}"
            subprocess.run(
                [sys.executable, "-m", "slowfast_dist", "cross-validate", "demo",
                 "--data.synthetic", "false", "--data.root", table, "--data.videos", videos,
                 "--folds", str(options.folds), "--epochs", str(options.epochs),
                 "--wandb.mode", "disabled", "--output-dir", run, "--resume", "auto"],
                check=True, stdout=sys.stderr,
            )  # fmt: skip
            results.append({"seed": seed, **scores(run, wrong), **by_neighbours(run, wrong)})
        print(json.dumps(results))
    return results


if __name__ == "__main__":
    main()
