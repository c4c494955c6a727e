"""Whether ``pretrain`` helps: trainings on few labelled clips from scratch, and from its weights.

``python -m tests.campaigns.pretrain DATA --folds 5 --only 1 2 3 4`` does so on class folders of
clips whose names tell their recording (seq01). Of each fold the recordings held out are in neither
training: the others' videos are pretrained on as a folder without labels, then a part of them
(``--fraction``), the same in both trainings, is trained on with labels. It prints and writes
OUT/pretrain.json and .md: macro-F1 and accuracy on the held-out recordings, and their paired
differences. ``--pretrain`` and ``--train`` end with flags for the one and for the other. Started
again it goes on where it stopped.
"""

import argparse
import csv
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from slowfast_dist.metrics.scores import classification_metrics
from slowfast_dist.runs.predictions import read_predictions
from tests.campaigns.recipes import TODAY, once
from tests.campaigns.suggest import interval

FEW_CLIPS = (
    "--optimizer.ema", "0.99", "--epochs", "64", "--evaluation.every", "64",
    "--data.num-workers", "0", "--wandb.mode", "disabled",
)  # fmt: skip
"""Behind recipes.TODAY: the preset few-clips, scored once."""

WITHOUT_LABELS = ("--data.num-workers", "0", "--wandb.mode", "disabled")
"""Of the pretraining, whose preset has the rest."""

SCORES = ("f1_macro", "accuracy")


def unlabelled(data: Path, run: Path, folder: Path) -> Path:
    """A folder of links to all videos of ``data`` but those that ``run`` was validated on, without
    the names of their classes."""
    with open(run / "split.csv", encoding="utf-8", newline="") as file:
        held_out = {row["path"] for row in csv.DictReader(file) if row["split"] == "val"}
    assert held_out
    folder.mkdir(parents=True, exist_ok=True)
    paths = sorted(path.relative_to(data).as_posix() for path in data.glob("*/*.*"))
    for path in paths:
        link = folder / path.replace("/", "_")
        if path not in held_out and not link.is_symlink():
            link.symlink_to(data / path)
    return folder


def labelled(output: Path, data: Path, name: str, fold: int, flags: Sequence[str]) -> Path:
    """The run of a fold, trained if it is not there yet; ``flags`` end with the number of folds."""
    folder = output / name
    folder.mkdir(parents=True, exist_ok=True)
    run = folder / f"fold_{fold}"
    words = [
        "cross-validate", "--data.root", str(data), *TODAY, *FEW_CLIPS, *flags, "--fold", str(fold),
        "--output-dir", str(folder), "--resume", "auto",
    ]  # fmt: skip
    once(folder, run.name, words, [run])
    return run


def scores(run: Path) -> dict[str, float]:
    """Of the clips held out, by the model of the last epoch."""
    found = read_predictions(run / "predictions" / "val_best.csv")
    hits = int((found.labels == found.predicted).sum())
    measured = classification_metrics(found.labels, found.predicted, len(found.classes), hits)
    return {name: measured[name] for name in SCORES}


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """In Markdown, with the differences' means and 95 % intervals by Student's t over folds."""
    lines = [
        "| fold | pretext F1 | F1 from scratch | F1 pretrained | accuracy from scratch | accuracy "
        "pretrained |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{row[way][name]:.3f}" for name in SCORES for way in ("scratch", "pretrained")]
        lines.append(f"| {row['fold']} | {row['pretext_f1']:.3f} | {' | '.join(cells)} |")
    for name in SCORES:
        gained = [row["pretrained"][name] - row["scratch"][name] for row in rows]
        low, high = interval(gained)
        lines += ["", f"{name}: {mean(gained):+.3f} ({low:+.3f} to {high:+.3f})"]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", help="these folds alone")
    parser.add_argument("--fraction", type=float, default=0.25, help="of the labelled clips")
    parser.add_argument("--pretrain", type=shlex.split, default=[], help="flags, in quotes")
    parser.add_argument("--train", type=shlex.split, default=[], help="flags, in quotes")
    parser.add_argument("--output", type=Path, default=Path("runs/pretrain"))
    options = parser.parse_args(arguments)
    data, output = options.data.absolute(), options.output.absolute()
    fraction = [*options.train, "--data.train-fraction", str(options.fraction)]
    fraction += ["--folds", str(options.folds)]
    rows: list[dict[str, Any]] = []
    for fold in options.only or range(1, options.folds + 1):
        scratch = labelled(output, data, "scratch", fold, fraction)
        videos = unlabelled(data, scratch, output / f"unlabelled_{fold}")
        weights = output / "pretext" / f"fold_{fold}"
        weights.parent.mkdir(exist_ok=True)
        words = [
            "pretrain", str(videos), *WITHOUT_LABELS, *options.pretrain, "--output-dir",
            str(weights), "--resume", "auto",
        ]  # fmt: skip
        once(weights.parent, weights.name, words, [weights])
        started = ["--model.weights", str(weights), *fraction]
        run = labelled(output, data, "pretrained", fold, started)
        learned = read_predictions(weights / "predictions" / "val_best.csv")
        hits = int((learned.labels == learned.predicted).sum())
        told = classification_metrics(
            learned.labels, learned.predicted, len(learned.classes), hits
        )
        rows.append({
            "fold": fold, "pretext_f1": told["f1_macro"], "scratch": scores(scratch),
            "pretrained": scores(run),
        })  # fmt: skip
        table = table_of(rows)
        (output / "pretrain.md").write_text(table, encoding="utf-8")
        (output / "pretrain.json").write_text(json.dumps(rows, indent=2) + "\n")
        print(table, flush=True)
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
