"""Whether ``pretrain`` helps: trainings on few labelled clips from scratch, and from its weights.

``python -m tests.campaigns.pretrain DATA`` does so on class folders of clips whose names tell their
recording (seq01). The recordings, in order, are dealt out to five parts. Two parts are held out of
everything; the videos of the other three are pretrained on as a folder without labels; and each of
the three is once the labelled part, on which a training from scratch and one from these weights
start, alike but for that, to be scored on the clips held out. It prints and writes OUT/pretrain.md
and .json: macro-F1 and accuracy of both, and their differences, with intervals over the recordings
held out. ``--shift 1`` to 4 hold out other parts. ``--pretrain``, ``--train`` and ``--started``
take flags for the pretraining, for both trainings, and for those from its weights. Started again it
goes on where it stopped.
"""

import argparse
import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.scores import classification_metrics
from slowfast_dist.runs.predictions import read_predictions
from tests.campaigns.recipes import TODAY, once

PARTS = 5
HELD_OUT = (0, 4)
"""Of these parts."""

PATTERN, RECIPE = TODAY[1], TODAY[2:]

FEW_CLIPS = (
    "--optimizer.ema", "0.99", "--epochs", "64", "--evaluation.every", "64",
    "--data.num-workers", "0", "--wandb.mode", "disabled", "--report.explain", "0",
)  # fmt: skip
"""Behind RECIPE: the preset few-clips, scored once."""

STARTED = ("--model.norm", "local")
"""Of trainings from pretrained weights: as from scratch."""

WITHOUT_LABELS = (
    "--data.num-workers", "0", "--wandb.mode", "disabled", "--report.explain", "0",
)  # fmt: skip
"""Of the pretraining, whose preset has the rest."""

SCORES = ("f1_macro", "accuracy")
WAYS = ("scratch", "pretrained")


def dealt(data: Path, shift: int) -> list[list[str]]:
    """The clips of each part, by their paths below ``data``."""
    recordings: dict[str, list[str]] = {}
    for path in sorted(path.relative_to(data).as_posix() for path in data.glob("*/*.*")):
        recordings.setdefault(recording(path), []).append(path)
    parts: list[list[str]] = [[] for _ in range(PARTS)]
    for number, name in enumerate(sorted(recordings)):
        parts[(number + shift) % PARTS] += recordings[name]
    return parts


def write_list(path: Path, labelled: Sequence[str], held_out: Sequence[str]) -> None:
    sides = {"train": labelled, "val": held_out}
    rows = [f"{one},{one.partition('/')[0]},{side}" for side in sides for one in sides[side]]
    path.write_text("\n".join(["path,label,split", *rows]) + "\n", encoding="utf-8")


def scores(run: Path) -> dict[str, float]:
    """Of the validation's clips, by the best model."""
    found = read_predictions(run / "predictions" / "val_best.csv")
    hits = int((found.labels == found.predicted).sum())
    measured = classification_metrics(found.labels, found.predicted, len(found.classes), hits)
    return {name: measured[name] for name in SCORES}


def recording(path: str) -> str:
    """Raises AssertionError for a name that tells of none."""
    found = re.search(PATTERN, path.partition("/")[2])
    assert found, f"{path} names no recording"
    return found[0]


def f1_and_accuracy(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.float64]:
    """(2,): as SCORES, over the classes that occur."""
    of_class = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    right = np.bincount(labels[labels == predicted], minlength=classes)
    there = of_class > 0
    return np.array([(2 * right[there] / of_class[there]).mean(), (labels == predicted).mean()])


def gains(output: Path, parts: Sequence[int], resamples: int = 1000) -> dict[str, list[float]]:
    """Of each of SCORES the mean over parts of what pretraining adds, and a 95 % interval: the
    recordings held out are drawn with replacement, the same for both trainings."""
    found = [
        [read_predictions(output / f"{way}_{part}" / "predictions" / "val_best.csv")
         for way in WAYS] for part in parts
    ]  # fmt: skip
    names = found[0][0].names
    assert all(list(one.names) == list(names) for pair in found for one in pair)
    _, codes = np.unique([recording(name) for name in names], return_inverse=True)

    def gained(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        each = [
            [f1_and_accuracy(one.labels[rows], one.predicted[rows], len(one.classes))
             for one in pair] for pair in found
        ]  # fmt: skip
        return np.mean([more - less for less, more in each], axis=0)

    rng, count = np.random.default_rng(0), int(codes.max()) + 1
    members = [np.flatnonzero(codes == code) for code in range(count)]
    drawn = [
        gained(np.concatenate([members[code] for code in rng.integers(count, size=count)]))
        for _ in range(resamples)
    ]
    ends = np.quantile(drawn, [0.025, 0.975], axis=0)
    told = np.concatenate([gained(np.arange(len(names)))[None], ends])
    return {name: told[:, place].tolist() for place, name in enumerate(SCORES)}


def table_of(
    rows: Sequence[dict[str, Any]], pretext: float, gained: dict[str, list[float]]
) -> str:
    """In Markdown."""
    lines = [
        "| labelled part | macro-F1 from scratch | pretrained | accuracy from scratch | "
        "pretrained |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{row[way][name]:.3f}" for name in SCORES for way in WAYS]
        lines.append(f"| {row['part']} ({row['clips']} clips) | {' | '.join(cells)} |")
    lines += ["", f"macro-F1 of the ways, on videos that were kept to validate: {pretext:.3f}"]
    for name, (mean, low, high) in gained.items():
        lines += ["", f"{name}: {mean:+.3f} (95 %: {low:+.3f} to {high:+.3f})"]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--shift", type=int, default=0)
    parser.add_argument("--pretrain", type=shlex.split, default=[], help="flags, in quotes")
    parser.add_argument("--train", type=shlex.split, default=[], help="flags, in quotes")
    parser.add_argument("--started", type=shlex.split, default=list(STARTED), help="flags")
    parser.add_argument("--output", type=Path, default=Path("runs/pretrain"))
    options = parser.parse_args(arguments)
    data, output = options.data.absolute(), options.output.absolute()
    parts = dealt(data, options.shift)
    held_out = [path for part in HELD_OUT for path in parts[part]]
    videos, weights = output / "unlabelled", output / "pretext"
    videos.mkdir(parents=True, exist_ok=True)
    labelled = [part for part in range(PARTS) if part not in HELD_OUT]
    for path in (path for part in labelled for path in parts[part]):
        link = videos / path.replace("/", "_")
        if not link.is_symlink():
            link.symlink_to(data / path)
    again = ["--resume", "auto"]
    words = ["pretrain", str(videos), *WITHOUT_LABELS, *options.pretrain]
    once(output, "pretext", [*words, "--output-dir", str(weights), *again], [weights])
    rows: list[dict[str, Any]] = []
    for part in labelled:
        table = output / f"part_{part}.csv"
        write_list(table, parts[part], held_out)
        row: dict[str, Any] = {"part": part, "clips": len(parts[part])}
        for way in WAYS:
            run = output / f"{way}_{part}"
            words = ["train", "--data.root", str(table), "--data.videos", str(data), *RECIPE]
            words += [*FEW_CLIPS, *options.train]
            if way == "pretrained":
                words += ["--model.weights", str(weights), *options.started]
            once(output, run.name, [*words, "--output-dir", str(run), *again], [run])
            row[way] = scores(run)
        rows.append(row)
        gained = gains(output, [row["part"] for row in rows])
        told = table_of(rows, scores(weights)["f1_macro"], gained)
        (output / "pretrain.md").write_text(told, encoding="utf-8")
        (output / "pretrain.json").write_text(json.dumps(rows, indent=2) + "\n")
        print(told, flush=True)
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
